"""What one repo's policies make of its projects: what is shown, what is refused, and for how long that holds."""

import asyncio
import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import msgspec
from cachetools import LRUCache

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.advisories import Advisories
from pywharf.core.policy.evaluation import RepoPolicies, Withheld
from pywharf.index.evaluations import CheckedFiles, SharedEvaluations, in_thread
from pywharf.index.single_flight import SingleFlight

P = ParamSpec("P")
T = TypeVar("T")

_MAX_CHECKED = 256
"""Files of a repo whose check is kept, where that does not take long."""
_MAX_NAMES = 1_024
"""Projects of a repo of which it is kept what their names say: thousands of patterns may have to be tried for one."""
_MUCH = 4_000
"""Steps above which an evaluation runs in a thread. Each takes about a microsecond."""
_ONE_RULE = 10
"""Steps for a rule or specifier of a project without files."""
_numbers = itertools.count(1)
_LATEST = sys.float_info.max
"""The end of what no moment changes. It is finite, because a clock that is set back still changes it."""


class Shown(msgspec.Struct, frozen=True):
    """A project as policies show it, from the Unix seconds `since` until just before `until`."""

    project: Project
    withheld: tuple[Withheld, ...]
    since: float
    until: float


class Candidates(msgspec.Struct, frozen=True):
    """The own projects of which policies may withhold every file."""

    policies: RepoPolicies
    names: tuple[ProjectName, ...]
    """The projects of which they were chosen."""
    by_rules: frozenset[ProjectName]
    """Those that rules may hide, whatever advisories say."""
    chosen: tuple[ProjectName, ...]
    """All, in the order of `names`."""


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
        shared: SharedEvaluations | None = None,
    ) -> None:
        self.policies = policies
        self.advisories = advisories
        self.clock = clock
        self.is_over = False
        """Whether other policies or advisories are in force: what waits for a thread need not be evaluated."""
        self._concerns = functools.lru_cache(_MAX_NAMES)(functools.partial(policies.concerns, advisories=advisories))
        self._effort = functools.lru_cache(_MAX_NAMES)(policies.effort)
        self._repo = repo
        self._shared = shared or SharedEvaluations()
        self._slot = asyncio.Lock()
        """This enforcement occupies one thread at most."""
        self._checking = SingleFlight[tuple[ProjectName, bool], CheckedFiles | None]()
        self._checked: LRUCache[tuple[ProjectName, bool, str, str], Shown] = LRUCache(_MAX_CHECKED)
        """Files that were downloaded lately, by project, whether it is another index's, name and digest."""
        self.pages = f"{repo}#{next(_numbers)}"
        """Stands for the repo in the keys of pages. No repo's name has this form."""

    def concerns(self, name: ProjectName, *, foreign: bool = False) -> bool:
        """Return whether `show` may change anything about a project of that name."""
        return self._concerns(name, foreign=foreign)

    def takes_long(self, name: ProjectName, files: int) -> bool:
        """Return whether an evaluation of the project with so many files would hold up the event loop."""
        # One is added for what is done without any rule: each file's version is read.
        return (1 + self._effort(name)) * (_ONE_RULE + files) > _MUCH

    def show(self, project: Project, *, foreign: bool = False) -> Shown:
        """Evaluate a project now. `foreign`: it is the extra index's."""
        now = self.clock()
        verdict = self.policies.evaluate(project, foreign=foreign, now=now, advisories=self.advisories)
        until = _LATEST if verdict.next_change is None else verdict.next_change
        return Shown(verdict.project, verdict.withheld, now, until)

    async def evaluate(self, project: Project) -> Shown | None:
        """Evaluate an own project now, in a thread if that takes long. None: this enforcement ended before."""
        if not self.takes_long(project.name, len(project.files)):
            return self.show(project)
        return await self._in_turn(self.show, project)

    async def check(self, project: Project, file: File, *, foreign: bool = False) -> Withheld | None:
        """Return why a file is withheld now, or None. Ask again if this enforcement ended before the answer."""
        if not self.takes_long(project.name, 1):
            return self._check_alone(project, file, foreign=foreign)
        began = self.clock()
        key = (file.filename, file.sha256)
        of_project = (project.name, foreign)
        while not self.is_over:
            checked = self._shared.by_project.get((self.pages, *of_project))
            if checked is None or key not in checked.withheld or not checked.since <= self.clock() < checked.until:
                checked = await self._checking.run(of_project, lambda: self._check_all(project, foreign=foreign))
            if checked is None:
                break
            if key in checked.withheld and (checked.since >= began or checked.since <= self.clock() < checked.until):
                return checked.withheld[key]
        return None

    def _check_alone(self, project: Project, file: File, *, foreign: bool) -> Withheld | None:
        """Evaluate that file alone, which takes about a tenth of a small file's download."""
        key = (project.name, foreign, file.filename, file.sha256)
        checked = self._checked.get(key)
        if checked is None or not checked.since <= self.clock() < checked.until:
            checked = self._checked[key] = self.show(msgspec.structs.replace(project, files=(file,)), foreign=foreign)
        return checked.withheld[0] if checked.withheld else None

    async def _check_all(self, project: Project, *, foreign: bool) -> CheckedFiles | None:
        """Evaluate all files: with many rules that takes about as long as for one. None as of `evaluate`."""
        checked = await self._in_turn(self._checked_files, project, foreign=foreign)
        if checked is not None:
            with contextlib.suppress(ValueError):  # it is larger than the cache
                self._shared.by_project[self.pages, project.name, foreign] = checked
        return checked

    def _checked_files(self, project: Project, *, foreign: bool) -> CheckedFiles:
        shown = self.show(project, foreign=foreign)
        withheld = {one.filename: one for one in shown.withheld}
        found = {(file.filename, file.sha256): withheld.get(file.filename) for file in project.files}
        return CheckedFiles(found, shown.since, shown.until)

    async def candidates(self, names: tuple[ProjectName, ...], before: Candidates | None = None) -> Candidates | None:
        """Return the own projects of which policies may withhold every file. None as of `evaluate`.

        `before` were chosen of other names, by any enforcement. With the same policies only new names are matched:
        thousands of patterns may have to be tried for each.
        """
        return await self._in_turn(self._candidates, names, before)

    def _candidates(self, names: tuple[ProjectName, ...], before: Candidates | None) -> Candidates:
        policies, advisories = self.policies, self.advisories
        if before is None or before.policies is not policies:
            by_rules = frozenset(policies.hides_whole_projects(names))
        else:
            new = frozenset(names).difference(before.names)
            by_rules = before.by_rules.intersection(names).union(policies.hides_whole_projects(new) if new else ())
        found = by_rules
        if policies.blocks_malware and advisories is not None:
            found = found.union(name for name in names if advisories.concerns_malware(name))
        return Candidates(policies, names, by_rules, tuple(name for name in names if name in found))

    async def _in_turn(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run a call in a thread when the earlier ones are over. None: this enforcement ended before."""
        async with self._slot, self._shared.slots.one(self._repo):
            if self.is_over:
                return None
            return await in_thread(function, *args, **kwargs)
