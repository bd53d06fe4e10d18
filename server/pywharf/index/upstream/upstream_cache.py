"""The server's pull-through cache, as its repos use it."""

import msgspec

from pywharf.index.ports import CacheStore
from pywharf.index.upstream.kept_files import KeptFiles
from pywharf.index.upstream.kept_pages import KeptPages
from pywharf.index.upstream.pinned_bytes import PinnedBytes


class UpstreamCache(msgspec.Struct, frozen=True):
    """The cache of one worker, for all of its repos."""

    store: CacheStore
    max_bytes: int
    """Bytes of all kept files and pages."""
    keep_pages_s: float
    """Seconds that a page is served while its index fails."""
    pages: KeptPages
    files: KeptFiles
    pinned: PinnedBytes
