"""Give a file's content: a signed URL of the store, or the bytes passed on.

A signed URL is given to everybody until a third of its life is left, so that caches keyed by URL work. It never
outlives the credentials that signed it.
"""

import time
from collections.abc import AsyncIterator, Callable

import msgspec
from cachetools import LRUCache

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError
from pywharf.backends.object_store.layout import Layout
from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.core.filenames import names_stored_file
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports import Content, RedirectContent, StreamContent

_REMEMBERED = 4096
"""Files whose URL or size is remembered."""
_SEEN_S = 600.0
"""Seconds for which a file that was found counts as there, when it is passed on."""


class UrlLife(msgspec.Struct, frozen=True):
    """How long signed URLs live, and how long one is given out."""

    life_s: int
    given_s: float


LONG = UrlLife(3600, 2400.0)
"""For keys without an end."""
SHORT = UrlLife(900, 240.0)
"""For keys that expire at an unknown time. Those of a cloud's identity are renewed five minutes before."""


class _Seen(msgspec.Struct, frozen=True, gc=False):
    until: float
    content: Content


class BucketContents:
    """The contents and core metadata of one repo."""

    def __init__(
        self,
        client: ObjectClient,
        layout: Layout,
        life: UrlLife | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._layout = layout
        self._life = life
        """None: the server passes the bytes on."""
        self._clock = clock
        self._seen: LRUCache[tuple[str, str, str], _Seen] = LRUCache(_REMEMBERED)

    async def open(self, project: ProjectName, file: File) -> Content:
        """See Packages.open_file."""
        name = (project, file.filename, file.sha256)
        seen = self._seen.get(name)
        if seen is not None and self._clock() < seen.until:
            return seen.content
        key = self._key(project, file)
        try:
            stat = await self._client.head(key)
        except ObjectMissingError as error:
            self._seen.pop(name, None)
            raise NotFoundError.file_removed(file.filename) from error
        if file.size is not None and stat.size != file.size:
            raise BackendUnavailableError(
                f"The object of {file.filename!r} has {stat.size} bytes, its record says {file.size}; remove one."
            )
        now = self._clock()
        if self._life is None:
            seen = _Seen(
                now + _SEEN_S, StreamContent(stat.size, lambda first, last: self._read(name, key, first, last))
            )
        else:
            seen = _Seen(now + self._life.given_s, RedirectContent(await self._client.sign(key, self._life.life_s)))
        self._seen[name] = seen
        return seen.content

    async def metadata(self, project: ProjectName, file: File) -> bytes:
        """See Packages.read_metadata."""
        self._key(project, file)
        try:
            got = await self._client.get(self._layout.metadata(project, file.filename), MAX_METADATA_BYTES)
        except ObjectMissingError as error:
            raise NotFoundError.no_core_metadata(file.filename) from error
        if got.stat.size > MAX_METADATA_BYTES:
            raise BackendUnavailableError(
                f"The core metadata of {file.filename!r} in the storage has more than {MAX_METADATA_BYTES} bytes; "
                "remove or replace it."
            )
        return got.content

    async def _read(self, name: tuple[str, str, str], key: str, first: int, last: int) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._client.stream(key, first, last):
                yield chunk
        except ObjectMissingError as error:
            self._seen.pop(name, None)
            raise NotFoundError.file_removed(name[1]) from error

    def _key(self, project: ProjectName, file: File) -> str:
        if not names_stored_file(file.filename):
            raise NotFoundError(f"{file.filename[:240]!r} is not a file of {project!r}.")
        return self._layout.content(project, file.filename)
