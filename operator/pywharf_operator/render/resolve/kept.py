"""Served repos whose PackageRepo is unreadable now: they are kept as they were last applied."""

import base64
import binascii
import tomllib
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.config_map import ADMIN_SECRET_KEY, CONFIG_KEY, REPOS_KEY, texts_of
from pywharf_operator.render.objects.credentials import secret_key
from pywharf_operator.render.resolve.secret_refs import DIRECT_USES, RepoSecrets, source_uses
from pywharf_operator.spec import ObjectKey

UNKNOWN: Final = ""
"""The namespace of a repo that a former version applied without recording its owner."""


class KeptRepo(msgspec.Struct, frozen=True, kw_only=True):
    """A repo of a configuration that was applied."""

    server: ObjectKey
    repo: ObjectKey
    """Its PackageRepo."""
    name: RepoName
    table: Mapping[str, Any]
    admin_table: Mapping[str, Any] | None
    secrets: RepoSecrets = RepoSecrets()

    @property
    def is_lent_identity(self) -> bool:
        """Whether it uses the cloud identity of the server's pods."""
        return self.table.get("ambient_identity") is True

    def __repr__(self) -> str:
        """Hide the secrets."""
        return f"KeptRepo({self.repo})"


def repos_applied(
    server: ObjectKey, config_map: Manifest, credentials: Iterable[Manifest], namespaces: Collection[str]
) -> tuple[KeptRepo, ...]:
    """Return the repos of these namespaces in a ConfigMap and its Secrets, as stored by the API server.

    A repo of unknown namespace is included, since it may belong to one of them. Raises ValueError for an unreadable
    ConfigMap.
    """
    try:
        texts = texts_of(config_map)
    except (OSError, EOFError, zlib.error, binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(type(error).__name__) from error
    tables, admin, owners = (tomllib.loads(texts.get(key, "")) for key in (CONFIG_KEY, ADMIN_SECRET_KEY, REPOS_KEY))
    values = _values(credentials)
    kept = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            continue  # the server's own keys
        repo = _repo(owners.get(name) or table.get("owner"), name)
        if repo.namespace in namespaces or repo.namespace == UNKNOWN:
            own = {use: values.get(secret_key(RepoName(name), use)) for use in (*DIRECT_USES, *source_uses(table))}
            sources = {use: value for use, value in own.items() if use not in DIRECT_USES and value is not None}
            kept.append(
                KeptRepo(
                    server=server,
                    repo=repo,
                    name=RepoName(name),
                    table=table,
                    admin_table=admin.get(name),
                    secrets=RepoSecrets(**{use: own[use] for use in DIRECT_USES}, sources=sources),
                )
            )
    return tuple(kept)


def _repo(owner: object, name: str) -> ObjectKey:
    namespace, slash, repo = owner.partition("/") if isinstance(owner, str) else ("", "", "")
    return ObjectKey(namespace, repo) if slash else ObjectKey(UNKNOWN, name)


def _values(credentials: Iterable[Manifest]) -> dict[str, bytes]:
    """Return every applied secret by its key."""
    found: dict[str, bytes] = {}
    # As in a pod's volume, the lowest shard wins for equal keys.
    for secret in sorted(credentials, key=lambda one: str(one["metadata"]["name"]), reverse=True):
        for key, encoded in (secret.get("data") or {}).items():
            try:
                found[key] = base64.b64decode(encoded)
            except (binascii.Error, TypeError):
                continue
    return found
