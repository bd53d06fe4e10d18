"""Every store that the pull-through cache may lie in, for the contract suite. To add one, add an entry to CACHES."""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pywharf.backends.object_store.cache_store import BucketCache
from pywharf.backends.object_store.client import Stat
from pywharf.backends.opening import open_cache
from pywharf.config.cache_config import CACHES as CONFIGURED
from pywharf.config.cache_config import FileSystemCache
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import About, CacheStore, Content, KeptFile, LocalContent, Pin, RedirectContent
from support.object_stores.memory_client import MemoryClient
from support.object_stores.store import ObjectStore

OpenCache = Callable[[], CacheStore]
"""A function that opens the same store as one more server would."""


def _file_system(folder: Path) -> OpenCache:
    return lambda: open_cache(FileSystemCache(), folder)


def _memory(folder: Path) -> OpenCache:
    objects: dict[str, tuple[bytes, Stat]] = {}
    return lambda: BucketCache("cache/", folder, None, lambda: MemoryClient(time.time, objects))


def bucket_cache(store: ObjectStore, folder: Path, **fields: Any) -> OpenCache:
    """Return a function that opens a new, empty cache in an object store."""
    table = store.table(**{"download": "stream", "secret": "given beside it", **fields})
    kind = table.pop("type")
    config = CONFIGURED[kind](**table)
    return lambda: open_cache(config, folder, store.secret)


CACHES: Mapping[str, Callable[[Path], OpenCache]] = {"file_system": _file_system, "memory": _memory}
"""The stores that need no fixture: each makes a new, empty one, given a folder for the files on disk."""


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def about(filename: str = "acme-1.0.tar.gz", project: str = "acme") -> About:
    return About(ProjectName(project), filename, "https://index.example/simple/")


async def keep(store: CacheStore, content: bytes, of: About | None = None) -> str:
    """Keep a file as the cache does after it was fetched and verified; returns its digest."""
    digest = digest_of(content)
    path = await spooled(store, content)
    try:
        await store.keep(digest, path, of or about())
    finally:
        path.unlink(missing_ok=True)
    return digest


_numbers = iter(range(10**9))


async def spooled(store: CacheStore, content: bytes) -> Path:
    """Write a file into the spool folder."""
    await store.lock(digest_of(b"spool folder"), 0.001)  # the folder exists after any call
    path = store.spool_folder / f"{next(_numbers)}.part"
    path.write_bytes(content)
    return path


async def content_of(opened: tuple[int, Content] | None) -> bytes | None:
    """Return what was opened, after comparing its size."""
    if opened is None:
        return None
    size, content = opened
    assert not isinstance(content, RedirectContent)
    if isinstance(content, LocalContent):
        found = content.path.read_bytes()
    else:
        assert content.size == size
        found = b"".join([part async for part in content.open(0, size - 1)]) if size else b""
    assert len(found) == size
    return found


async def all_pins(store: CacheStore) -> dict[RepoName, tuple[Pin, ...]]:
    """Return what all repos have pinned."""
    return {repo: await store.pins(repo) for repo in await store.pinning_repos()}


async def kept(store: CacheStore) -> dict[str, KeptFile]:
    """Return all kept files, by digest."""
    found = [file async for portion in store.kept() for file in portion]
    by_digest = {file.sha256: file for file in found}
    assert len(by_digest) == len(found)
    return by_digest
