"""The policies of a server, compiled to find fast the rules that are about a project."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, get_args

from pywharf.core.names import ProjectName
from pywharf.core.policy.model import Cooldown, Policy, Rule, Selected, SetStatus
from pywharf.core.policy.name_patterns import NamePatterns, normalized_pattern
from pywharf.core.policy.selecting import FileRule, FileRules, by_order


class _Entry(NamedTuple):
    """A rule, or the rules about files, of the policy with that number. `kind` is a rule's, or `_exception_to` one."""

    policy: int
    kind: str
    rule: FileRules | Cooldown | SetStatus


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
        self._of_files: dict[str, list[FileRules]] = {}
        for _, kind, rule in entries:
            if isinstance(rule, FileRules):
                self._of_files.setdefault(kind, []).append(rule)
            elif isinstance(rule, Cooldown):
                self.cooldown = rule
            else:
                self.statuses.append(rule)

    def of_files(self, kind: str) -> Sequence[FileRules]:
        """Return the rules about files of a kind: `Deny` or `Yank`."""
        return self._of_files.get(kind, ())

    def exceptions(self, rule: Rule) -> Sequence[FileRules]:
        """Return the policy's exceptions to a rule. A status has only those that are about the whole project."""
        if rule == "Status":
            exception = self.exception_to_status()
            return () if exception is None else (FileRules([exception]),)
        return self._of_files.get(_exception_to(rule), ())

    def exception_to_status(self) -> FileRule | None:
        """Return the policy's exception to its statuses that counts."""
        found = [rules.about_every_file for rules in self._of_files.get(_exception_to("Status"), ())]
        return min((rule for rule in found if rule is not None), key=by_order, default=None)


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

    def effort(self, name: ProjectName) -> int:
        """Return how many specifiers and rules an evaluation tries one by one; a feed of advisories counts as one."""
        filed = (self._hiding, self._marking, self._cooldowns, self._exceptions)
        entries = (entry for patterns in filed for entry in patterns.matching(name))
        tried = sum(entry.rule.effort if isinstance(entry.rule, FileRules) else 1 for entry in entries)
        return tried + len(self._listed) + len(self._blocking)

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


def _of_files(number: int, kind: str, rules: Iterable[tuple[Selected, FileRule]]) -> _Filed:
    """Arrange the rules of a policy and kind that are about the same projects together."""
    by_pattern: dict[str, list[FileRule]] = {}
    for selected, rule in rules:
        by_pattern.setdefault(normalized_pattern(selected.project), []).append(rule)
    return [(pattern, _Entry(number, kind, FileRules(same))) for pattern, same in by_pattern.items()]


def _denials(number: int, policy: Policy) -> _Filed:
    return _of_files(number, "Deny", ((deny, FileRule.of(deny, (deny.reason,), deny.reason)) for deny in policy.deny))


def _yanks(number: int, policy: Policy) -> _Filed:
    """Return the yanks. If several concern a file, one that gives a reason counts."""
    yanks = ((yank, FileRule.of(yank, (not yank.reason, yank.reason), yank.reason)) for yank in policy.yank)
    return _of_files(number, "Yank", yanks)


def _exceptions(number: int, policy: Policy) -> _Filed:
    """Return the exceptions, once for each rule that they loosen. If several concern a file, the longest counts."""
    made = [(e, FileRule.of(e, (-e.until, e.reason), e.reason, e.until)) for e in policy.exceptions]
    filed: _Filed = []
    for rule in get_args(Rule):
        filed += _of_files(number, _exception_to(rule), ((e, compiled) for e, compiled in made if rule in e.of))
    return filed
