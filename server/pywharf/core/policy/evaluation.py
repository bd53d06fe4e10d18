"""Decide which files of a project a repo shows: a pure function of policies, files, time and advisories."""

import math
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from pywharf.core.filenames import version_of
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.advisories import Advisories
from pywharf.core.policy.compiled import PolicyGroup, ProjectRules, exception_to
from pywharf.core.policy.model import Cooldown, PolicyDocument, Rule
from pywharf.core.policy.upload_times import LAST_SECOND, unix_seconds

FirstSeen = Callable[[File], float | None]
"""Return the Unix seconds when a file was first seen, or None if that is not known."""

_STRICTNESS = {"active": 0, "deprecated": 1, "archived": 2, "quarantined": 3}


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
        self._block_malware = any(group.blocks_malware for group in self._groups)

    def concerns(self, name: ProjectName, *, foreign: bool, advisories: Advisories | None = None) -> bool:
        """Return whether an evaluation could change anything about a project.

        `foreign`: its files are the extra index's. Without `advisories` a policy that blocks malware concerns every
        project.
        """
        if self._block_malware and (advisories is None or advisories.concerns(name)):
            return True
        return any(group.concerns(name, foreign=foreign) for group in self._groups)

    def hides_whole_projects(
        self, names: Iterable[ProjectName], advisories: Advisories | None = None
    ) -> tuple[ProjectName, ...]:
        """Return the own projects that may have no file left, in their order. Evaluate them to know."""
        names = tuple(names)
        found = {name for group in self._groups for name in group.hiding(names)}
        if self._block_malware and advisories is not None:
            found.update(name for name in names if advisories.concerns(name))
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
        malware = advisories if self._block_malware and advisories is not None and advisories.concerns(name) else None
        rules = [
            found
            for group in self._groups
            for found in group.rules(name, foreign=foreign, has_advisories=malware is not None)
        ]
        if not rules:
            return Verdict(project)
        return _Evaluation(project, rules, now, malware, first_seen).verdict()


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


class _Claim(msgspec.Struct, frozen=True):
    """A rule that withholds a file from one moment until another."""

    start: float
    end: float
    withheld: Withheld

    @property
    def rank(self) -> tuple[float, str, str, str]:
        """The order of the claims to a file: of those that hold, the smallest is the one that is shown."""
        return (-self.end, self.withheld.policy, self.withheld.rule, self.withheld.reason)


