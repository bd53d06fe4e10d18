"""An object store that runs for tests, and the new, empty storages in it."""

import contextlib
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pywharf.backends.opening import open_backend, spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import parse_spec
from pywharf.core.names import RepoName
from pywharf.index.ports import Backend
from support.waiting import wait_for

START_S = 30.0


@dataclass(frozen=True)
class ObjectStore:
    """A running store with one bucket for all tests."""

    kind: str
    endpoint: str
    secret: str
    """The secret of a repo in it."""
    place: Mapping[str, Any]
    """The fields that name the bucket."""
    folder: Path
    """The folder of the store's data, if it is on this machine."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def table(self, **fields: Any) -> dict[str, Any]:
        """Return the table of a new, empty storage: a prefix of its own."""
        return {
            "type": self.kind,
            **self.place,
            "endpoint": self.endpoint,
            "allow_http": True,
            "prefix": f"test-{uuid.uuid4().hex[:12]}/",
            **self.extra,
            **fields,
        }

    def open(self, table: Mapping[str, Any], root: Path, secret: str | None = None) -> Backend:
        """Open a storage as a server would."""
        spec = parse_spec(table, spec_types(), "the test")
        return open_backend(OpenBackend(spec, RepoName("team-a"), root, self.secret if secret is None else secret))


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: Mapping[str, str], ready: Callable[[], bool]) -> Iterator[None]:
    """Run a store's process within the context, once `ready()` is true."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, env=dict(environment))
    try:
        wait_for(lambda: ready() or running.poll() is not None, command[0], longest_s=START_S)
        assert running.poll() is None, log.read_text()
        yield
    finally:
        running.kill()
        running.wait()


def answers(port: int) -> bool:
    """Return whether something listens on that port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
