"""What one repo's policies make of its projects: what is shown, what is refused, and for how long that holds."""

import asyncio
import itertools
import sys
import time
from collections.abc import Callable

import msgspec
from cachetools import LRUCache

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.advisories import Advisories
from pywharf.core.policy.evaluation import RepoPolicies, Withheld
from pywharf.core.policy.withholding import refusal_of

_MAX_CHECKED = 256
"""Files of a repo whose check is kept. An evaluation takes about a tenth of a small file's download."""
_MANY_RULES = 200
"""Rules about one project above which an evaluation runs in a thread. A tenant may write thousands about a project."""
_numbers = itertools.count(1)
_LATEST = sys.float_info.max
"""The end of what no moment changes. It is finite, because a clock that is set back still changes it."""


class Shown(msgspec.Struct, frozen=True):
    """A project as policies show it, from the Unix seconds `since` until just before `until`."""

    project: Project
    withheld: tuple[Withheld, ...]
    since: float
    until: float


class Enforcement:
    """The policies and advisories of one repo in force. Other ones make another object, with pages of its own.

    An evaluation holds from the time of the clock at which it was made. So everything is also evaluated again after
    the clock was set back.
    """

    def __init__(
        self,
        repo: RepoName,
        policies: RepoPolicies,
        advisories: Advisories | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.policies = policies
        self.advisories = advisories
        self.clock = clock
        self._checked: LRUCache[tuple[ProjectName, str, str], Shown] = LRUCache(_MAX_CHECKED)
        """Files that were downloaded lately, by project, name and digest."""
        self.pages = f"{repo}#{next(_numbers)}"
        """Stands for the repo in the keys of pages. No repo's name has this form."""

    def concerns(self, name: ProjectName, *, foreign: bool = False) -> bool:
        """Return whether `show` may change anything about a project of that name."""
        return self.policies.concerns(name, foreign=foreign, advisories=self.advisories)

    def takes_long(self, name: ProjectName) -> bool:
        """Return whether an evaluation of the project would hold up the event loop, however few its files are."""
        return self.policies.effort(name) > _MANY_RULES

    def show(self, project: Project, *, foreign: bool = False) -> Shown:
        """Evaluate a project now. `foreign`: it is the extra index's."""
        now = self.clock()
        verdict = self.policies.evaluate(project, foreign=foreign, now=now, advisories=self.advisories)
        until = _LATEST if verdict.next_change is None else verdict.next_change
        return Shown(verdict.project, verdict.withheld, now, until)

    async def evaluate(self, project: Project) -> Shown:
        """Evaluate an own project now, in a thread if that takes long."""
        if self.takes_long(project.name):
            return await asyncio.to_thread(self.show, project)
        return self.show(project)

    async def check_download(self, project: Project, file: File) -> None:
        """Raise WithheldError if an own file is withheld now. Only that file is evaluated."""
        if not self.concerns(project.name):
            return
        key = (project.name, file.filename, file.sha256)
        checked = self._checked.get(key)
        if checked is None or not checked.since <= self.clock() < checked.until:
            checked = self._checked[key] = await self.evaluate(msgspec.structs.replace(project, files=(file,)))
        if checked.withheld:
            raise refusal_of(checked.withheld[0])

    def candidates(self, names: tuple[ProjectName, ...]) -> tuple[ProjectName, ...]:
        """Return the own projects of which policies may withhold every file."""
        return self.policies.hides_whole_projects(names, self.advisories)
