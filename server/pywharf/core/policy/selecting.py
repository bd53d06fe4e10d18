"""Find the rule that concerns a file: rules name versions, one file's digest, or neither."""

import functools
from collections.abc import Iterable
from typing import Any

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pywharf.core.policy.model import Selected


class FileRule(msgspec.Struct, frozen=True, gc=False):
    """One rule about files of a project, compiled."""

    order: tuple[Any, ...]
    """Of several rules that concern a file, the one with the smallest order counts."""
    reason: str
    versions: str | None
    sha256: str | None
    until: float = 0.0
    """Of an exception: Unix seconds of its end."""

    @classmethod
    def of(cls, selected: Selected, order: tuple[Any, ...], reason: str, until: float = 0.0) -> "FileRule":
        """Compile a rule of a policy."""
        return cls(order, reason, selected.versions, selected.sha256, until)


class FileRules:
    """The rules of one policy and kind that are about one project."""

    def __init__(self, rules: Iterable[FileRule]) -> None:
        self._every: FileRule | None = None
        self._with_versions: list[FileRule] = []
        self._by_digest: dict[str, list[FileRule]] = {}
        for rule in sorted(rules, key=lambda rule: rule.order):
            if rule.sha256 is not None:
                self._by_digest.setdefault(rule.sha256, []).append(rule)
            elif rule.versions is not None:
                self._with_versions.append(rule)
            elif self._every is None:
                self._every = rule

    @property
    def name_versions(self) -> bool:
        """Whether any rule names versions."""
        return bool(self._with_versions) or any(
            rule.versions is not None for rules in self._by_digest.values() for rule in rules
        )

    def find(self, sha256: str, version: str | None) -> FileRule | None:
        """Return the rule that counts for a file, or None. `version` is in normal form; None: unreadable."""
        found = [rule for rule in self._with_versions if _has(rule, version)][:1]
        found += [rule for rule in self._by_digest.get(sha256, ()) if _has(rule, version)][:1]
        if self._every is not None:
            found.append(self._every)
        return min(found, key=lambda rule: rule.order, default=None)


def _has(rule: FileRule, version: str | None) -> bool:
    if rule.versions is None:
        return True
    return version is not None and specifiers(rule.versions).contains(parsed(version), prereleases=True)


@functools.lru_cache(maxsize=16_384)
def specifiers(text: str) -> SpecifierSet:
    """Parse a set of version specifiers. Raises InvalidSpecifier."""
    return SpecifierSet(text)


@functools.lru_cache(maxsize=16_384)
def parsed(version: str) -> Version:
    """Parse a version in normal form."""
    return Version(version)
