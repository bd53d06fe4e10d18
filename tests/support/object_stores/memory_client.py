"""A bucket in memory for tests: its clock is theirs, it counts requests, and it fails when they say so."""

import asyncio
import contextlib
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pywharf.backends.object_store.client import (
    Got,
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    Stat,
    Version,
)

PAGE = 4
"""Keys of a page of a list: few, so that every list has several."""


class MemoryClient:
    """See ObjectClient. Clients that are given one's `objects` are other servers of the same bucket."""

    def __init__(self, clock: Callable[[], float], objects: dict[str, tuple[bytes, Stat]] | None = None) -> None:
        self.objects = {} if objects is None else objects
        self.clock = clock
        self.requests: Counter[str] = Counter()
        self.writes: list[str] = []
        """The keys of writing requests, deletions left out."""
        self.before: Callable[[str, str], None] = lambda _method, _key: None
        """Called with a method and a key before anything happens; what it raises is the request's failure."""
        self.after: Callable[[str, str], None] = lambda _method, _key: None
        """Called when it has happened; what it raises is a lost answer."""
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def _request(self, method: str, key: str) -> AsyncIterator[None]:
        self.requests[method] += 1
        if method in {"create", "replace", "put", "upload", "copy"}:
            self.writes.append(key)
        await asyncio.sleep(0)  # others' requests come in between
        self.before(method, key)
        yield
        self.after(method, key)

    def _found(self, key: str) -> tuple[bytes, Stat]:
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectMissingError from None

    def _write(self, key: str, content: bytes) -> Version:
        version = Version(f"{next(self._numbers)} of {id(self)}")
        # As in HTTP: whole seconds.
        modified = datetime.fromtimestamp(math.floor(self.clock()), UTC)
        self.objects[key] = (content, Stat(key, len(content), version, modified))
        return version

    async def get(self, key: str, most: int) -> Got:
        async with self._request("get", key):
            content, stat = self._found(key)
            return Got(content if len(content) <= most else b"", stat)

    async def get_if_changed(self, key: str, known: Version, most: int) -> Got | None:
        got = await self.get(key, most)
        return None if got.stat.version == known else got

    async def head(self, key: str) -> Stat:
        async with self._request("head", key):
            return self._found(key)[1]

    async def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        async with self._request("stream", key):
            yield self._found(key)[0][first : last + 1]

    async def create(self, key: str, content: bytes) -> Version:
        async with self._request("create", key):
            if key in self.objects:
                raise ObjectExistsError
            return self._write(key, content)

    async def replace(self, key: str, content: bytes, expected: Version) -> Version:
        async with self._request("replace", key):
            if key not in self.objects or self.objects[key][1].version != expected:
                raise ObjectChangedError
            return self._write(key, content)

    async def put(self, key: str, content: bytes) -> Version:
        async with self._request("put", key):
            return self._write(key, content)

    async def upload(self, key: str, path: Path) -> None:
        content = await asyncio.to_thread(path.read_bytes)
        async with self._request("upload", key):
            self._write(key, content)

    async def copy_new(self, source: str, target: str) -> None:
        async with self._request("copy", target):
            if target in self.objects:
                raise ObjectExistsError
            self._write(target, self._found(source)[0])

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            async with self._request("delete", key):
                self.objects.pop(key, None)

    async def pages(self, folder: str, after: str | None = None) -> AsyncIterator[Sequence[Stat]]:
        stats = [
            stat
            for key, (_, stat) in sorted(self.objects.items())
            if key.startswith(f"{folder}/") and key > (after or "")
        ]
        for start in range(0, max(1, len(stats)), PAGE):
            async with self._request("list", folder):
                page = stats[start : start + PAGE]
            if page:
                yield page

    async def sign(self, key: str, seconds: int) -> str:
        async with self._request("sign", key):
            return f"https://store.example/{key}?for={seconds}&number={next(self._numbers)}"

    async def aclose(self) -> None:
        """Do nothing."""
