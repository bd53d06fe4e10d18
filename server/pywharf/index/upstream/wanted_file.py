"""What is known of a file of another index before it is fetched."""

from urllib.parse import urldefrag

import msgspec

from pywharf.core.errors import WrongContentError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports.cache_store import About
from pywharf.index.upstream.first_digests import key_of
from pywharf.index.upstream.source import Source

_LEAST_RATE = 64 * 1024
"""Bytes a second that a fetch must bring on average, after `_GRACE_S`."""
_GRACE_S = 60.0


class WantedFile(msgspec.Struct, frozen=True):
    """A file to fetch."""

    source: Source
    project: ProjectName
    file: File
    max_bytes: int
    """The most bytes that are taken, whatever the other index says."""

    @property
    def sha256(self) -> str:
        """The digest that the content must have; empty if nobody knows it."""
        return self.file.sha256

    @property
    def key(self) -> str:
        """What identifies the file to the store's locks: 64 hex digits."""
        return self.file.sha256 or key_of(self.source.url, "", self.project, self.file.filename)

    @property
    def flight(self) -> tuple[str, Source, int]:
        """What identifies one fetch. Callers with another source, or another bound, get a fetch of their own."""
        return self.key, self.source, self.max_bytes

    @property
    def url(self) -> str:
        """The file's address, which is not trusted."""
        return urldefrag(self.file.location or "")[0]

    @property
    def metadata_url(self) -> str:
        """The address of its core metadata (PEP 658)."""
        return self.url + METADATA_SUFFIX

    @property
    def about(self) -> About:
        """Where it came from."""
        return About(self.project, self.file.filename, self.source.url)

    @property
    def about_metadata(self) -> About:
        """Where its core metadata came from."""
        return About(self.project, self.file.filename + METADATA_SUFFIX, self.source.url)

    def size_of(self, announced: int | None) -> int | None:
        """Return the size that the content must have, given what the response announces; None: nobody knows.

        Raises WrongContentError if the two differ, or if the file is too large.
        """
        size = self.file.size if self.file.size is not None else announced
        if announced is not None and announced != size:
            raise WrongContentError(
                f"The upstream index sends {announced} bytes for {self.file.filename!r}; its page says {size}."
            )
        if size is not None and size > self.max_bytes:
            raise too_large(self)
        return size


def too_large(wanted: WantedFile) -> WrongContentError:
    """Return the error for a file past the bound."""
    return WrongContentError(
        f"{wanted.file.filename!r} of the upstream index is over this repo's limit of {wanted.max_bytes} bytes "
        "(max_file_bytes)."
    )


def seconds_for(size: int) -> float:
    """Return the longest that so many bytes may take."""
    return _GRACE_S + size / _LEAST_RATE
