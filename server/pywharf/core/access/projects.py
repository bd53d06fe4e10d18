"""The set of projects that access entries are about, as patterns of normalized names."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pywharf.core.names import ProjectName
from pywharf.core.policy.name_patterns import NamePatterns, normalized_pattern


class RepoProjects:
    """The projects that each entry of a repo is about, by the entry's number.

    The patterns of all entries are compiled together, once, so that a name is compared with those of any number of
    entries in one step, and choosing entries costs nothing more.
    """

    __slots__ = ("_compiled", "_patterns")

    def __init__(self, entries: Iterable[Iterable[str]]) -> None:
        self._patterns = [frozenset(map(normalized_pattern, one)) for one in entries]
        self._compiled = NamePatterns(
            (pattern, number)
            for number, patterns in enumerate(self._patterns)
            if "*" not in patterns
            for pattern in patterns
        )

    def of(self, numbers: Collection[int]) -> "ProjectFilter":
        """Return the projects of the entries with these numbers together."""
        patterns = frozenset[str]().union(*(self._patterns[number] for number in numbers))
        return ProjectFilter(patterns, {self._compiled: frozenset(numbers)})


class ProjectFilter:
    """Some of a repo's projects: those of several of its entries. Hashable; equal if the patterns are."""

    __slots__ = ("_hash", "_parts", "everything", "patterns")

    def __init__(self, patterns: frozenset[str], parts: Mapping[NamePatterns[int], frozenset[int]]) -> None:
        """`parts` has the compiled patterns of repos, each with the numbers of entries. Only a sum may have two."""
        self.patterns = patterns
        self.everything = "*" in patterns
        """Whether each project is one of them."""
        self._parts = parts
        self._hash = hash(patterns)

    def allows(self, name: ProjectName) -> bool:
        """Return whether a project is one of them."""
        if self.everything:
            return True
        return any(not numbers.isdisjoint(compiled.matching(name)) for compiled, numbers in self._parts.items())

    def of(self, names: Sequence[ProjectName]) -> tuple[ProjectName, ...]:
        """Return those of the names that are allowed, in their order."""
        if self.everything:
            return tuple(names)
        return tuple(name for name in names if self.allows(name))

    def __or__(self, other: "ProjectFilter") -> "ProjectFilter":
        parts = dict(self._parts)
        for compiled, numbers in other._parts.items():
            parts[compiled] = parts.get(compiled, frozenset()) | numbers
        return ProjectFilter(self.patterns | other.patterns, parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ProjectFilter) and self.patterns == other.patterns)

    def __repr__(self) -> str:
        return f"ProjectFilter({sorted(self.patterns)})"


ALL_PROJECTS = RepoProjects([["*"]]).of([0])
NO_PROJECTS = RepoProjects([]).of([])
