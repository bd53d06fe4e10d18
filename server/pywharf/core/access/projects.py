"""The set of projects that access entries are about, as patterns of normalized names."""

import functools
from collections.abc import Iterable, Sequence

from pywharf.core.names import ProjectName
from pywharf.core.policy.name_patterns import NamePatterns, normalized_pattern


class PatternSet:
    """The patterns of one entry. They are compiled when the first name is compared."""

    __slots__ = ("__dict__", "_hash", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = frozenset(map(normalized_pattern, patterns))
        self._hash = hash(self.patterns)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PatternSet) and self.patterns == other.patterns)

    @functools.cached_property
    def compiled(self) -> NamePatterns[None]:
        """Return the patterns in a form that finds those of a name quickly."""
        return NamePatterns((pattern, None) for pattern in self.patterns)


class ProjectFilter:
    """Some of a repo's projects: those that any of several sets of patterns matches. Hashable, and cheap to compare."""

    __slots__ = ("everything", "sets")

    def __init__(self, sets: Iterable[PatternSet] = ()) -> None:
        self.sets = frozenset(sets)
        self.everything = any("*" in one.patterns for one in self.sets)
        """Whether each project is one of them."""

    def allows(self, name: ProjectName) -> bool:
        """Return whether a project is one of them."""
        return self.everything or any(one.compiled.match(name) for one in self.sets)

    def of(self, names: Sequence[ProjectName]) -> tuple[ProjectName, ...]:
        """Return those of the names that are allowed, in their order."""
        if self.everything:
            return tuple(names)
        return tuple(name for name in names if self.allows(name))

    def __or__(self, other: "ProjectFilter") -> "ProjectFilter":
        return ProjectFilter(self.sets | other.sets)

    def __hash__(self) -> int:
        return hash(self.sets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProjectFilter) and self.sets == other.sets

    def __repr__(self) -> str:
        return f"ProjectFilter({sorted(pattern for one in self.sets for pattern in one.patterns)})"


ALL_PROJECTS = ProjectFilter([PatternSet(["*"])])
NO_PROJECTS = ProjectFilter()
