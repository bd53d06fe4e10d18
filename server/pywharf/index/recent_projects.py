"""The cache of decoded projects: each download looks up a file, and 1,000 files take half a millisecond to decode."""

from collections import OrderedDict

from pywharf.core.model import Project
from pywharf.core.names import ProjectName


class RecentProjects:
    """The most recently used projects, with at most `max_files` files in all (about 0.5 kB each)."""

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self._files = 0
        self._projects: OrderedDict[ProjectName, Project] = OrderedDict()

    def get(self, name: ProjectName) -> Project | None:
        """Return the project if it is cached, otherwise None."""
        project = self._projects.get(name)
        if project is not None:
            self._projects.move_to_end(name)
        return project

    def put(self, project: Project) -> None:
        """Cache a project that is not cached yet, unless it alone is too large."""
        if len(project.files) > self._max_files:
            return
        self._projects[project.name] = project
        self._files += len(project.files)
        while self._files > self._max_files:
            _, dropped = self._projects.popitem(last=False)
            self._files -= len(dropped.files)

    def drop(self, name: ProjectName) -> None:
        """Drop a project that has changed."""
        project = self._projects.pop(name, None)
        if project is not None:
            self._files -= len(project.files)
