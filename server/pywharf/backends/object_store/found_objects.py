"""Find objects that clients download, and remember them: a signed URL of the store, or the bytes passed on.

A signed URL is given to everybody until a third of its life is left, so that caches keyed by URL work. It never
outlives the credentials that signed it.
"""

import time
from collections.abc import AsyncIterator, Callable, Hashable

import msgspec
from cachetools import LRUCache

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError, Stat
from pywharf.core.errors import PywharfError
from pywharf.index.ports import Content, RedirectContent, StreamContent

_REMEMBERED = 4096
"""Objects whose URL or size is remembered."""


class UrlLife(msgspec.Struct, frozen=True):
    """How long signed URLs live, and how long one is given out."""

    life_s: int
    given_s: float


LONG = UrlLife(3600, 2400.0)
"""For keys without an end."""
SHORT = UrlLife(900, 240.0)
"""For keys that expire at an unknown time. Those of a cloud's identity are renewed five minutes before."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """An object that was found."""

    size: int
    content: Content
    signed_until: float
    """Until when the content may be given out."""
    until: float
    """Until when the object counts as there."""


class FoundObjects:
    """The objects of one bucket that were found by this process, each under a name that stands for its content."""

    def __init__(
        self, client: ObjectClient, life: UrlLife | None, trusted_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._life = life
        """None: the server passes the bytes on."""
        self._trusted_s = trusted_s
        """Seconds for which an object that was found counts as there."""
        self._clock = clock
        self._found: LRUCache[Hashable, Found] = LRUCache(_REMEMBERED)

    def known(self, name: Hashable) -> Found | None:
        """Return an object that counts as there, without a request."""
        found = self._found.get(name)
        return found if found is not None and self._clock() < found.until else None

    def forget(self, name: Hashable) -> None:
        """Ask the store the next time."""
        self._found.pop(name, None)

    async def find(
        self, name: Hashable, key: str, gone: Callable[[], PywharfError], check: Callable[[Stat], None] | None = None
    ) -> Found:
        """Ask the store for an object, and remember it if `check` does not raise.

        Raises ObjectMissingError; `gone()` is raised by a stream whose object was removed meanwhile.
        """
        try:
            stat = await self._client.head(key)
        except ObjectMissingError:
            self.forget(name)
            raise
        if check is not None:
            check(stat)
        now = self._clock()
        found = self._found.get(name)
        if found is None or found.size != stat.size or now >= found.signed_until:
            found = await self._new(name, key, stat.size, gone)
        until = min(now + self._trusted_s, found.signed_until)
        self._found[name] = found = msgspec.structs.replace(found, until=until)
        return found

    async def _new(self, name: Hashable, key: str, size: int, gone: Callable[[], PywharfError]) -> Found:
        if self._life is None:
            content = StreamContent(size, lambda first, last: self._read(name, key, first, last, gone))
            return Found(size, content, float("inf"), 0.0)
        signed_at = self._clock()
        url = await self._client.sign(key, self._life.life_s)
        return Found(size, RedirectContent(url), signed_at + self._life.given_s, 0.0)

    async def _read(
        self, name: Hashable, key: str, first: int, last: int, gone: Callable[[], PywharfError]
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._client.stream(key, first, last):
                yield chunk
        except ObjectMissingError as error:
            self.forget(name)
            raise gone() from error
