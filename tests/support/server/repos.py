"""Many repos on one server, so that each test has its own repo without starting a server."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.clients.computer import Index
from support.server.serving import Server, running


@dataclass(frozen=True)
class Served:
    """A line of the access log."""

    method: str
    path: str
    status: int
    repo: str | None
    agent: str

    @property
    def filename(self) -> str:
        """The last segment of the path; empty for a page."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Repo:
    """A repo of a running server that logs JSON."""

    server: Server
    name: str

    @property
    def reading(self) -> Index:
        return self.index("read")

    @property
    def writing(self) -> Index:
        return self.index("write")

    def index(self, permission: str, address: str = "/repo/{name}/simple/") -> Index:
        """Return the index as a client with the permission "read" or "write" knows it."""
        return Index(self.server.url + address.format(name=self.name), self.name, f"{self.name}-{permission}")

    @property
    def storage(self) -> Path:
        return self.server.root / "cache" / self.name / "storage"

    def served(self) -> list[Served]:
        """Return the answered requests to this repo: those at its own address and those logged with its name."""
        return [s for s in served(self.server) if s.repo == self.name or s.path.startswith(f"/repo/{self.name}/")]

    def fetched(self) -> set[str]:
        """Return the names of the files that were sent, whole or in part."""
        return {s.filename for s in self.served() if s.method == "GET" and s.filename and s.status in {200, 206}}


def served(server: Server) -> list[Served]:
    """Return the lines of the access log, with those of all requests that have been answered."""
    entries = [json.loads(line) for line in server.settled_text().splitlines() if line.startswith('{"time"')]
    return [Served(e["method"], e["path"], e["status"], e["repo"], e["agent"]) for e in entries]


def table(name: str, extra: str = "") -> str:
    """Return a repo's table; its secrets are NAME-read and NAME-write."""
    return f'[{name}]\ntype = "file_system"\nread_secret = "{name}-read"\nwrite_secret = "{name}-write"\n{extra}\n'


@contextlib.contextmanager
def many_repos(folder: Path, count: int, flags: Sequence[str] = (), extra: str = "") -> Iterator[Iterator[Repo]]:
    """Run a server with `count` empty repos; yields an iterator that hands them out."""
    names = [f"repo-{number}" for number in range(count)]
    config = "\n".join(table(name, extra) for name in names)
    with running(folder, ["--access_log=json", *flags], config=config) as server:
        yield iter([Repo(server, name) for name in names])
