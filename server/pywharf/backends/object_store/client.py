"""The port for a bucket: the few operations on objects that the backend needs, each bounded in time and size."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec


class ObjectMissingError(Exception):
    """The bucket holds no object of that key."""


class ObjectExistsError(Exception):
    """An object of that key exists, so it was not created. It may be one's own: see `ObjectClient.create`."""


class ObjectChangedError(Exception):
    """The object does not have the expected version, or no longer exists."""


class Version(msgspec.Struct, frozen=True):
    """What a store compares before it replaces an object."""

    e_tag: str
    generation: str | None = None
    """The store's own version, where it compares that instead."""


class Stat(msgspec.Struct, frozen=True, gc=False):
    """An object without its content."""

    key: str
    size: int
    version: Version
    modified: datetime


class Got(msgspec.Struct, frozen=True, gc=False):
    """An object with its content."""

    content: bytes
    stat: Stat


class ObjectClient(Protocol):
    """The objects of one bucket.

    Every method may raise BackendUnavailableError, with a sentence that says what to do. A key that no store allows
    counts as missing.
    """

    async def get(self, key: str, most: int) -> Got:
        """Read an object. One over `most` bytes has empty content. Raises ObjectMissingError."""

    async def get_if_changed(self, key: str, known: Version, most: int) -> Got | None:
        """Read an object unless it has the known version; then return None. Raises ObjectMissingError."""

    async def head(self, key: str) -> Stat:
        """Look up an object. Raises ObjectMissingError."""

    def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `first` to `last`, inclusive. Raises ObjectMissingError."""

    async def create(self, key: str, content: bytes) -> Version:
        """Create an object of that content.

        Raises ObjectExistsError. After a lost answer this may be one's own object, so callers compare the content.
        """

    async def replace(self, key: str, content: bytes, expected: Version) -> Version:
        """Replace the object of that version.

        Raises ObjectChangedError. After a lost answer the new object may be one's own, so callers read it again.
        """

    async def put(self, key: str, content: bytes) -> Version:
        """Write an object, whatever it was before."""

    async def upload(self, key: str, path: Path) -> None:
        """Write a large file to a key that nobody else uses, in parts, with bounded memory."""

    async def copy_new(self, source: str, target: str) -> None:
        """Copy an object within the bucket. Raises ObjectExistsError, as `create` does, and ObjectMissingError."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are ignored."""

    def pages(self, folder: str, after: str | None = None) -> AsyncIterator[Sequence[Stat]]:
        """List the objects in a folder (without a final '/') and its folders, sorted by key, after the key `after`."""

    async def sign(self, key: str, seconds: int) -> str:
        """Return a URL that anybody may read the object with for so long."""

    async def aclose(self) -> None:
        """Release the client's resources."""
