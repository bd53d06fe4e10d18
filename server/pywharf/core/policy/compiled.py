"""The policies of a server, compiled to find those rules fast that concern a project."""

from collections.abc import Iterable, Iterator

import msgspec

from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.core.policy.model import Cooldown, Policy, Rule, SetStatus
from pywharf.core.policy.name_patterns import NamePatterns
from pywharf.core.policy.selecting import FileRule, FileRules

_QUARANTINED = "quarantined"


class _Entry(msgspec.Struct, frozen=True):
    """One rule, as it is found by a project's name."""

    policy: int
    kind: str
    rule: FileRule | Cooldown | SetStatus


class ProjectRules:
    """The rules of one policy that are about one project."""

    def __init__(self, policy: str, entries: Iterable[_Entry], *, is_allowed: bool, blocks_malware: bool) -> None:
        self.policy = policy
        self.is_allowed = is_allowed
        """Whether the policy's list of upstream projects has this one, or is missing."""
        self.blocks_malware = blocks_malware
        self.cooldown: Cooldown | None = None
        self.statuses: list[SetStatus] = []
        files: dict[str, list[FileRule]] = {}
        for entry in entries:
            match entry.rule:
                case FileRule() as rule:
                    files.setdefault(entry.kind, []).append(rule)
                case Cooldown() as cooldown:
                    self.cooldown = cooldown
                case SetStatus() as status:
                    self.statuses.append(status)
        self._files = {kind: FileRules(rules) for kind, rules in files.items()}

    @property
    def name_versions(self) -> bool:
        """Whether a rule names versions, so that those of the files must be known."""
        return any(rules.name_versions for rules in self._files.values())

    def find(self, kind: str, file: File | None, version: str | None) -> FileRule | None:
        """Return the rule about a file that counts, or None.

        `kind`: `Deny`, `Yank`, or `exception_to` a rule. Without a file: the rule about the whole project.
        """
        rules = self._files.get(kind)
        return None if rules is None else rules.find("" if file is None else file.sha256, version)


def exception_to(rule: Rule) -> str:
    """Return the kind of the exceptions to a rule."""
    return f"exception to {rule}"


class PolicyGroup:
    """Policies that are about the same repos."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._names: list[str] = []
        self._allowed: list[tuple[int, NamePatterns[None]]] = []
        self._blocking: list[int] = []
        hiding: list[tuple[str, _Entry]] = []
        marking: list[tuple[str, _Entry]] = []
        cooldowns: list[tuple[str, _Entry]] = []
        exceptions: list[tuple[str, _Entry]] = []
        for number, policy in enumerate(policies):
            self._names.append(policy.name)
            if policy.allow_only is not None:
                self._allowed.append((number, NamePatterns((pattern, None) for pattern in policy.allow_only)))
            if policy.advisories == "Block":
                self._blocking.append(number)
            if (cooldown := policy.cooldown) is not None:
                cooldowns += ((pattern, _Entry(number, "Cooldown", cooldown)) for pattern in cooldown.projects)
            for deny in policy.deny:
                rule = FileRule.of(deny, (deny.reason,), deny.reason)
                hiding.append((deny.project, _Entry(number, "Deny", rule)))
            for yank in policy.yank:
                rule = FileRule.of(yank, (not yank.reason, yank.reason), yank.reason)
                marking.append((yank.project, _Entry(number, "Yank", rule)))
            for status in policy.status:
                target = hiding if status.status == _QUARANTINED else marking
                target.append((status.project, _Entry(number, "Status", status)))
            for exception in policy.exceptions:
                rule = FileRule.of(exception, (-exception.until,), exception.reason, exception.until)
                exceptions += (
                    (exception.project, _Entry(number, exception_to(kind), rule)) for kind in set(exception.of)
                )
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
        return foreign and (self._cooldowns.match(name) or any(not allowed.match(name) for _, allowed in self._allowed))

    def hiding(self, names: Iterable[ProjectName]) -> list[ProjectName]:
        """Return the projects of which a rule may withhold own files; advisories do not count."""
        return self._hiding.matched(names)

    def rules(self, name: ProjectName, *, foreign: bool, has_advisories: bool) -> Iterator[ProjectRules]:
        """Yield the rules about a project, one for each policy that has some."""
        found: dict[int, list[_Entry]] = {}
        for entry in self._entries(name, foreign=foreign):
            found.setdefault(entry.policy, []).append(entry)
        not_allowed = {number for number, allowed in self._allowed if foreign and not allowed.match(name)}
        blocking = set(self._blocking) if has_advisories else set()
        numbers = found.keys() | not_allowed | blocking
        if not numbers:
            return
        for entry in self._exceptions.matching(name):
            if entry.policy in numbers:
                found.setdefault(entry.policy, []).append(entry)
        for number in numbers:
            yield ProjectRules(
                self._names[number],
                found.get(number, ()),
                is_allowed=number not in not_allowed,
                blocks_malware=number in blocking,
            )

    def _entries(self, name: ProjectName, *, foreign: bool) -> list[_Entry]:
        found = self._hiding.matching(name) + self._marking.matching(name)
        return found + self._cooldowns.matching(name) if foreign else found
