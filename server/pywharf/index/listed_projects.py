"""The projects of the root page: all of a repo but those of which policies withhold every file."""

import asyncio
import math
import time

import msgspec

from pywharf.core.names import ProjectName
from pywharf.index.catalog import Catalog
from pywharf.index.enforcement import Candidates, Enforcement

_SLICE_S = 0.005
"""Seconds for which evaluations may hold up the event loop at a time."""


class _Decision(msgspec.Struct, frozen=True):
    """Whether one project is hidden, from the Unix seconds `since` until just before `until`."""

    source: object
    is_hidden: bool
    since: float
    until: float


class _Listed(msgspec.Struct, frozen=True):
    """The names, and what they follow from."""

    enforcement: Enforcement
    catalog: Catalog
    revision: int
    candidates: Candidates
    """The projects that may be hidden."""
    names: tuple[ProjectName, ...]
    decisions: dict[ProjectName, _Decision]
    since: float
    until: float


class ListedProjects:
    """The names that one repo's root page lists. What did not change is not evaluated again."""

    def __init__(self) -> None:
        self._listed: _Listed | None = None
        self._lock = asyncio.Lock()

    async def names(self, catalog: Catalog, enforcement: Enforcement) -> tuple[ProjectName, ...]:
        """Return the names, sorted; the same tuple as long as they are the same. If the enforcement has ended: none."""
        listed = self._current(catalog, enforcement)
        if listed is None:
            async with self._lock:
                listed = self._current(catalog, enforcement) or await self._list(catalog, enforcement)
        return () if listed is None else listed.names

    def _current(self, catalog: Catalog, enforcement: Enforcement) -> _Listed | None:
        listed = self._listed
        if listed is None or listed.enforcement is not enforcement or listed.catalog is not catalog:
            return None
        is_current = listed.revision == catalog.revision and listed.since <= enforcement.clock() < listed.until
        return listed if is_current else None

    async def _list(self, catalog: Catalog, enforcement: Enforcement) -> _Listed | None:
        before = self._listed
        known = before.decisions if before is not None and before.enforcement is enforcement else {}
        revision, all_names = catalog.revision, catalog.names()
        candidates = None if before is None else before.candidates
        if before is None or before.enforcement is not enforcement or before.candidates.names is not all_names:
            candidates = await enforcement.candidates(all_names, candidates)
        if candidates is None:  # other policies are in force, and nobody uses what follows
            return None
        decisions: dict[ProjectName, _Decision] = {}
        slice_end = time.monotonic() + _SLICE_S
        for name in candidates.chosen:
            decisions[name] = await _decide(name, catalog, enforcement, known.get(name))
            if time.monotonic() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.monotonic() + _SLICE_S
        names = all_names
        if any(decision.is_hidden for decision in decisions.values()):
            names = tuple(n for n in all_names if n not in decisions or not decisions[n].is_hidden)
        if before is not None and before.names == names:
            names = before.names  # its pages are known by it
        self._listed = _Listed(
            enforcement=enforcement,
            catalog=catalog,
            revision=revision,
            candidates=candidates,
            names=names,
            decisions=decisions,
            since=max((decision.since for decision in decisions.values()), default=-math.inf),
            until=min((decision.until for decision in decisions.values()), default=math.inf),
        )
        return self._listed


async def _decide(name: ProjectName, catalog: Catalog, enforcement: Enforcement, known: _Decision | None) -> _Decision:
    source = catalog.source(name)
    if known is not None and known.source == source and known.since <= enforcement.clock() < known.until:
        return known
    project = catalog.project(name)
    if project is None:
        return _Decision(source, is_hidden=False, since=-math.inf, until=math.inf)
    shown = await enforcement.evaluate(project)
    if shown is None:  # other policies are in force, and nobody uses what follows
        return _Decision(source, is_hidden=True, since=math.inf, until=-math.inf)
    return _Decision(source, bool(shown.withheld) and not shown.project.files, shown.since, shown.until)
