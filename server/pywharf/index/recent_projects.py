"""The cache of decoded projects: each download looks up a file, and 1,000 files take half a millisecond to decode."""

import contextlib

from cachetools import LRUCache

from pywharf.core.model import Project
from pywharf.core.names import ProjectName


class RecentProjects:
    """The most recently used projects, with at most `max_files` files in all (about 0.5 kB each)."""

    def __init__(self, max_files: int) -> None:
        self._projects: LRUCache[ProjectName, Project] = LRUCache(max_files, lambda project: len(project.files))

    def get(self, name: ProjectName) -> Project | None:
        """Return the project if it is cached, otherwise None."""
        try:
            return self._projects[name]  # faster than `get`, in every download
        except KeyError:
            return None

    def put(self, project: Project) -> None:
        """Cache a project that is not cached yet, unless it alone is too large."""
        with contextlib.suppress(ValueError):  # it is larger than the cache
            self._projects[project.name] = project

    def drop(self, name: ProjectName) -> None:
        """Drop a project that has changed."""
        self._projects.pop(name, None)
