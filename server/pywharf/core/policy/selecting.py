"""Find the rules that concern the files of a project: rules name versions, one file's digest, both, or neither."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from packaging.utils import canonicalize_version

from pywharf.core.filenames import version_of
from pywharf.core.model import Project
from pywharf.core.policy.model import Selected
from pywharf.core.policy.specifiers import only_version, parsed, specifier_set
from pywharf.core.policy.version_table import VersionTable

by_order = attrgetter("order")


class FileRule(msgspec.Struct, frozen=True, gc=False):
    """One rule about files of a project, compiled."""

    order: tuple[Any, ...]
    """Of several rules that concern a file, the one with the smallest order counts."""
    reason: str
    versions: str | None
    only: str | None
    """The version that `versions` is about, in canonical form, if there is only one."""
    sha256: str | None
    until: float
    """Of an exception: Unix seconds of its end."""

    @classmethod
    def of(cls, selected: Selected, order: tuple[Any, ...], reason: str, until: float = 0.0) -> "FileRule":
        """Compile a rule of a policy."""
        only = None if selected.versions is None else _canonical_only(selected.versions)
        return cls(order, reason, selected.versions, only, selected.sha256, until)

    @property
    def is_about_every_file(self) -> bool:
        """Whether the rule names neither versions nor a digest."""
        return self.versions is None and self.sha256 is None


class ProjectFiles:
    """A project's files, arranged so that the rules that concern them are found. A file is named by its position."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.positions = range(len(project.files))

    @functools.cached_property
    def versions(self) -> list[str | None]:
        """The version of each file in normal form; None if it cannot be read."""
        return [version_of(file.filename, self._project.name) for file in self._project.files]

    def concerned(self, rules: Iterable[FileRule]) -> dict[int, FileRule]:
        """Return the files that any rule concerns, each with the rule that counts."""
        found: dict[int, FileRule] = {}
        seen = 0
        for rule in sorted(rules, key=by_order):
            if len(found) == len(self.positions):
                break  # no later rule can count
            if rule.sha256 is not None:
                concerned = self._of_digest(rule.sha256, rule.versions)
            elif rule.only is not None:
                concerned = self._by_canonical.get(rule.only, ())
            elif rule.versions is not None:
                matching = self._table.matching(specifier_set(rule.versions)) & ~seen
                seen |= matching
                concerned = self._of_versions(matching)
            else:
                concerned = self.positions
            for position in concerned:
                found.setdefault(position, rule)
        return found

    def _of_versions(self, matching: int) -> Iterator[int]:
        for text in self._table.texts(matching):
            yield from self._by_version[text]

    def _of_digest(self, sha256: str, versions: str | None) -> Iterable[int]:
        same = self._by_digest.get(sha256, ())
        return same if versions is None else self._with_versions(same, versions)

    def _with_versions(self, positions: Sequence[int], versions: str) -> Iterator[int]:
        if not positions:
            return
        matching = self._table.matching(specifier_set(versions))
        for position in positions:
            version = self.versions[position]
            if version is not None and self._table.has(matching, version):
                yield position

    @functools.cached_property
    def _by_digest(self) -> Mapping[str, Sequence[int]]:
        return _positions(file.sha256 for file in self._project.files)

    @functools.cached_property
    def _by_version(self) -> Mapping[str, Sequence[int]]:
        return _positions(self.versions)

    @functools.cached_property
    def _by_canonical(self) -> Mapping[str, Sequence[int]]:
        """The files by their version's canonical form without the local part, of which one `==` matches all."""
        return _positions(None if version is None else _canonical_public(version) for version in self.versions)

    @functools.cached_property
    def _table(self) -> VersionTable:
        return VersionTable(self._by_version)


def _positions(keys: Iterable[str | None]) -> Mapping[str, Sequence[int]]:
    """Return the positions of each key; None and empty texts are no keys."""
    found: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        if key:
            found.setdefault(key, []).append(position)
    return found


@functools.lru_cache(maxsize=16_384)
def _canonical_only(versions: str) -> str | None:
    version = only_version(specifier_set(versions))
    return None if version is None else canonicalize_version(version)


@functools.lru_cache(maxsize=16_384)
def _canonical_public(version: str) -> str:
    return canonicalize_version(parsed(version).public)
