"""Everything that rendering reads, and nothing else."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf_operator.render.resolve.kept import KeptRepo
from pywharf_operator.spec import ObjectKey, PackageRepo, PackageServer, Secret

CREDENTIALS_FOLDER = "/etc/pywharf"
"""Where a pod mounts the configuration and the credentials, both as one volume, so that they lie side by side."""


class NameClaim(msgspec.Struct, frozen=True):
    """A name that a repo holds although it cannot be read: for a moment's mistake it must not pass to another."""

    server: ObjectKey
    name: str
    repo: ObjectKey
    created: datetime | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The resources at one moment, each key once."""

    repos: tuple[PackageRepo, ...] = ()
    servers: tuple[PackageServer, ...] = ()
    secrets: tuple[Secret, ...] = ()
    claims: tuple[NameClaim, ...] = ()
    kept: tuple[KeptRepo, ...] = ()
    """What is served of repos that cannot be read now."""
    watched: tuple[str, ...] | None = None
    """Namespaces that are looked after; None: all that there are."""
    namespaces: Mapping[str, Mapping[str, str]] | None = None
    """Labels by namespace. None: they are not watched, so that no selector can be applied."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What rendering depends on besides the resources."""

    specs: Mapping[str, type[BackendSpec]]
    """The configuration structs of the installed backends, by type."""
    credentials_folder: str = CREDENTIALS_FOLDER
    """Where the server finds the files of the credentials Secret."""
    image: str = ""
    """The image of servers that name none."""
    apis: frozenset[str] = frozenset()
    """Kinds that the cluster has beyond Kubernetes' own, such as ServiceMonitor and HTTPRoute."""
    session_key: bytes = b""
    """What the revision is keyed with, so that it tells nothing of weak secrets; empty where nobody else sees it."""

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "Environment(...)"
