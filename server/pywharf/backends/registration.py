"""The types that a backend registers with, under the entry point group `pywharf.backends`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from pywharf.config.repo_config import BackendSpec, type_of
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.egress.policy import Egress
from pywharf.index.ports import Backend

S = TypeVar("S", bound=BackendSpec)


class OpenBackend(msgspec.Struct, Generic[S], frozen=True):
    """The arguments that a backend is opened with."""

    spec: S
    name: RepoName
    root: Path
    """Folder for the backend's data on disk."""
    secret: str | None
    """The server's own secret for reading and writing the storage; None if none was given."""
    is_job: bool = False
    """Whether the backend is opened for one run of update_index. Such a run may wait where a server must not."""
    egress: Egress = Egress()
    """The hosts that the backend may connect to."""

    def needed_secret(self) -> str:
        """Return the secret of a storage that needs one to be read. Raises InvalidConfigError if there is none."""
        if self.secret is None:
            raise InvalidConfigError(
                f"The repo {self.name!r} has no admin secret, which a {type_of(self.spec)} backend is read with; "
                "add its table to the file of --admin_secret."
            )
        return self.secret

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


class BackendType(msgspec.Struct, Generic[S], frozen=True):
    """A kind of storage: its configuration, the function that opens one, and the commands that come with it."""

    spec: type[S]
    """The struct of its fields. Its tag is the type's name."""
    open: Callable[[OpenBackend[S]], Backend]
    """A function that returns a repo's backend. It reads nothing yet. Raises InvalidConfigError."""
    commands: Mapping[str, BackendCommand] = {}
    """The commands by name; each is shown and called as `<type>.<name>`."""
