"""Servers that mirror another index: one or several replicas with one cache, in a folder or in a bucket."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.object_stores.store import ObjectStore
from support.server.calling import Reply, call
from support.server.index_client import sha256
from support.server.repos import table
from support.server.serving import Server, running
from support.waiting import wait_for

AWAY = "urn:pywharf:problem:upstream-away"
"""The type of the problem that a 504 shows while an index is away."""
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


def mirror(name: str, url: str, **upstream: object) -> str:
    """Return the table of a repo that keeps the pages and files of the index at `url`."""
    fields = {"mode": "Cached", "url": url, **upstream}
    inline = ", ".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
    return table(name, f"upstream = {{ {inline} }}")


@dataclass(frozen=True)
class CachePlace:
    """Where servers keep what they fetch: a folder, or a prefix of a bucket. Replicas share it."""

    folder: Path
    """The folder of the configuration, and of the cache itself unless it is in a bucket."""
    flags: tuple[str, ...]
    kind: str

    @property
    def content(self) -> Path:
        """The cache's own folder."""
        return self.folder / "kept"

    def wait_for(self, content: bytes) -> None:
        """Wait until a cache in a folder has a file with this content. Clients may have it earlier."""
        name = f"*{sha256(content)}*"

        def is_kept() -> bool:
            with contextlib.suppress(FileNotFoundError):  # the file's lock has the same name, is empty, and goes
                return any(path.stat().st_size == len(content) for path in self.content.rglob(name))
            return False

        wait_for(is_kept, "the file to be kept")


def cache_place(folder: Path, store: ObjectStore | None = None, **fields: Any) -> CachePlace:
    """Write a cache's configuration. `store` is the bucket's; None: a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, Any] = {"type": "file_system", "folder": str(folder / "kept")}
    if store is not None:
        (folder / "secret").write_text(store.secret)
        lines = store.table()
    text = [f"{key} = {json.dumps(value)}" for key, value in (lines | fields).items()]
    if store is not None:
        text.append(f"secret = {{ file = {json.dumps(str(folder / 'secret'))} }}")
    path = folder / "cache.toml"
    path.write_text("\n".join(text) + "\n")
    return CachePlace(folder, (f"--cache_config={path}",), lines["type"])


@contextlib.contextmanager
def replicas(
    folder: Path, place: CachePlace, config: str, count: int = 2, flags: Sequence[str] = ()
) -> Iterator[list[Server]]:
    """Run servers on one ROOT that share the cache."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                running(folder / f"{number}", [*place.flags, *flags], config=config, root=folder / "root")
            )
            for number in range(count)
        ]


@dataclass(frozen=True)
class Mirror:
    """A client of one mirroring repo. `url` is the server's, without a trailing slash."""

    url: str
    name: str

    def get(self, path: str, method: str = "GET", *, timeout_s: float = 60.0, **headers: str) -> Reply:
        """Send a request for a path below the index, and follow a redirect to a bucket."""
        given = {**JSON, **{key.replace("_", "-"): value for key, value in headers.items()}}
        url = f"{self.url}/repo/{self.name}/simple/{path}"
        reply = call(url, method, auth=f"{self.name}:{self.name}-read", headers=given, timeout_s=timeout_s)
        return call(reply.header("Location") or "", method) if reply.status == 302 else reply

    def files(self, project: str) -> dict[str, dict[str, Any]]:
        """Return the files of a project's page by name."""
        reply = self.get(f"{project}/")
        assert reply.status == 200, f"{project}: {reply}"
        return {file["filename"]: file for file in reply.json()["files"]}


@contextlib.contextmanager
def in_threads(threads: Sequence[threading.Thread]) -> Iterator[None]:
    """Run threads within the context, and wait for their end on leaving it."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
