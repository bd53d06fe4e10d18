"""Follow the feed of advisories: one worker of a server reads it, and all of them take what it compiled."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from pywharf.core.advisories.store import AdvisoryStore, BrokenStoreError
from pywharf.egress.advisory_feed import FeedClient
from pywharf.index.advisories import CurrentAdvisories
from pywharf.serving.advisories.opening import open_store
from pywharf.serving.advisories.reader import STORE, FeedReader
from pywharf.serving.advisories.served_files import ServedFiles
from pywharf.serving.advisories.source import FeedSource, Mark, mark_of
from pywharf.serving.metrics import Metrics

_logger = logging.getLogger(__name__)
_WATCH_S: Final = 1.0
"""Seconds between two checks whether another worker has read a feed."""
_SAID: Final = "advisory-hits"


class FeedFollower:
    """The follower of one worker. `folder` is private to the server's workers, on a local disk; `root` is its ROOT."""

    def __init__(  # noqa: PLR0913 - what it reads, keeps and reports to
        self,
        source: FeedSource,
        interval_s: float,
        *,
        client: FeedClient | None,
        folder: Path,
        root: Path,
        advisories: CurrentAdvisories,
        served: ServedFiles,
        metrics: Metrics,
    ) -> None:
        """`client` is needed for a source that is a URL."""
        self._reader = FeedReader(source, interval_s, client=client, folder=folder, root=root, metrics=metrics)
        self._folder = folder
        self._advisories = advisories
        self._served = served
        self._metrics = metrics
        self._opened: AdvisoryStore | None = None
        self._taken: Mark | None = None
        """The compiled feed that this worker uses."""

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._reader.run())

    async def _watch(self) -> None:
        """Take each feed that a worker of this server has compiled."""
        while True:
            try:
                await self._take()
            except (OSError, BrokenStoreError) as error:
                self._reader.report(f"the compiled feed cannot be opened ({error})", "broken")
            except Exception:
                _logger.exception("The compiled feed of advisories cannot be taken.")
            await asyncio.sleep(_WATCH_S)

    async def _take(self) -> None:
        path = self._folder / STORE
        mark = mark_of(path)
        if mark is None or mark == self._taken:
            return
        old, new = self._opened, await asyncio.to_thread(open_store, path)
        self._taken, self._opened = mark, new
        self._advisories.replace(new)
        self._metrics.set_advisories(new.meta)
        if old is None or old.whole_revision != new.whole_revision:
            await self._served.report(old, new, self._folder / _SAID)
