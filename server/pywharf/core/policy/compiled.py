"""The policies of a server, compiled to find fast the rules that are about a project."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pywharf.core.names import ProjectName
from pywharf.core.policy.model import Cooldown, Policy, Rule, SetStatus
from pywharf.core.policy.name_patterns import NamePatterns
from pywharf.core.policy.selecting import FileRule


class _Entry(NamedTuple):
    """A rule of the policy with that number. `kind` is a rule's, or `_exception_to` one."""

    policy: int
    kind: str
    rule: FileRule | Cooldown | SetStatus


_Filed = list[tuple[str, _Entry]]
"""Rules, each with the pattern of the projects that it is about."""


def _exception_to(rule: Rule) -> str:
    """Return the kind of the exceptions to a rule."""
    return f"exception to {rule}"


class ProjectRules:
    """The rules of one policy that are about one project."""

    def __init__(self, policy: str, entries: Iterable[_Entry], *, is_allowed: bool, blocks_malware: bool) -> None:
        self.policy = policy
        """`namespace/name`."""
        self.is_allowed = is_allowed
        """False: the policy lists the upstream projects that are shown, and this one is missing."""
        self.blocks_malware = blocks_malware
        self.cooldown: Cooldown | None = None
        self.statuses: list[SetStatus] = []
        self._of_files: dict[str, list[FileRule]] = {}
        for _, kind, rule in entries:
            if isinstance(rule, FileRule):
                self._of_files.setdefault(kind, []).append(rule)
            elif isinstance(rule, Cooldown):
                self.cooldown = rule
            else:
                self.statuses.append(rule)

    def of_files(self, kind: str) -> list[FileRule]:
        """Return the rules about files of a kind: `Deny` or `Yank`."""
        return self._of_files.get(kind, [])

    def exceptions(self, rule: Rule) -> list[FileRule]:
        """Return the policy's exceptions to a rule. A status has only those that are about the whole project."""
        found = self._of_files.get(_exception_to(rule), [])
        return [e for e in found if e.is_about_every_file] if rule == "Status" else found


class PolicyGroup:
    """Policies that are about the same repos."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        policies = tuple(policies)
        self._names = [policy.name for policy in policies]
        self._listed = [
            (number, NamePatterns((pattern, None) for pattern in policy.allow_only))
            for number, policy in enumerate(policies)
            if policy.allow_only is not None
        ]
        self._blocking = frozenset(number for number, policy in enumerate(policies) if policy.advisories == "Block")
        hiding: _Filed = []
        marking: _Filed = []
        cooldowns: _Filed = []
        exceptions: _Filed = []
        for number, policy in enumerate(policies):
            hiding += _denials(number, policy)
            marking += _yanks(number, policy)
            for status in policy.status:
                filed = hiding if status.status == "quarantined" else marking
                filed.append((status.project, _Entry(number, "Status", status)))
            if (cooldown := policy.cooldown) is not None:
                cooldowns += ((pattern, _Entry(number, "Cooldown", cooldown)) for pattern in cooldown.projects)
            exceptions += _exceptions(number, policy)
        self._hiding = NamePatterns(hiding)
        self._marking = NamePatterns(marking)
        self._cooldowns = NamePatterns(cooldowns)
        self._exceptions = NamePatterns(exceptions)

    @property
    def blocks_malware(self) -> bool:
        """Whether a policy withholds files because of advisories."""
        return bool(self._blocking)

    def concerns(self, name: ProjectName, *, foreign: bool) -> bool:
        """Return whether any rule is about the project; advisories do not count."""
        if self._hiding.match(name) or self._marking.match(name):
            return True
        return foreign and (self._cooldowns.match(name) or any(not listed.match(name) for _, listed in self._listed))

    def hiding(self, names: Iterable[ProjectName]) -> list[ProjectName]:
        """Return the projects of which a rule may withhold own files; advisories do not count."""
        return self._hiding.matched(names)

    def rules(self, name: ProjectName, *, foreign: bool, has_advisories: bool) -> Iterator[ProjectRules]:
        """Yield the rules about a project, one object for each policy that has some."""
        found: dict[int, list[_Entry]] = {}
        filed = (self._hiding, self._marking, self._cooldowns) if foreign else (self._hiding, self._marking)
        for patterns in filed:
            _add(found, patterns.matching(name))
        missing = {number for number, listed in self._listed if foreign and not listed.match(name)}
        blocking = self._blocking if has_advisories else frozenset()
        numbers = found.keys() | missing | blocking
        if not numbers:
            return
        _add(found, self._exceptions.matching(name))
        for number in numbers:
            yield ProjectRules(
                self._names[number],
                found.get(number, ()),
                is_allowed=number not in missing,
                blocks_malware=number in blocking,
            )


def _add(found: dict[int, list[_Entry]], entries: Iterable[_Entry]) -> None:
    for entry in entries:
        found.setdefault(entry.policy, []).append(entry)


def _denials(number: int, policy: Policy) -> _Filed:
    return [
        (deny.project, _Entry(number, "Deny", FileRule.of(deny, (deny.reason,), deny.reason))) for deny in policy.deny
    ]


def _yanks(number: int, policy: Policy) -> _Filed:
    """Return the yanks. If several concern a file, one that gives a reason counts."""
    return [
        (yank.project, _Entry(number, "Yank", FileRule.of(yank, (not yank.reason, yank.reason), yank.reason)))
        for yank in policy.yank
    ]


def _exceptions(number: int, policy: Policy) -> _Filed:
    """Return the exceptions, once for each rule that they loosen. If several concern a file, the longest counts."""
    return [
        (
            exception.project,
            _Entry(
                number,
                _exception_to(rule),
                FileRule.of(exception, (-exception.until,), exception.reason, exception.until),
            ),
        )
        for exception in policy.exceptions
        for rule in sorted(set(exception.of))
    ]
