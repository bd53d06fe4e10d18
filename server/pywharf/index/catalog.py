"""What a server knows about one repo: the index it read, and the journal's changes that it does not hold yet."""

import bisect
from collections.abc import Iterable

from pywharf.core.model import Deletion, File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.index.codecs import EMPTY_INDEX, Index
from pywharf.index.ports import JournalEntry
from pywharf.index.recent_projects import RecentProjects

_RECENT_FILES = 20_000


class Catalog:
    """An index with a journal over it. If both have a file in the same revision, the journal's record counts."""

    def __init__(self, index: Index = EMPTY_INDEX, entries: Iterable[JournalEntry] = ()) -> None:
        self.index = index
        self.revision = 0
        """The number of changes to this catalog."""
        self._changes: dict[ProjectName, dict[str, File | Deletion]] = {}
        self._statuses: dict[ProjectName, ProjectStatus] = {}
        self._sources: dict[ProjectName, object] = {}
        self._recent = RecentProjects(_RECENT_FILES)
        self._names: list[ProjectName] | None = None
        self._names_page: tuple[ProjectName, ...] | None = None
        for entry in entries:
            self.add(entry)

    def add(self, entry: JournalEntry) -> None:
        """Add an upload or a change. One that is already known, or has a lower revision, changes nothing."""
        name, change = entry.project, entry.changed
        if change is not None:
            self._add_change(name, change)
        if entry.status is not None:
            self._set_status(name, entry.status)

    def _add_change(self, name: ProjectName, change: File | Deletion) -> None:
        changes = self._changes.get(name, {})
        known = changes.get(change.filename)
        if known is not None and (known == change or known.revision > change.revision):
            return
        self._before_change(name)
        if self._sources.pop(name, None) is not None or not changes:
            changes = self._changes[name] = dict(changes)  # the old dict is part of a source that was handed out
        changes[change.filename] = change

    def _set_status(self, name: ProjectName, status: ProjectStatus) -> None:
        known = self._statuses.get(name)
        if known is not None and (known == status or known.revision > status.revision):
            return
        self._before_change(name)
        self._sources.pop(name, None)
        self._statuses[name] = status

    def _before_change(self, name: ProjectName) -> None:
        """Drop what is cached of the project; add its name if it is new."""
        if self._names is not None and name not in self.index and not self._is_changed(name):
            bisect.insort(self._names, name)
            self._names_page = None
        self._recent.drop(name)
        self.revision += 1

    def _is_changed(self, name: ProjectName) -> bool:
        return name in self._changes or name in self._statuses

    def entries(self) -> list[JournalEntry]:
        """Return what was added."""
        changes = [
            JournalEntry(name, file=change) if isinstance(change, File) else JournalEntry(name, deletion=change)
            for name, changes in self._changes.items()
            for change in changes.values()
        ]
        return changes + [JournalEntry(name, status=status) for name, status in self._statuses.items()]

    def project(self, name: ProjectName) -> Project | None:
        """Return a project, or None if neither the index nor the journal has it."""
        project = self._recent.get(name)
        if project is not None:
            return project
        project = self.index.project(name)
        if self._is_changed(name):
            changes = self._changes.get(name, {})
            project = (project or Project(name=name)).with_changes(changes.values(), self._statuses.get(name))
        if project is not None:
            self._recent.put(project)
        return project

    def source(self, name: ProjectName) -> object:
        """Return an object that compares equal while the project is unchanged, or None if there is no project."""
        source = self._sources.get(name)
        if source is None:
            indexed, changes, status = self.index.source(name), self._changes.get(name), self._statuses.get(name)
            if indexed is None and changes is None and status is None:
                return None
            source = self._sources[name] = (indexed, changes, status)
        return source

    def names(self) -> tuple[ProjectName, ...]:
        """Return all projects, sorted; the same tuple as long as they are the same."""
        if self._names is None:
            # An index is already sorted, so sorting costs next to nothing.
            others = self._changes.keys() | self._statuses.keys()
            self._names = [*self.index, *(name for name in others if name not in self.index)]
            self._names.sort()
        if self._names_page is None:
            self._names_page = tuple(self._names)
        return self._names_page
