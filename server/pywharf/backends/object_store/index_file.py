"""The index file in a bucket, replaced by compare-and-swap."""

import time

from pywharf.backends.object_store.client import (
    Got,
    ObjectChangedError,
    ObjectClient,
    ObjectExistsError,
    ObjectMissingError,
    Version,
)
from pywharf.backends.object_store.layout import Layout
from pywharf.core.errors import IndexConflictError
from pywharf.index.limits import max_index_bytes
from pywharf.index.ports import UNCHANGED, StoredIndex, Unchanged

_OTHER_CODEC_S = 30.0
"""Seconds between two requests for an index of the other codec, while the known one is there."""


class BucketIndex:
    """The index of one repo: an object for the codec in use. While the codec is changed, there are two."""

    def __init__(self, client: ObjectClient, layout: Layout, index_name: str) -> None:
        self._client = client
        self._layout = layout
        stem, _, extension = index_name.rpartition(".")
        self._names = (index_name, f"{stem}.json" if extension == "toml" else f"{stem}.toml")
        self._both_read_at = float("-inf")
        self.last_version: str | None = None
        """The version that was last read or written here."""

    async def read(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        """See IndexStore.read_index. With a known version it is one conditional request, as a rule."""
        found = await self._read(known)
        if found is not UNCHANGED:
            self.last_version = found.version if found is not None else None
        return found

    async def _read(self, known: str | None) -> StoredIndex | Unchanged | None:
        filename, version = _parsed(known)
        if filename in self._names:
            try:
                got = await self._client.get_if_changed(
                    self._layout.index(filename), version, max_index_bytes(filename)
                )
            except ObjectMissingError:
                pass
            else:
                if not await self._has_other(filename):
                    return UNCHANGED if got is None else _stored(filename, got)
        newest = await self._newest()
        if newest is None and known is not None:
            # Between the two requests, an index of the other codec may have replaced the first one.
            newest = await self._newest()
        if newest is None:
            return None
        return UNCHANGED if newest.version == known else newest

    async def write(self, content: bytes, expected: str | None) -> str:
        """See IndexStore.write_index."""
        self.last_version = version = await self._write(content, expected)
        return version

    async def _write(self, content: bytes, expected: str | None) -> str:
        filename, other = self._names
        key = self._layout.index(filename)
        expected_name, version = _parsed(expected)
        try:
            if expected is None:
                if await self._newest() is not None:
                    raise IndexConflictError
                return _version(filename, await self._client.create(key, content))
            if expected_name == filename:
                return _version(filename, await self._client.replace(key, content, version))
            if expected_name == other:
                return await self._change_codec(content, version)
        except (ObjectChangedError, ObjectExistsError):
            current = await self._read(None)
            # After a lost answer, the index may be this one all the same.
            if isinstance(current, StoredIndex) and current.filename == filename and current.content == content:
                return current.version
            raise IndexConflictError from None
        raise IndexConflictError

    async def _change_codec(self, content: bytes, version: Version) -> str:
        """Replace the index of the other codec. Its own replacement, by itself, lets only one writer go on."""
        filename, other = self._names
        old = self._layout.index(other)
        try:
            got = await self._client.get(old, max_index_bytes(other))
        except ObjectMissingError:
            raise ObjectChangedError from None
        # Some stores' versions are digests of the content, so the content must change: both codecs allow a line end.
        await self._client.replace(old, got.content + b"\n", version)
        try:
            made = await self._client.create(self._layout.index(filename), content)
        except ObjectExistsError:
            # An older one that a run had left when it was interrupted.
            stat = await self._client.head(self._layout.index(filename))
            made = await self._client.replace(self._layout.index(filename), content, stat.version)
        await self._client.delete([old])
        return _version(filename, made)

    async def _has_other(self, filename: str) -> bool:
        """Return whether there is an index of the other codec, too. The store is asked now and then."""
        now = time.monotonic()
        if now - self._both_read_at < _OTHER_CODEC_S:
            return False
        (other,) = set(self._names) - {filename}
        try:
            await self._client.head(self._layout.index(other))
        except ObjectMissingError:
            self._both_read_at = now
            return False
        return True

    async def _newest(self) -> StoredIndex | None:
        found: list[tuple[float, int, str, Got]] = []
        for rank, filename in enumerate(self._names):
            try:
                got = await self._client.get(self._layout.index(filename), max_index_bytes(filename))
            except ObjectMissingError:
                continue
            found.append((got.stat.modified.timestamp(), -rank, filename, got))
        if not found:
            return None
        _, _, filename, got = max(found, key=lambda one: one[:2])
        return _stored(filename, got)


def _stored(filename: str, got: Got) -> StoredIndex:
    return StoredIndex(filename, got.content, _version(filename, got.stat.version))


def _version(filename: str, version: Version) -> str:
    return f"{filename}:{version.generation or ''}:{version.e_tag}"


def _parsed(version: str | None) -> tuple[str, Version]:
    """Return an index version's file name and the store's version; an empty name for a text that is no such version."""
    filename, first, rest = (version or "").partition(":")
    generation, second, e_tag = rest.partition(":")
    if not first or not second or not e_tag:
        return "", Version("")
    return filename, Version(e_tag, generation or None)
