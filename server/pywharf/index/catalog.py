"""What a server knows about one repo: the index it read, and the uploads that the index does not hold yet."""

import bisect
from collections.abc import Iterable

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.codecs import EMPTY_INDEX, Index
from pywharf.index.ports import JournalEntry
from pywharf.index.recent_projects import RecentProjects

_RECENT_FILES = 20_000


class Catalog:
    """An index with a journal over it. If both have a file, the journal's record is the newer one."""

    def __init__(self, index: Index = EMPTY_INDEX, entries: Iterable[JournalEntry] = ()) -> None:
        self.index = index
        self._added: dict[ProjectName, dict[str, File]] = {}
        self._sources: dict[ProjectName, object] = {}
        self._recent = RecentProjects(_RECENT_FILES)
        self._names: list[ProjectName] | None = None
        self._names_page: tuple[ProjectName, ...] | None = None
        for entry in entries:
            self.add(entry)

    def add(self, entry: JournalEntry) -> None:
        """Add an upload; adding it twice changes nothing."""
        added = self._added.setdefault(entry.project, {})
        if not added and entry.project not in self.index and self._names is not None:
            bisect.insort(self._names, entry.project)
            self._names_page = None
        if added.get(entry.file.filename) == entry.file:
            return
        if self._sources.pop(entry.project, None) is not None:
            added = self._added[entry.project] = dict(added)  # the old dict is part of a source that was handed out
        added[entry.file.filename] = entry.file
        self._recent.drop(entry.project)

    def entries(self) -> list[JournalEntry]:
        """Return the added uploads."""
        return [JournalEntry(name, file) for name, files in self._added.items() for file in files.values()]

    def project(self, name: ProjectName) -> Project | None:
        """Return a project, or None if neither the index nor the journal has it."""
        project = self._recent.get(name)
        if project is not None:
            return project
        project = self.index.project(name)
        added = self._added.get(name)
        if added:
            project = (project or Project(name=name)).with_files(added.values())
        if project is not None:
            self._recent.put(project)
        return project

    def source(self, name: ProjectName) -> object:
        """Return an object that compares equal while the project is unchanged, or None if there is no project."""
        source = self._sources.get(name)
        if source is None:
            indexed, added = self.index.source(name), self._added.get(name)
            if indexed is None and added is None:
                return None
            source = self._sources[name] = (indexed, added)
        return source

    def names(self) -> tuple[ProjectName, ...]:
        """Return all projects, sorted; the same tuple as long as they are the same."""
        if self._names is None:
            # An index is already sorted. A dict, unlike a set, keeps that order, so sorting costs next to nothing.
            self._names = sorted(dict.fromkeys([*self.index, *self._added]))
        if self._names_page is None:
            self._names_page = tuple(self._names)
        return self._names_page
