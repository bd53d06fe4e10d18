"""The newest releases of a repository: the journal of uploads, kept current by probes."""

import asyncio
import time

from pywharf.backends.github.journal import ReleaseJournal
from pywharf.backends.github.listing import Listing
from pywharf.backends.github.releases import Release

_MIN_PROBE_INTERVAL_S = 0.25
"""Least seconds between two probes triggered by requests. GitHub's limit per minute counts free probes, too."""


class NewestReleases:
    """The newest releases of one repository, as they were listed last."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self.indexed_until = 0.0
        """Unix seconds. Everything published before then is in the index that was read last."""
        self.journal = ReleaseJournal()
        self.releases: tuple[Release, ...] = ()
        """The releases that the journal was built from."""
        self._probe_lock = asyncio.Lock()
        self._probes_begun = 0
        self._probed_at = 0.0

    async def probe(self) -> None:
        """Probe the newest releases. Concurrent callers share one probe, which begins after all have asked."""
        wanted = self._probes_begun + 1
        async with self._probe_lock:
            if self._probes_begun >= wanted:
                return
            pause = self._probed_at + _MIN_PROBE_INTERVAL_S - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self._probes_begun += 1
            releases, changed = await self._listing.head(self.indexed_until)
            self._probed_at = time.monotonic()
            if changed:
                self.releases = releases
                self.journal = await asyncio.to_thread(ReleaseJournal, releases)
