"""The complete input of rendering."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.access.identity_document import Cluster
from pywharf.core.policy.model import Policy
from pywharf_operator.render.resolve.findings import Finding
from pywharf_operator.render.resolve.kept import KeptRepo
from pywharf_operator.spec import ObjectKey, PackagePolicy, PackageRepo, PackageServer, Secret

CREDENTIALS_FOLDER = "/etc/pywharf"
"""Folder where a pod mounts the configuration and the credentials. Both are one volume, so they lie side by side."""


class NameClaim(msgspec.Struct, frozen=True):
    """A name that an unreadable repo still holds. A momentary mistake must not pass it to another repo."""

    server: ObjectKey
    name: str
    repo: ObjectKey
    created: datetime | None


class ClusterKeys(msgspec.Struct, frozen=True):
    """The cluster's issuer and public keys. Neither is given where no cluster is known."""

    found: Cluster | None = None
    """As they were read last."""
    fault: Finding | None = None
    """Why they cannot be read now."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The resources at one moment; each key occurs once."""

    repos: tuple[PackageRepo, ...] = ()
    servers: tuple[PackageServer, ...] = ()
    secrets: tuple[Secret, ...] = ()
    claims: tuple[NameClaim, ...] = ()
    kept: tuple[KeptRepo, ...] = ()
    """Unreadable repos that stay served as they were last applied."""
    policies: tuple[PackagePolicy, ...] = ()
    unparsed_policies: frozenset[ObjectKey] = frozenset()
    """Policies that passed the schema and cannot be parsed."""
    unlisted_policies: frozenset[str] | None = frozenset()
    """Namespaces whose policies cannot be read now; None: all."""
    delivered_policies: tuple[Policy, ...] = ()
    """The policies that the server was given last; read only where some of them may have to stay."""
    meant_servers: Mapping[ObjectKey, ObjectKey] = {}
    """The server that a repo means, by repo, where `up` serves it by another one: policies about it hold there."""
    cluster: ClusterKeys = ClusterKeys()
    """Read only where an access entry names ServiceAccounts."""
    authorities: Mapping[ObjectKey, bytes] = {}
    """The value of `ca.crt` in each server's TLS Secret, by server, where a repo's clients are given it."""
    watched: tuple[str, ...] | None = None
    """Namespaces that the operator watches; None: all."""
    namespaces: Mapping[str, Mapping[str, str]] | None = None
    """Labels by namespace. None: namespaces are not watched, so no selector can be applied."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of rendering besides the resources."""

    specs: Mapping[str, type[BackendSpec]]
    """The configuration structs of the installed backends, by type."""
    credentials_folder: str = CREDENTIALS_FOLDER
    """Folder where the server finds the files of the credentials Secret."""
    image: str = ""
    """The image of servers that name none."""
    apis: frozenset[str] = frozenset()
    """Kinds that the cluster has beyond Kubernetes' own, such as ServiceMonitor and HTTPRoute."""
    now: datetime | None = None
    """The moment with which ends of access entries are compared; None: none has ended."""
    has_pods_without_cache: bool = False
    """Whether pods of the server run that were started before it had a cache, and so cannot open repos with one."""
    session_key: bytes = b""
    """The key of the revision's HMAC, so that the revision reveals nothing about weak secrets. Empty if nobody else
    sees the revision."""

    def __repr__(self) -> str:
        """Hide the key."""
        return "Environment(...)"
