"""The types that a backend registers with, under the entry point group `pywharf.backends`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.names import RepoName
from pywharf.egress.sessions import Egress
from pywharf.index.ports import Backend


class OpenBackend(msgspec.Struct, frozen=True):
    """The arguments that a backend is opened with."""

    spec: BackendSpec
    name: RepoName
    root: Path
    """Folder for the backend's data on disk."""
    secret: str | None
    """The server's own secret for reading and writing the storage; None if none was given."""
    is_job: bool = False
    """Whether the backend is opened for one run of update_index. Such a run may wait where a server must not."""
    egress: Egress = Egress()
    """The hosts that the backend may connect to."""

    def __repr__(self) -> str:
        """Leave out the secret."""
        return f"OpenBackend({self.name})"


class BackendCommand(msgspec.Struct, frozen=True):
    """A command of a backend. All commands are imported together, so `run` itself imports what it needs."""

    settings: type[msgspec.Struct]
    """A struct. Each field is a flag: its type and description (msgspec.Meta). One without a default is required."""
    run: Callable[[Any], None]
    """The function that is called with the settings. Raises PywharfError."""
    help: str


class BackendType(msgspec.Struct, frozen=True):
    """A kind of storage: its configuration, the function that opens one, and the commands that come with it."""

    spec: type[BackendSpec]
    open: Callable[[OpenBackend], Backend]
    commands: Mapping[str, BackendCommand] = {}
    """The commands by name; each is shown and called as `<type>.<name>`."""
    needs_secret: bool = False
    """Whether the server needs an admin secret to read the storage."""
