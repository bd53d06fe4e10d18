"""The digests of files whose index says none: the first content that was fetched counts from then on."""

import contextlib
import hashlib
import time

import msgspec
from cachetools import LRUCache

from pywharf.core.errors import PywharfError
from pywharf.core.model import File
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.index.ports.cache_store import CacheStore
from pywharf.index.sidecars import is_sha256
from pywharf.index.threads import within
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Source

_CALL_S = 5.0
_MAX_BYTES = 1024
_REMEMBERED = 20_000
_REWRITTEN_S = 86_400.0
"""Seconds after which a record that is used is written again. The store removes pages that are not."""
_FORMAT = 1


@warmed_up
class _Record(msgspec.Struct, frozen=True):
    format: int
    sha256: str
    size: int
    written: float
    """Unix seconds."""


class FirstDigests:
    """The records of one cache."""

    def __init__(self, store: CacheStore, scopes: Scopes) -> None:
        self._store = store
        self._scopes = scopes
        self._records: LRUCache[str, _Record] = LRUCache(_REMEMBERED)

    async def known(self, source: Source, project: ProjectName, file: File) -> File:
        """Return the file with digest and size of the first fetch, or as it is if there was none or the store fails."""
        key = await self._key(source, project, file.filename)
        record = self._records.get(key)
        if record is None:
            record = await self._read(key)
            if record is None:
                return file
            self._records[key] = record
        if time.time() - record.written > _REWRITTEN_S:
            with contextlib.suppress(PywharfError):
                await self.note(source, project, file.filename, record.sha256, record.size)
        return msgspec.structs.replace(file, sha256=record.sha256, size=record.size)

    async def note(self, source: Source, project: ProjectName, filename: str, sha256: str, size: int) -> None:
        """Remember what was fetched. Raises StorageFullError, BackendUnavailableError."""
        key = await self._key(source, project, filename)
        record = self._records[key] = _Record(_FORMAT, sha256, size, time.time())
        async with within(_CALL_S):
            await self._store.write_page(key, msgspec.json.encode(record))

    async def _key(self, source: Source, project: ProjectName, filename: str) -> str:
        return key_of(source.url, await self._scopes.of(source.identity), project, filename)

    async def _read(self, key: str) -> _Record | None:
        try:
            async with within(_CALL_S):
                raw = await self._store.read_page(key, _MAX_BYTES)
        except PywharfError:
            return None
        if raw is None:
            return None
        try:
            record = msgspec.json.decode(raw, type=_Record)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return record if record.format == _FORMAT and is_sha256(record.sha256) and record.size >= 0 else None


def key_of(url: str, scope: str, project: ProjectName, filename: str) -> str:
    """Return what identifies a file of another index whose digest nobody knows: 64 hex digits.

    `scope` stands for the credentials: what was fetched with them is no other repo's, which may be sent another file.
    """
    return hashlib.sha256(f"first digest\0{url}\0{scope}\0{project}\0{filename}".encode()).hexdigest()
