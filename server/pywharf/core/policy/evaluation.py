"""Decide which files of a project a repo shows: a pure function of policies, files, time and advisories."""

import math
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from pywharf.core.model import Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.advisories import Advisories
from pywharf.core.policy.claims import Claim, Claims
from pywharf.core.policy.compiled import PolicyGroup
from pywharf.core.policy.maturity import FirstSeen
from pywharf.core.policy.model import PolicyDocument, Rule
from pywharf.core.policy.overlay import Overlay
from pywharf.core.policy.selecting import ProjectFiles


class Withheld(msgspec.Struct, frozen=True, gc=False):
    """A file that is not shown, and why."""

    filename: str
    policy: str
    """`namespace/name` of the policy."""
    rule: Rule
    reason: str
    """Possibly empty; otherwise the end of a sentence without its full stop, unless a user wrote it."""
    until: float | None
    """Unix seconds; None: without end."""


class Verdict(msgspec.Struct, frozen=True):
    """What policies make of a project. It holds from the time of the evaluation until just before `next_change`.

    A clock that was set back invalidates it as well: keep the time of the evaluation with it.
    """

    project: Project
    """The project with the files that are shown. Yanked files and the status are overlaid."""
    withheld: tuple[Withheld, ...] = ()
    """In the order of the project's files."""
    next_change: float | None = None
    """Unix seconds at which the verdict changes; None: it does not change by itself."""


class RepoPolicies:
    """The policies about one repo, compiled. They never change, so they may be shared by threads."""

    def __init__(self, groups: Iterable[PolicyGroup] = ()) -> None:
        self._groups = tuple(groups)
        self.blocks_malware = any(group.blocks_malware for group in self._groups)
        """Whether a policy needs advisories: without them its answers are those of a server without a feed."""

    def concerns(self, name: ProjectName, *, foreign: bool, advisories: Advisories | None = None) -> bool:
        """Return whether an evaluation could change anything about a project.

        `foreign`: its files are the extra index's. Without `advisories` a policy that blocks malware concerns every
        project.
        """
        if self.blocks_malware and (advisories is None or advisories.concerns_malware(name)):
            return True
        return any(group.concerns(name, foreign=foreign) for group in self._groups)

    def effort(self, name: ProjectName) -> int:
        """Return how many specifiers and rules an evaluation of the project tries one by one, each for all files."""
        return sum(group.effort(name) for group in self._groups)

    def hides_whole_projects(
        self, names: Iterable[ProjectName], advisories: Advisories | None = None
    ) -> tuple[ProjectName, ...]:
        """Return the own projects that may have no file left, in their order. Evaluate them to know."""
        names = tuple(names)
        found = {name for group in self._groups for name in group.hiding(names)}
        if self.blocks_malware and advisories is not None:
            found.update(name for name in names if advisories.concerns_malware(name))
        return tuple(name for name in names if name in found) if found else ()

    def evaluate(
        self,
        project: Project,
        *,
        foreign: bool,
        now: float,
        advisories: Advisories | None = None,
        first_seen: FirstSeen | None = None,
    ) -> Verdict:
        """Decide which files are shown.

        `foreign`: the files are the extra index's. `now` is in Unix seconds. `advisories`: None, if the server has no
        feed. `first_seen`: None, if nothing remembers it.
        """
        name = project.name
        malware = (
            advisories if self.blocks_malware and advisories is not None and advisories.concerns_malware(name) else None
        )
        rules = [
            found
            for group in self._groups
            for found in group.rules(name, foreign=foreign, has_advisories=malware is not None)
        ]
        if not rules:
            return Verdict(project)
        files = ProjectFiles(project, foreign=foreign)
        claims = Claims(project, files, now, malware, first_seen)
        claims.decide(rules)
        return _verdict(project, files, claims, Overlay(rules, now))


def compile_policies(document: PolicyDocument, repo: RepoName) -> RepoPolicies:
    """Compile the policies of one repo. For many repos of one document use `CompiledDocument`."""
    return CompiledDocument(document).of(repo)


class CompiledDocument:
    """The policies of a server, compiled once for all repos."""

    def __init__(self, document: PolicyDocument) -> None:
        by_repos: dict[frozenset[RepoName] | None, list[int]] = {}
        for number, policy in enumerate(document.policies):
            repos = None if policy.repos is None else frozenset(policy.repos)
            by_repos.setdefault(repos, []).append(number)
        self._groups = [
            (repos, PolicyGroup(document.policies[number] for number in numbers)) for repos, numbers in by_repos.items()
        ]

    def of(self, repo: RepoName) -> RepoPolicies:
        """Return the policies of one repo."""
        return RepoPolicies(group for repos, group in self._groups if repos is None or repo in repos)


def _verdict(project: Project, files: ProjectFiles, claims: Claims, overlay: Overlay) -> Verdict:
    """Evaluate a project that some rules are about."""
    withheld = claims.deciding
    yanked = overlay.yanked(project, files)
    shown = overlay.with_status(project)
    if withheld or yanked:
        remaining = (position for position in files.positions if position not in withheld)
        shown = replace(shown, files=tuple(yanked.get(position, project.files[position]) for position in remaining))
    listed = tuple(_withheld(project.files[position].filename, withheld[position]) for position in sorted(withheld))
    next_change = min(claims.next_change, overlay.next_change)
    return Verdict(shown, listed, None if next_change == math.inf else next_change)


def _withheld(filename: str, claim: Claim) -> Withheld:
    until = None if claim.end == math.inf else claim.end
    return Withheld(filename, claim.policy, claim.rule, claim.reason, until)