class _Evaluation:
    """The evaluation of one project at one moment."""

    def __init__(
        self,
        project: Project,
        rules: list[ProjectRules],
        now: float,
        malware: Advisories | None,
        first_seen: FirstSeen | None,
    ) -> None:
        self._project = project
        self._rules = rules
        self._now = now
        self._malware = malware
        self._first_seen = first_seen
        self._needs_versions = malware is not None or any(rules.name_versions for rules in rules)
        self._changes: list[float] = []

    def verdict(self) -> Verdict:
        """Evaluate every file, and the status."""
        shown: list[File] = []
        withheld: list[Withheld] = []
        for file in self._project.files:
            version = version_of(file.filename, self._project.name) if self._needs_versions else None
            claim = self._decisive(list(self._claims(file, version)))
            if claim is None:
                shown.append(self._yanked(file, version))
            else:
                withheld.append(claim.withheld)
        project = self._with_status()
        if withheld or shown != list(self._project.files):
            project = replace(project, files=tuple(shown))
        return Verdict(project, tuple(withheld), min(self._changes, default=None))

    def _decisive(self, claims: list[_Claim]) -> _Claim | None:
        """Return the claim that withholds a file now, and remember when that changes."""
        if not claims:
            return None
        decisive = min((c for c in claims if c.start <= self._now), key=lambda c: c.rank, default=None)
        moments = [c.start for c in claims if c.start > self._now and (decisive is None or c.rank < decisive.rank)]
        if decisive is not None and decisive.end != math.inf:
            moments.append(decisive.end)
        self._changes += moments
        return decisive

    def _claims(self, file: File, version: str | None) -> Iterator[_Claim]:
        """Yield the claims to a file that hold now or later."""
        for rules in self._rules:
            for rule, reason, end in self._rules_that_withhold(rules, file, version):
                start = self._loosened_until(rules, rule, file, version)
                if start < end:
                    until = None if end == math.inf else end
                    yield _Claim(start, end, Withheld(file.filename, rules.policy, rule, reason, until))

    def _rules_that_withhold(
        self, rules: ProjectRules, file: File, version: str | None
    ) -> Iterator[tuple[Rule, str, float]]:
        """Yield rule, reason and end, as if the policy had no exceptions."""
        if rules.cooldown is not None:
            end, reason = self._matures(rules.cooldown, file)
            if end > self._now:
                yield "Cooldown", reason, end
        if not rules.is_allowed:
            yield "AllowOnly", "the policy does not list the project", math.inf
        denied = rules.find("Deny", file, version)
        if denied is not None:
            yield "Deny", denied.reason, math.inf
        quarantined = next((s for s in rules.statuses if s.status == "quarantined"), None)
        if quarantined is not None:
            yield "Status", quarantined.reason or "the project is quarantined", math.inf
        if rules.blocks_malware and self._malware is not None:
            found = self._malware.matching(self._project.name, version)
            malware = min((advisory.id for advisory in found if advisory.is_malware), default=None)
            if malware is not None:
                yield "Advisory", f"{malware} reports it as malware", math.inf

    def _matures(self, cooldown: Cooldown, file: File) -> tuple[float, str]:
        """Return when a file is old enough, in Unix seconds, and why it is not before."""
        uploaded = None if file.upload_time is None else unix_seconds(file.upload_time)
        reason = f"younger than {_duration(cooldown.minimum_age_s)}"
        if uploaded is None:
            missing = "its upload time is missing" if file.upload_time is None else "its upload time cannot be read"
            match cooldown.missing_time:
                case "Allow":
                    return -math.inf, ""
                case "Deny":
                    return math.inf, missing
                case "FirstSeen":
                    uploaded = None if self._first_seen is None else self._first_seen(file)
                    if uploaded is None:
                        return math.inf, f"{missing}, and when it was first seen is not known"
                    reason = f"{missing}, and it was first seen less than {_duration(cooldown.minimum_age_s)} ago"
        end = uploaded + cooldown.minimum_age_s
        return (end if end <= LAST_SECOND else math.inf), reason

    def _loosened_until(self, rules: ProjectRules, rule: Rule, file: File | None, version: str | None) -> float:
        """Return the end of the policy's exception to one of its rules, or minus infinity if none holds now."""
        exception = rules.find(exception_to(rule), file, version)
        return exception.until if exception is not None and exception.until > self._now else -math.inf

    def _yanked(self, file: File, version: str | None) -> File:
        """Return a shown file as policies yank it, unless the storage yanked it."""
        if file.yanked is not None:
            return file
        reasons: list[tuple[bool, str, str]] = []
        for rules in self._rules:
            yank = rules.find("Yank", file, version)
            if yank is not None and not self._is_loosened(rules, "Yank", file, version):
                reasons.append((not yank.reason, rules.policy, yank.reason))
        return replace(file, yanked=min(reasons)[-1]) if reasons else file

    def _with_status(self) -> Project:
        """Return the project with the strictest status of the storage and the policies."""
        own = _STRICTNESS.get(self._project.status, 0)
        found = [
            (-_STRICTNESS[status.status], not status.reason, rules.policy, status.reason, status.status)
            for rules in self._rules
            for status in rules.statuses
            if _STRICTNESS[status.status] > own and not self._is_loosened(rules, "Status", None, None)
        ]
        if not found:
            return self._project
        *_, reason, status = min(found)
        return replace(self._project, status=status, status_reason=reason or None)

    def _is_loosened(self, rules: ProjectRules, rule: Rule, file: File | None, version: str | None) -> bool:
        """Return whether an exception holds now, and remember when it ends."""
        until = self._loosened_until(rules, rule, file, version)
        if until > self._now:
            self._changes.append(until)
        return until > self._now


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def _duration(seconds: int) -> str:
    """Write a duration in the largest unit that needs no fraction.

    >>> _duration(604_800)
    '7d'
    """
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"
