"""The condition CredentialsStrong of a repo: whether its clients' secrets are hard to guess, and its own."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pywharf.core.access.secret_strength import Finding as Weak
from pywharf.core.access.secret_strength import RepoSecrets as Judged
from pywharf.core.access.secret_strength import weak_secrets
from pywharf.core.secret_text import secret_text
from pywharf_operator.render.resolve.findings import Finding
from pywharf_operator.render.resolve.secret_refs import RepoSecrets
from pywharf_operator.spec import ObjectKey


def weaknesses(repos: Mapping[ObjectKey, RepoSecrets]) -> dict[ObjectKey, Finding]:
    """Return the condition of each repo whose secrets are weak. No finding holds a secret, or tells its length.

    Only secrets of one namespace are compared with each other: otherwise a tenant could try guesses of another's.
    """
    judged = {key: _judged(key, secrets) for key, secrets in repos.items()}
    users: defaultdict[tuple[str, str], set[ObjectKey]] = defaultdict(set)
    for key, one in judged.items():
        for secret in (one.read, one.write):
            if secret:
                users[key.namespace, secret].add(key)
    sharing = {key for keys in users.values() if len(keys) > 1 for key in keys}
    found: defaultdict[ObjectKey, list[Weak]] = defaultdict(list)
    for weak in weak_secrets(judged[key] for key in sorted(sharing)):
        found[ObjectKey(weak.namespace, weak.name)].append(weak)
    for key in judged.keys() - sharing:
        found[key] += _alone(judged[key])
    return {key: _finding(weak) for key, weak in found.items() if weak}


@functools.lru_cache(maxsize=8192)
def _alone(repo: Judged) -> tuple[Weak, ...]:
    """Return what is wrong with the secrets of a repo that shares none. To judge thousands of repos takes a second."""
    return tuple(weak_secrets([repo]))


def _judged(key: ObjectKey, secrets: RepoSecrets) -> Judged:
    read, write = (None if one is None else secret_text(one) for one in (secrets.read, secrets.write))
    return Judged(namespace=key.namespace, name=key.name, read=read, write=write)


def _finding(weak: Iterable[Weak]) -> Finding:
    first, *rest = weak
    message = " ".join(one.message for one in (first, *rest))
    return Finding(status=False, reason=f"Secret{first.weakness}", message=message)
