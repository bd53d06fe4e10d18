"""The policies that a configuration names: read their file, check its digest, and compile them for each repo."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pywharf.config.repo_config import ServerConfig
from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.policy.document import parse_document
from pywharf.core.policy.evaluation import CompiledDocument, RepoPolicies
from pywharf.core.policy.model import Policy, PolicyDocument
from pywharf.serving.config_files import read_document
from pywharf.serving.definitions import NO_POLICIES, ServedPolicies
from pywharf.serving.watched_files import Seen

_WHAT = "policies_file"


class PolicyFile:
    """The reader of the policies. It keeps what it compiled last, so that an unchanged policy keeps its pages."""

    def __init__(self) -> None:
        self._numbers: Mapping[Policy, int] = {}
        """A number for each policy that was read last; equal ones keep theirs."""
        self._next_number = itertools.count()
        self._compiled: Mapping[tuple[int, ...], RepoPolicies] = {}
        """By the numbers of the policies about a repo; most repos of a server have the same."""
        self._document = PolicyDocument()
        self._document_digest = ""

    def load(self, parsed: ServerConfig, seen: Seen) -> ServedPolicies:
        """Read and compile the policies that the configuration names. Blocks.

        Raises IncompleteConfigError if they have not arrived yet, InvalidConfigError if they cannot be used.
        """
        path = parsed.policies_file
        if path is None:
            return NO_POLICIES
        text, digest = read_document(path, _WHAT, "The policies", parsed.policies_digest, seen)
        if digest != self._document_digest:
            self._document, self._document_digest = _parse(text, path), digest
        return ServedPolicies(self._document, digest, self._compile(self._document, parsed.repos))

    def _compile(self, document: PolicyDocument, repos: Iterable[RepoName]) -> Mapping[RepoName, RepoPolicies]:
        """Return the compiled policies of each repo that has any; the same object as long as they are the same."""
        new = CompiledDocument(document)
        self._numbers = {policy: self._number(policy) for policy in document.policies}
        about_all: list[int] = []
        about_one: defaultdict[RepoName, list[int]] = defaultdict(list)
        for policy, number in self._numbers.items():
            if policy.repos is None:
                about_all.append(number)
            for repo in set(policy.repos or ()):
                about_one[repo].append(number)
        compiled: dict[tuple[int, ...], RepoPolicies] = {}
        found: dict[RepoName, RepoPolicies] = {}
        for repo in repos:
            numbers = tuple(sorted((*about_all, *about_one.get(repo, ()))))
            if not numbers:
                continue
            if numbers not in compiled:
                known = self._compiled.get(numbers)
                compiled[numbers] = known if known is not None else new.of(repo)
            found[repo] = compiled[numbers]
        self._compiled = compiled
        return found

    def _number(self, policy: Policy) -> int:
        known = self._numbers.get(policy)
        return known if known is not None else next(self._next_number)


def _parse(text: str, path: str) -> PolicyDocument:
    try:
        document = parse_document(text.encode())
        for policy in document.policies:
            _check_repos(policy)
    except (InvalidConfigError, InvalidNameError) as error:
        raise InvalidConfigError(f"{_WHAT}, the file {path}: {error}") from None
    return document


def _check_repos(policy: Policy) -> None:
    """Refuse a name that no repo can have in this form: the policy would apply to nothing."""
    for name in policy.repos or ():
        if parse_repo_name(name) != name:
            raise InvalidConfigError(f"The policy {policy.name!r} names the repo {name!r}; write {name.lower()!r}.")
