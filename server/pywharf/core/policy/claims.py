"""Collect the claims of policies to withhold files: each names a rule, and from when until when it holds."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from pywharf.core.model import File, Project
from pywharf.core.policy.advisories import Advisories
from pywharf.core.policy.compiled import ProjectRules
from pywharf.core.policy.model import Cooldown, Rule
from pywharf.core.policy.selecting import ProjectFiles
from pywharf.core.policy.upload_times import LAST_SECOND, unix_seconds

FirstSeen = Callable[[File], float | None]
"""Return the Unix seconds when a file was first seen, or None if that is not known."""

_UNREADABLE = "its version cannot be read, so it may be one that is withheld"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Claim(NamedTuple):
    """A rule withholds a file. Of several that hold, the smallest is the one that is shown: the latest end first."""

    minus_end: float
    """Unix seconds of the end, negated; minus infinity: without end."""
    policy: str
    rule: Rule
    reason: str
    start: float
    """Unix seconds when a policy's exception ends; minus infinity: no exception holds now."""

    @property
    def end(self) -> float:
        """Unix seconds; infinity: without end."""
        return -self.minus_end


class Claims:
    """Finds the claims to the files of one project, as of one moment."""

    def __init__(
        self,
        project: Project,
        files: ProjectFiles,
        now: float,
        malware: Advisories | None,
        first_seen: FirstSeen | None,
    ) -> None:
        """`malware`: the advisories, if any is about the project."""
        self._project = project
        self._files = files
        self._now = now
        self._malware = malware
        self._first_seen = first_seen

    def collect(self, policies: Iterable[ProjectRules]) -> Mapping[int, list[Claim]]:
        """Return the claims that hold now or later, by the position of the file."""
        found: dict[int, list[Claim]] = {}
        for rules in policies:
            for rule, reasons in self._rules(rules):
                exceptions = self._files.concerned(rules.exceptions(rule))
                for position, reason, end in reasons:
                    exception = exceptions.get(position)
                    loosened = exception is not None and exception.until > self._now
                    start = exception.until if exception is not None and loosened else -math.inf
                    if start < end:
                        found.setdefault(position, []).append(Claim(-end, rules.policy, rule, reason, start))
        return found

    def _rules(self, rules: ProjectRules) -> Iterator[tuple[Rule, Iterable[tuple[int, str, float]]]]:
        """Yield each rule with the files that it withholds but for exceptions: position, reason and end."""
        if rules.cooldown is not None:
            yield "Cooldown", self._immature(rules.cooldown)
        if not rules.is_allowed:
            yield "AllowOnly", self._all("the policy does not list the project")
        if denied := rules.of_files("Deny"):
            concerned = self._files.concerned(denied)
            reasons = {position: rule.reason for position, rule in concerned.items()}
            if any(rules.name_versions for rules in denied):
                reasons = dict.fromkeys(self._files.unreadable, _UNREADABLE) | reasons
            yield "Deny", ((position, reason, math.inf) for position, reason in reasons.items())
        quarantined = [status.reason for status in rules.statuses if status.status == "quarantined"]
        if quarantined:
            yield "Status", self._all(min(filter(None, quarantined), default="the project is quarantined"))
        if rules.blocks_malware:
            yield "Advisory", self._reported

    def _all(self, reason: str) -> Iterable[tuple[int, str, float]]:
        return ((position, reason, math.inf) for position in self._files.positions)

    def _immature(self, cooldown: Cooldown) -> Iterator[tuple[int, str, float]]:
        age = cooldown.minimum_age_s
        young = f"younger than {_duration(age)}"
        for position, file in enumerate(self._project.files):
            uploaded = None if file.upload_time is None else unix_seconds(file.upload_time)
            if uploaded is None:
                end, reason = self._without_time(cooldown, file)
            else:
                end, reason = uploaded + age, young
            if end > self._now:
                yield position, reason, end if end <= LAST_SECOND else math.inf

    def _without_time(self, cooldown: Cooldown, file: File) -> tuple[float, str]:
        """Return when a file without a readable upload time is old enough, and why it is not before."""
        reason = "its upload time is missing" if file.upload_time is None else "its upload time cannot be read"
        if cooldown.missing_time == "Allow":
            return -math.inf, reason
        if cooldown.missing_time == "Deny":
            return math.inf, reason
        seen = None if self._first_seen is None else self._first_seen(file)
        if seen is None:
            return math.inf, f"{reason}, and when it was first seen is not known"
        age = cooldown.minimum_age_s
        return seen + age, f"{reason}, and it was first seen less than {_duration(age)} ago"

    @functools.cached_property
    def _reported(self) -> list[tuple[int, str, float]]:
        """The files that advisories report as malware."""
        if self._malware is None:
            return []
        versions = self._files.versions
        ids = {version: self._malware_id(self._malware, version) for version in set(versions)}
        reasons = dict.fromkeys(self._files.unreadable, _UNREADABLE) | {
            position: f"{found} reports it as malware"
            for position, version in enumerate(versions)
            if (found := ids[version]) is not None
        }
        return [(position, reason, math.inf) for position, reason in reasons.items()]

    def _malware_id(self, malware: Advisories, version: str | None) -> str | None:
        return malware.malware_id(self._project.name, version)


def _duration(seconds: int) -> str:
    """Write a duration in the largest unit that needs no fraction.

    >>> _duration(604_800)
    '7d'
    """
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"
