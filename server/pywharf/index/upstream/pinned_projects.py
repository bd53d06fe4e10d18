"""What repos have pinned in the pull-through cache, read at most once a minute."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from pywharf.core.errors import PywharfError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.cache_store import CacheStore, Pin

_logger = logging.getLogger(__name__)
_FRESH_S = 60.0

_Files = AbstractSet[tuple[str, str]]
"""Names and digests."""
_NOTHING: Mapping[ProjectName, _Files] = {}


class PinnedProjects:
    """The pinned files of all repos by project. What was read last counts while the store fails."""

    def __init__(self, store: CacheStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._read_again = -float("inf")
        self._by_repo: Mapping[RepoName, Mapping[ProjectName, _Files]] = {}

    async def repos(self, name: ProjectName) -> list[RepoName]:
        """Return the repos that have pinned a file of the project."""
        await self._refresh()
        return [repo for repo, of_repo in self._by_repo.items() if name in of_repo]

    async def files(self, repo: RepoName, name: ProjectName) -> _Files:
        """Return the names and digests of the project's files that a repo has pinned."""
        await self._refresh()
        return self._by_repo.get(repo, _NOTHING).get(name, frozenset())

    async def newest(self) -> Mapping[RepoName, Collection[ProjectName]]:
        """Return the projects of which each repo has pinned a file, as the store has them now.

        Raises BackendUnavailableError.
        """
        self._by_repo = {repo: _by_project(pins) for repo, pins in (await self._store.all_pins()).items()}
        return self._by_repo

    async def _refresh(self) -> None:
        now = self._monotonic()
        if now < self._read_again:
            return
        try:
            found = await self._store.all_pins()
        except PywharfError as error:
            _logger.warning("The cache's pins cannot be read: %s", error)
            return
        self._by_repo = {repo: _by_project(pins) for repo, pins in found.items()}
        self._read_again = now + _FRESH_S


def _by_project(pins: Iterable[Pin]) -> Mapping[ProjectName, _Files]:
    found: defaultdict[ProjectName, set[tuple[str, str]]] = defaultdict(set)
    for pin in pins:
        found[pin.project].add((pin.filename, pin.sha256))
    return dict(found)
