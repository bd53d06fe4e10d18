"""A good client of a server, at rest and under load from hostile clients, tenants and storages."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support.distributions.wheels import wheel
from support.parts import CHECKOUT
from support.server.dribbling import dribbling
from support.server.index_client import IndexClient
from support.server.serving import Server, running

SLOW_REPOS = 4
BEAT_S = 0.5
"""Seconds between two rounds of the good client: an upload, pages and a file."""
_TENANT = """
[{name}]
type = "{type}"
{fields}
"""


def config(storage_url: str) -> tuple[str, str]:
    """Return configuration and admin secrets: repos `demo` (good), `noisy` (hostile) and some on dribbling storages."""
    repos = [
        ("demo", "file_system", 'read_secret = "demo-read"\nwrite_secret = "demo-write"'),
        ("noisy", "file_system", 'read_secret = "noisy-read"\nwrite_secret = "noisy-write"'),
    ]
    slow = [f"slow-{number}" for number in range(SLOW_REPOS)]
    github = f'owner = "owner"\nrepo = "repo"\napi_url = "{storage_url}"'
    repos += [(name, "github", github) for name in slow]
    tables = "".join(_TENANT.format(name=name, type=type_, fields=fields) for name, type_, fields in repos)
    return tables, "".join(_TENANT.format(name=name, type="github", fields='raw = "ghp_token"') for name in slow)


@dataclass
class Account:
    """The measurements of a good client."""

    seconds: list[float] = field(default_factory=list)
    """Seconds that each request took."""
    failures: list[str] = field(default_factory=list)
    memory: int = 0
    """Most resident bytes that the server's processes held at any time."""
    hostile: dict[str, int] = field(default_factory=dict)
    """Number of responses to the hostile clients, by kind and status."""

    @property
    def p99_s(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]

    @property
    def median_s(self) -> float:
        return sorted(self.seconds)[len(self.seconds) // 2]


class GoodClient:
    """A client that publishes a wheel, reads its page and downloads it, repeatedly."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._client = IndexClient.of(server)
        self._folder = folder
        self._number = 0
        folder.mkdir()

    def use(self, server: Server, during: "subprocess.Popen[str] | None", seconds: float) -> Account:
        """Repeat rounds for `seconds`, or until the process `during` has ended."""
        account = Account()
        process = psutil.Process(server.process.pid)
        end = time.monotonic() + seconds
        while during.poll() is None if during is not None else time.monotonic() < end:
            self._round(account)
            family = [process, *process.children(recursive=True)]
            account.memory = max(account.memory, sum(int(one.memory_info().rss) for one in family))
            time.sleep(BEAT_S)
        return account

    def _round(self, account: Account) -> None:
        self._number += 1
        path = wheel(self._folder, f"good-{self._number % 10}", f"{self._number}.0")
        project = f"good-{self._number % 10}"
        client = self._client
        self._timed(account, "upload", lambda: client.upload(path).status)
        self._timed(account, "page", lambda: client.get(f"{project}/").status)
        self._timed(account, "file", lambda: client.download(project, path.name).status)
        self._timed(account, "root page", lambda: client.get("").status)

    def _timed(self, account: Account, what: str, ask: Callable[[], int]) -> None:
        started = time.monotonic()
        try:
            status = str(ask())
        except OSError as error:
            status = repr(error)
        account.seconds.append(time.monotonic() - started)
        if status != "200":
            account.failures.append(f"{what} {self._number}: {status} after {account.seconds[-1]:.1f} s")


def measure(folder: Path, rest_s: float, load_s: float, flags: tuple[str, ...] = ()) -> tuple[Account, Account]:
    """Return the good client's account at rest and under load."""
    with dribbling() as storage:
        tables, secrets = config(storage.url)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "admin.toml").write_text(secrets)
        flags = (f"--admin_secret={folder / 'admin.toml'}", "--access_log=off", "--internal_port=0", *flags)
        with running(folder, flags, config=tables) as server:
            client = GoodClient(server, folder / "wheels")
            client.use(server, None, 2.0)  # warm up: what the server opens only once is open
            rest = client.use(server, None, rest_s)
            with _hostile(server, load_s) as hostile:
                load = client.use(server, hostile, load_s)
                load.hostile = json.loads(hostile.communicate(timeout=60)[0] or "{}")
            assert hostile.returncode == 0, f"the hostile clients ended with status {hostile.returncode}"
    return rest, load


@contextlib.contextmanager
def _hostile(server: Server, seconds: float) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "support.server.hostile_clients", server.url, str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "tests")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    watchdog = threading.Timer(seconds + 60, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
            process.wait(10)
