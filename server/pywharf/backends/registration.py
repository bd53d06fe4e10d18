"""What a backend's module registers under the entry point group `pywharf.backends`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.names import RepoName
from pywharf.egress.sessions import Egress
from pywharf.index.ports import Backend


class OpenBackend(msgspec.Struct, frozen=True):
    """What a backend is opened with."""

    spec: BackendSpec
    name: RepoName
    root: Path
    """Folder for what is kept on disk."""
    secret: str | None
    """What the server itself reads and writes the storage with; None where none was given."""
    is_job: bool = False
    """Whether one run of update_index uses it, which may wait where a server must not."""
    egress: Egress = Egress()
    """Which hosts may be connected to."""

    def __repr__(self) -> str:
        """Nothing of the secret."""
        return f"OpenBackend({self.name})"


class BackendCommand(msgspec.Struct, frozen=True):
    """A command that comes with a backend. It is imported with every other one, so `run` imports what it needs."""

    settings: type[msgspec.Struct]
    """Each field is a flag: its type and description (msgspec.Meta); one without a default must be given."""
    run: Callable[[Any], None]
    """Called with the settings. Raises PywharfError."""
    help: str


class BackendType(msgspec.Struct, frozen=True):
    """A kind of storage: its configuration, how to open one, and the commands that come with it."""

    spec: type[BackendSpec]
    open: Callable[[OpenBackend], Backend]
    commands: Mapping[str, BackendCommand] = {}
    """Shown and called as `<type>.<name>`."""
    needs_secret: bool = False
    """Whether the server cannot read the storage without an admin secret."""
