"""What repos have pinned in the pull-through cache, read at most once a minute, repo by repo."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from pywharf.core.errors import PywharfError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.cache_store import CacheStore, Pin
from pywharf.index.single_flight import SingleFlight

_logger = logging.getLogger(__name__)
_FRESH_S = 60.0

_Files = AbstractSet[int]
"""Pinned files, as `number_of` names them: names and digests would take four times as much memory."""
_NOTHING: Mapping[ProjectName, _Files] = {}


class PinnedProjects:
    """The pinned files of all repos by project. What was read last counts while the store fails."""

    def __init__(self, store: CacheStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._read_again = -float("inf")
        self._by_repo: Mapping[RepoName, Mapping[ProjectName, _Files]] = {}
        self._reading = SingleFlight[None, None]()

    async def repos(self, name: ProjectName) -> list[RepoName]:
        """Return the repos that have pinned a file of the project."""
        await self._refresh()
        return [repo for repo, of_repo in self._by_repo.items() if name in of_repo]

    async def files(self, repo: RepoName, name: ProjectName) -> _Files:
        """Return the project's files that a repo has pinned, each as `number_of` names it."""
        await self._refresh()
        return self._by_repo.get(repo, _NOTHING).get(name, frozenset())

    async def _refresh(self) -> None:
        if self._monotonic() >= self._read_again:
            await self._reading.run(None, self._read)

    async def _read(self) -> None:
        now = self._monotonic()
        try:
            found = {
                repo: await asyncio.to_thread(_by_project, await self._store.pins(repo))
                for repo in await self._store.pinning_repos()
            }
        except PywharfError as error:
            _logger.warning("The cache's pins cannot be read: %s", error)
            return
        self._by_repo = found
        self._read_again = now + _FRESH_S


def number_of(filename: str, sha256: str) -> int:
    """Return a number for a file: of few files two have the same one, and nobody outside this process can say which."""
    return hash((filename, sha256))


def _by_project(pins: Iterable[Pin]) -> Mapping[ProjectName, _Files]:
    found: defaultdict[ProjectName, set[int]] = defaultdict(set)
    for pin in pins:
        found[pin.project].add(number_of(pin.filename, pin.sha256))
    return dict(found)
