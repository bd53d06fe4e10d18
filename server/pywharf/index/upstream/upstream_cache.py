"""The pull-through cache of one worker: its store, and the kept pages and files."""

from typing import Protocol

import msgspec

from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports import Content
from pywharf.index.ports.cache_store import CacheStore
from pywharf.index.upstream.kept_pages import KeptPages
from pywharf.index.upstream.source import Source


class CachedFiles(Protocol):
    """The files of other indexes."""

    async def open(self, source: Source, project: ProjectName, file: File) -> Content:
        """Open a file's content."""

    async def metadata(self, source: Source, project: ProjectName, file: File) -> bytes:
        """Read a file's core metadata."""


class UpstreamCache(msgspec.Struct, frozen=True):
    """What the repos of a worker use of the cache."""

    store: CacheStore
    max_bytes: int
    keep_pages_s: float
    files: CachedFiles
    pages: KeptPages
