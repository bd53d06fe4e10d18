"""Follow a storage: poll its journal and index, and keep the catalog up to date."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from pywharf.core.backoff import backoff_s
from pywharf.core.errors import IndexNotLoadedError, PywharfError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.catalog import Catalog
from pywharf.index.change_probes import ChangeProbes
from pywharf.index.codecs import EMPTY_INDEX, Index, decode_index
from pywharf.index.generations import Generation
from pywharf.index.ports import UNCHANGED, IndexStore, JournalEntry, Probeable, StoredIndex
from pywharf.index.single_flight import SingleFlight
from pywharf.index.threads import within

_logger = logging.getLogger(__name__)
_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 30.0
_CATCH_UP_S = 5.0
"""Seconds that a page waits for the storage to return another worker's upload, before it shows what is known."""
_JOURNAL_S = 120.0
"""Seconds for one read of a journal, however slowly the storage sends it."""
_INDEX_S = 600.0
"""Seconds for reading an index, which may be large."""


class Follower:
    """One repo's catalog, as fresh as the last read. Use `refresh` once or `run` permanently."""

    def __init__(
        self,
        name: str,
        store: IndexStore,
        on_parse: Callable[[], None] = lambda: None,
        change_probes: ChangeProbes | None = None,
        generation: Generation | None = None,
    ) -> None:
        self._name = name
        self._on_parse = on_parse
        self._store = store
        self._change_probes = change_probes
        """None: the storage itself is read at every poll."""
        self._probe = store.probe if isinstance(store, Probeable) else None
        self._seen: object = None
        """The probe's result from before the storage was last read."""
        self._generation = generation
        """None: no other worker accepts uploads."""
        self._seen_generation: int | None = None
        self._catching_up = SingleFlight[None, None]()
        self._catalog: Catalog | None = None
        self._version: str | None = None
        self._cursor: str | None = None
        self._lock = asyncio.Lock()
        self._failure: PywharfError | None = None
        self._synchronised_at = 0.0
        self._was_read = asyncio.Event()

    @property
    def catalog(self) -> Catalog:
        """Return the current catalog. Raises IndexNotLoadedError before the first successful read."""
        if self._catalog is None:
            raise self._not_loaded()
        return self._catalog

    def require_loaded(self) -> None:
        """Raise IndexNotLoadedError before the first successful read."""
        if self._catalog is None:
            raise self._not_loaded()

    def _not_loaded(self) -> IndexNotLoadedError:
        reason = self._failure or "it is being read for the first time"
        return IndexNotLoadedError(f"The index of this repo is not loaded: {reason}")

    async def latest(self) -> Catalog:
        """Return the catalog with every upload that a worker of this server has answered.

        Raises IndexNotLoadedError before the first successful read. If the storage fails or takes long, the catalog
        known before is returned.
        """
        catalog, generation = self.catalog, self._generation
        if generation is None:
            return catalog
        for _ in range(2):  # a read in progress may miss the newest upload; the next one does not
            if generation.current() == self._seen_generation:
                break
            try:
                async with asyncio.timeout(_CATCH_UP_S):
                    await self._catching_up.run(None, lambda: self._catch_up(generation))
            except Exception:  # noqa: BLE001 - the next poll fails the same way and reports it
                return catalog
        return self.catalog

    async def _catch_up(self, generation: Generation) -> None:
        current = generation.current()  # before the read: an upload noted during it changes the number
        await self._refresh()
        self._seen_generation = current

    @property
    def is_loaded(self) -> bool:
        """Return whether the storage was read at least once."""
        return self._catalog is not None

    @property
    def failure(self) -> PywharfError | None:
        """Return why the last read failed, or None if it did not."""
        return self._failure

    @property
    def index_mtime(self) -> int:
        """Return the Unix seconds when the index was written or, if there is none yet, the storage was last checked."""
        return self.catalog.index.mtime or int(self._synchronised_at)

    async def first_read(self) -> None:
        """Wait until the first read of the storage has succeeded or failed."""
        await self._was_read.wait()

    async def refresh(self) -> None:
        """Read the storage once. If that fails, the catalog stays as it was. Raises PywharfError."""
        try:
            await self._refresh()
        finally:
            self._was_read.set()

    async def _refresh(self) -> None:
        async with self._lock:
            # The journal first: an entry removed from it is in the index that is read afterwards.
            async with within(_JOURNAL_S):
                journal = await self._store.read_journal(self._cursor)
            async with within(_INDEX_S):
                stored = await self._store.read_index(self._version)
            current = self._catalog or Catalog()
            if stored is None and self._version is None and self._catalog is not None:
                stored = UNCHANGED  # there is still no index
            if stored is not UNCHANGED:
                index, version = await self._decode(stored)
                current = Catalog(index, journal.entries if journal.restarted else current.entries())
                self._version = version
            elif journal.restarted:
                current = Catalog(current.index, journal.entries)
            if not journal.restarted:
                for entry in journal.entries:
                    current.add(entry)
            self._catalog, self._cursor = current, journal.cursor
            self._synchronised_at = time.time()

    async def _decode(self, stored: StoredIndex | None) -> tuple[Index, str | None]:
        if stored is None:
            return EMPTY_INDEX, None
        self._on_parse()
        return await asyncio.to_thread(decode_index, stored.content, stored.filename), stored.version

    async def note(self, entry: JournalEntry) -> None:
        """Show an upload or change that this process accepted, before the next read of the journal.

        The other workers are notified.
        """
        if self._generation is not None:
            self._generation.renew()
        async with self._lock:
            if self._catalog is None:
                return
            if entry.file is None or self._is_newer(self._catalog, entry.project, entry.file):
                self._catalog.add(entry)

    @staticmethod
    def _is_newer(catalog: Catalog, name: ProjectName, file: File) -> bool:
        """Return whether a record is newer than the known one. A run of update_index may have been faster."""
        project = catalog.project(name)
        known = project.file(file.filename) if project is not None else None
        return known is None or known.sha256 != file.sha256 or known.revision < file.revision

    async def run(self) -> None:
        """Poll until cancelled. A failure is logged when it begins and when it is over."""
        failures = 0
        # Many repos start at the same time; without a random first pause they would always be polled together.
        pause = self._store.poll_interval_s * random.random()  # noqa: S311 - no secret
        while True:
            try:
                await self.refresh()
            except PywharfError as error:
                if str(error) != str(self._failure):
                    _logger.error("Repo %s: its index cannot be synchronised: %s", self._name, error)  # noqa: TRY400
                self._failure = error
                await asyncio.sleep(backoff_s(failures, first_s=_FIRST_RETRY_S, longest_s=_LONGEST_RETRY_S))
                failures += 1
                continue
            except Exception as error:
                _logger.exception("Repo %s: its index cannot be synchronised.", self._name)
                self._failure = IndexNotLoadedError(f"internal error ({type(error).__name__}).")
                await asyncio.sleep(_LONGEST_RETRY_S)
                continue
            if self._failure is not None:
                _logger.info("Repo %s: its index is synchronised again.", self._name)
                self._failure, failures = None, 0
            await asyncio.sleep(pause)
            pause = self._store.poll_interval_s
            while not await self._may_have_changed():
                self._synchronised_at = time.time()
                await asyncio.sleep(pause)

    async def _may_have_changed(self) -> bool:
        if self._change_probes is None or self._probe is None:
            return True
        seen, self._seen = self._seen, await self._change_probes.take(self._probe)
        return seen != self._seen
