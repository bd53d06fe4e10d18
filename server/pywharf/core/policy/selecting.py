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
from pywharf.core.policy.specifiers import only_version, parsed, specifier_count, specifier_set
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


class FileRules:
    """Rules of one policy and kind about the same projects, arranged by what they name."""

    def __init__(self, rules: Iterable[FileRule]) -> None:
        ordered = sorted(rules, key=by_order)
        self.by_only: dict[str, FileRule] = {}
        """Those about one version: for each version, the rule that counts."""
        for rule in ordered:
            if rule.only is not None and rule.sha256 is None:
                self.by_only.setdefault(rule.only, rule)
        self.others = tuple(rule for rule in ordered if rule.only is None or rule.sha256 is not None)
        """All the others, in order."""

    @functools.cached_property
    def name_versions(self) -> bool:
        """Whether a rule is about some versions, whatever the files' digests."""
        return bool(self.by_only) or any(rule.versions is not None and rule.sha256 is None for rule in self.others)

    @functools.cached_property
    def effort(self) -> int:
        """The specifiers, and rules without any, that are tried one by one for each project."""
        return 1 + sum(1 if rule.versions is None else specifier_count(rule.versions) for rule in self.others)

    @property
    def about_every_file(self) -> FileRule | None:
        """The rule that counts of those that name neither versions nor a digest."""
        return next((rule for rule in self.others if rule.versions is None and rule.sha256 is None), None)


class ProjectFiles:
    """A project's files, arranged so that the rules that concern them are found. A file is named by its position."""

    def __init__(self, project: Project, *, foreign: bool = False) -> None:
        """`foreign`: the files are the extra index's."""
        self._project = project
        self._foreign = foreign
        self.positions = range(len(project.files))

    @functools.cached_property
    def versions(self) -> list[str | None]:
        """The version of each file in normal form; None if it cannot be read."""
        return [version_of(file.filename, self._project.name) for file in self._project.files]

    @functools.cached_property
    def unreadable(self) -> list[int]:
        """The extra index's files whose version cannot be read. A client may read any version from such a name."""
        if not self._foreign:
            return []
        return [position for position, version in enumerate(self.versions) if version is None]

    def concerned(self, arranged: Iterable[FileRules]) -> dict[int, FileRule]:
        """Return the files that any rule concerns, each with the rule that counts."""
        found: dict[int, FileRule] = {}
        for rules in arranged if self.positions else ():
            for positions, rule in self._matches(rules):
                for position in positions:
                    other = found.get(position)
                    if other is None or rule.order < other.order:
                        found[position] = rule
        return found

    def _matches(self, rules: FileRules) -> Iterator[tuple[Iterable[int], FileRule]]:
        """Yield rules with the files that they concern; leave out rules and files for which an earlier one counts."""
        if rules.by_only:
            for only, positions in self._by_canonical.items():
                if (rule := rules.by_only.get(only)) is not None:
                    yield positions, rule
        seen = 0
        for rule in rules.others:
            if rule.sha256 is not None:
                yield self._of_digest(rule.sha256, rule.versions), rule
            elif rule.versions is not None:
                matching = self._table.matching(specifier_set(rule.versions)) & ~seen
                seen |= matching
                yield self._of_versions(matching), rule
            else:
                yield self.positions, rule
                return

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
