"""Everything that rendering reads, and nothing else."""

from collections.abc import Mapping

import msgspec

from pywharf.config import BackendSpec
from pywharf_operator.spec import PackageRepo, PackageServer, Secret

CREDENTIALS_FOLDER = "/etc/pywharf/credentials"
"""Where a pod mounts the credentials Secret."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The resources at one moment, each key once."""

    repos: tuple[PackageRepo, ...] = ()
    servers: tuple[PackageServer, ...] = ()
    secrets: tuple[Secret, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] | None = None
    """Labels by namespace. None: they are not watched, so that no selector can be applied."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What rendering depends on besides the resources."""

    specs: Mapping[str, type[BackendSpec]]
    """The configuration structs of the installed backends, by type."""
    credentials_folder: str = CREDENTIALS_FOLDER
    """Where the server finds the files of the credentials Secret."""
    session_key: bytes = b""
    """What the revision is keyed with, so that it tells nothing of weak secrets; empty where nobody else sees it."""

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "Environment(...)"
