"""The objects of a bucket through obstore."""

import asyncio
import contextlib
import io
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import obstore
from obstore import exceptions

from pywharf.backends.object_store.client import (
    Got,
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    Stat,
    Version,
)
from pywharf.backends.object_store.failures import failure, reply_of
from pywharf.backends.object_store.stores import Stores
from pywharf.core.errors import BackendUnavailableError
from pywharf.index.threads import within

_CALL_S = 12.0
_CONTENT_S = 120.0
_LARGE_S = 900.0
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_A_TIME = 3
_SMALL = 1024 * 1024
_PAGE = 1000
_MAX_PAGES = 5_000
"""Pages of one list; a list without end stops there."""
_CHUNK = 512 * 1024
"""Bytes of a stream's chunk. Smaller ones cost more processor time, larger ones memory for each download."""
_DELETES = 16
"""Concurrent requests to delete."""
_CALLS = 64
"""Concurrent requests of one repo, so that its store leaves connections and memory to others."""


class ObstoreClient:
    """See ObjectClient. `check` raises if the store may not be used now; the texts are those of `failure`."""

    def __init__(self, stores: Stores, bucket: str, check: Callable[[], Awaitable[None]], owner: str = "repo") -> None:
        self._stores = stores
        self._check = check
        self._bucket = bucket
        self._owner = owner
        self._slots = asyncio.Semaphore(_CALLS)

    async def get(self, key: str, most: int) -> Got:
        got = await self._get(key, most, {})
        assert got is not None  # noqa: S101 - without a condition there is always an object
        return got

    async def get_if_changed(self, key: str, known: Version, most: int) -> Got | None:
        return await self._get(key, most, {"if_none_match": known.e_tag})

    async def _get(self, key: str, most: int, options: Mapping[str, Any]) -> Got | None:
        store = self._stores.calls if most <= _SMALL else self._stores.streams
        deadline = _CALL_S if most <= _SMALL else _CONTENT_S
        async with self._translated(deadline):
            try:
                result = await obstore.get_async(store, key, options=cast("Any", dict(options)))
            except exceptions.NotModifiedError:
                return None
            stat = _stat(result.meta)
            if stat.size > most:
                return Got(b"", stat)
            content = io.BytesIO()  # its value is not copied, which would hold up the event loop
            async for chunk in result.stream(min_chunk_size=_CHUNK):
                content.write(chunk)
                if content.tell() > most:  # more than the headers said
                    return Got(b"", stat)
            return Got(content.getvalue(), stat)

    async def head(self, key: str) -> Stat:
        async with self._translated(_CALL_S):
            return _stat(await obstore.head_async(self._stores.calls, key))

    async def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        if last < first:
            return
        async with self._translated(None, slot=False):
            result = await obstore.get_async(self._stores.streams, key, options={"range": (first, last + 1)})
            async for chunk in result.stream(min_chunk_size=_CHUNK):
                # A view, not a copy; the server writes it to a socket.
                yield cast("bytes", memoryview(chunk))

    async def create(self, key: str, content: bytes) -> Version:
        return await self._put(key, content, "create")

    async def replace(self, key: str, content: bytes, expected: Version) -> Version:
        mode = {"e_tag": expected.e_tag}
        if expected.generation is not None:
            mode["version"] = expected.generation
        return await self._put(key, content, mode)

    async def put(self, key: str, content: bytes) -> Version:
        return await self._put(key, content, "overwrite")

    async def _put(self, key: str, content: bytes, mode: str | Mapping[str, str]) -> Version:
        is_small = len(content) <= _SMALL
        store = self._stores.calls if is_small else self._stores.streams
        async with self._translated(_CALL_S if is_small else _CONTENT_S):
            done = await obstore.put_async(store, key, content, mode=cast("Any", mode), use_multipart=False)
            return _version(cast("Mapping[str, Any]", done))

    async def upload(self, key: str, path: Path) -> None:
        async with self._translated(_LARGE_S):
            await obstore.put_async(
                self._stores.streams,
                key,
                path,
                use_multipart=True,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_A_TIME,
            )

    async def copy_new(self, source: str, target: str) -> None:
        async with self._translated(_LARGE_S):
            await obstore.copy_async(self._stores.streams, source, target, overwrite=False)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete one by one: some stores fail a bulk request for a key that is missing, or do not have it."""

        async def delete(key: str) -> None:
            with contextlib.suppress(ObjectMissingError):
                async with self._translated(_CALL_S):
                    await obstore.delete_async(self._stores.calls, key)

        for start in range(0, len(keys), _DELETES):
            await asyncio.gather(*(delete(key) for key in keys[start : start + _DELETES]))

    async def pages(self, folder: str, after: str | None = None) -> AsyncIterator[Sequence[Stat]]:
        last = after or ""
        listed = obstore.list(self._stores.calls, folder, offset=after, chunk_size=_PAGE).__aiter__()
        for number in itertools.count(1):
            async with self._translated(_CALL_S):
                try:
                    page = [_stat(meta) for meta in await listed.__anext__()]
                except StopAsyncIteration:
                    return
            if number > _MAX_PAGES or any(a.key >= b.key for a, b in itertools.pairwise(page)) or page[0].key <= last:
                raise BackendUnavailableError(
                    f"The list of the {self._bucket} is unsorted or has no end; use a store that lists in order."
                )
            last = page[-1].key
            yield page

    async def sign(self, key: str, seconds: int) -> str:
        async with self._translated(_CALL_S):
            return await obstore.sign_async(self._stores.calls, "GET", key, timedelta(seconds=seconds))

    async def aclose(self) -> None:
        """Do nothing: connections are closed when they are idle, or with the stores."""

    @contextlib.asynccontextmanager
    async def _translated(self, seconds: float | None, *, slot: bool = True) -> AsyncIterator[None]:
        """Limit the time and the number of requests, and translate obstore's errors."""
        await self._check()
        try:
            async with within(seconds, f"The store of the {self._bucket}"), self._slots if slot else _nothing():
                yield
        except FileNotFoundError as error:
            reply = reply_of(error)
            if reply.is_missing_bucket or reply.is_rejection:
                raise failure(error, self._bucket, self._owner) from None
            raise ObjectMissingError from None
        except exceptions.AlreadyExistsError:
            raise ObjectExistsError from None
        except exceptions.PreconditionError:
            raise ObjectChangedError from None
        except exceptions.BaseError as error:
            raise failure(error, self._bucket, self._owner) from None  # its text may hold a signature
        except (ValueError, TypeError) as error:
            if "parse path" in str(error) or "path" in str(error):
                raise ObjectMissingError from None
            raise


@contextlib.asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def _version(meta: Mapping[str, Any]) -> Version:
    return Version(str(meta["e_tag"] or ""), meta["version"] or None)


def _stat(meta: Mapping[str, Any]) -> Stat:
    modified = meta["last_modified"]
    assert isinstance(modified, datetime)  # noqa: S101 - obstore's type
    return Stat(str(meta["path"]), int(meta["size"]), _version(meta), modified)
