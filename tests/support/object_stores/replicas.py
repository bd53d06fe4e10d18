"""Servers whose repo lies in one bucket, and one address before them."""

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.object_stores.store import ObjectStore
from support.server.serving import Server, running


def write_config(folder: Path, store: ObjectStore, table: dict[str, Any], name: str = "demo") -> list[str]:
    """Write a repo's configuration and admin secret to the folder; returns the flags for a server and for a job."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"read_secret": f"{name}-read", "write_secret": f"{name}-write"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (table | own).items()]
    (folder / "config.toml").write_text(f"[{name}]\n" + "\n".join(lines) + "\n")
    (folder / "secret").write_text(store.secret)
    (folder / "admin.toml").write_text(f'[{name}]\ntype = "{store.kind}"\nfile = "{folder / "secret"}"\n')
    return [f"--config={folder / 'config.toml'}", f"--admin_secret={folder / 'admin.toml'}"]


@contextlib.contextmanager
def replica(folder: Path, flags: list[str]) -> Iterator[Server]:
    """Run one server within the context, with an empty ROOT of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with running(folder, flags, config=None) as server:
        yield server


@dataclass
class Balancer:
    """A load balancer that gives each connection to the next server. Servers may come and go."""

    targets: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with contextlib.closing(writer), contextlib.suppress(asyncio.CancelledError):
            for _ in range(len(self.targets)):
                target = self.targets[next(self._numbers) % len(self.targets)]
                host, _, port = target.rpartition("/")[2].partition(":")
                try:
                    far_reader, far_writer = await asyncio.open_connection(host, int(port))
                except OSError:
                    continue
                with contextlib.closing(far_writer):
                    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
                return

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self.tasks: set[asyncio.Task[None]] = set()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


@contextlib.contextmanager
def balancer(*targets: str) -> Iterator[Balancer]:
    """Run a balancer in a thread within the context."""
    made = Balancer(list(targets))
    started = threading.Event()
    running_: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ended = asyncio.Event()
        running_.append((asyncio.get_running_loop(), ended))
        started.set()
        await ended.wait()
        server.close()
        for task in list(made.tasks):
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield made
    finally:
        loop, ended = running_[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
