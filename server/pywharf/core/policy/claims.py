"""Decide which claim of policies withholds each file of a project, and when that changes."""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pywharf.core.model import Project
from pywharf.core.policy.advisories import Advisories
from pywharf.core.policy.compiled import ProjectRules
from pywharf.core.policy.maturity import FirstSeen, Maturity
from pywharf.core.policy.model import Cooldown, Rule
from pywharf.core.policy.selecting import FileRule, ProjectFiles

_UNREADABLE = "its version cannot be read, so it may be one that is withheld"


class Claim(NamedTuple):
    """A rule withholds a file."""

    policy: str
    rule: Rule
    reason: str
    end: float
    """Unix seconds; infinity: without end."""


class Claims:
    """Decides which claims count for the files of one project, as of one moment.

    Of the claims to a file the one that ends last counts, then the first by the policy's name, then by the rule: Deny,
    Advisory, Status, AllowOnly, Cooldown. They are tried in that order, and a file that has one is not tried again. So
    memory is bounded by the files, and many policies that withhold the same files cost as much as one.
    """

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
        self._open = dict.fromkeys(files.positions)
        """The files that no claim withholds yet, in order."""
        self.deciding: dict[int, Claim] = {}
        """The claim that withholds a file now, by the file's position."""
        self.next_change = math.inf
        """Unix seconds when another claim, or none, withholds any file; infinity: never."""

    def decide(self, policies: Iterable[ProjectRules]) -> None:
        """Find `deciding` and `next_change`."""
        by_name = sorted(policies, key=lambda rules: rules.policy)
        cooldowns = [(rules, rules.cooldown) for rules in by_name if rules.cooldown is not None]
        ages = (cooldown for _, cooldown in cooldowns)
        maturity = Maturity(self._project.files, ages, self._now, self._first_seen)
        for rules in by_name:
            self._decide_endless(rules, maturity)
        for rules, cooldown in sorted(cooldowns, key=lambda pair: -pair[1].minimum_age_s):
            self._decide_young(rules, cooldown, maturity)

    def _decide_endless(self, rules: ProjectRules, maturity: Maturity) -> None:
        if not self._open:
            return
        for rule, reasons in self._endless(rules, maturity):
            found = [(position, reason) for position, reason in reasons if position in self._open]
            exceptions = self._files.concerned(rules.exceptions(rule)) if found else {}
            for position, reason in found:
                if not self._is_loosened(exceptions.get(position), math.inf):
                    self._withhold(position, Claim(rules.policy, rule, reason, math.inf))

    def _decide_young(self, rules: ProjectRules, cooldown: Cooldown, maturity: Maturity) -> None:
        """Decide on the files that will be old enough. Of the cooldowns that end the largest comes first."""
        exceptions = self._files.concerned(rules.exceptions("Cooldown")) if self._open else {}
        for position in [*self._open]:
            end = maturity.end(position, cooldown)
            if end == -math.inf:
                if maturity.is_shared(position, cooldown):
                    del self._open[position]
            # A file that is never old enough is open here only because of an exception, which counts already.
            elif end != math.inf and not self._is_loosened(exceptions.get(position), end):
                reason = maturity.reason(position, cooldown)
                self._withhold(position, Claim(rules.policy, "Cooldown", reason, end))

    def _is_loosened(self, exception: FileRule | None, end: float) -> bool:
        """Return whether an exception holds now, and remember when its end lets a claim hold."""
        if exception is None or exception.until <= self._now:
            return False
        if exception.until < end:
            self.next_change = min(self.next_change, exception.until)
        return True

    def _withhold(self, position: int, claim: Claim) -> None:
        del self._open[position]
        self.deciding[position] = claim
        self.next_change = min(self.next_change, claim.end)

    def _endless(self, rules: ProjectRules, maturity: Maturity) -> Iterator[tuple[Rule, Iterable[tuple[int, str]]]]:
        """Yield the rules of a policy in order, each with the files that it withholds without end, and why."""
        if denied := rules.of_files("Deny"):
            concerned = self._files.concerned(denied)
            reasons = {position: rule.reason for position, rule in concerned.items()}
            if any(rules.name_versions for rules in denied):
                reasons = dict.fromkeys(self._files.unreadable, _UNREADABLE) | reasons
            yield "Deny", reasons.items()
        if rules.blocks_malware:
            yield "Advisory", self._reported
        quarantined = [status.reason for status in rules.statuses if status.status == "quarantined"]
        if quarantined:
            yield "Status", self._all(min(filter(None, quarantined), default="the project is quarantined"))
        if not rules.is_allowed:
            yield "AllowOnly", self._all("the policy does not list the project")
        if rules.cooldown is not None:
            yield "Cooldown", maturity.endless(rules.cooldown)

    def _all(self, reason: str) -> list[tuple[int, str]]:
        return [(position, reason) for position in self._open]

    @functools.cached_property
    def _reported(self) -> list[tuple[int, str]]:
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
        return list(reasons.items())

    def _malware_id(self, malware: Advisories, version: str | None) -> str | None:
        return malware.malware_id(self._project.name, version)
