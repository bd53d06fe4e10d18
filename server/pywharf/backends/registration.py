"""What a backend's module registers under the entry point group `pywharf.backends`."""

from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec

from pywharf.config import BackendSpec
from pywharf.core.names import RepoName
from pywharf.index.ports import Backend


class OpenBackend(msgspec.Struct, frozen=True):
    """What a backend is opened with."""

    spec: BackendSpec
    name: RepoName
    root: Path
    """Folder for what is kept on disk."""
    secret: str | None
    """What the server itself reads and writes the storage with; None where none was given."""

    def __repr__(self) -> str:
        """Nothing of the secret."""
        return f"OpenBackend({self.name})"


class BackendType(msgspec.Struct, frozen=True):
    """A kind of storage: its configuration, how to open one, and the commands that come with it."""

    spec: type[BackendSpec]
    open: Callable[[OpenBackend], Backend]
    commands: Mapping[str, click.Command] = {}
    """Shown and called as `<type>.<name>`."""
    needs_secret: bool = False
    """Whether the server cannot read the storage without an admin secret."""
