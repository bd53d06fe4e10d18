"""PURE. The objects that the reconcile of one server depends on, as they were read."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from pywharf.core.names import REPO_NAME_PATTERN
from pywharf_operator.cluster.live import server_named_by
from pywharf_operator.reconciling.parsed_objects import Malformed
from pywharf_operator.render import Finding, NameClaim, Snapshot
from pywharf_operator.spec import ObjectKey, PackagePolicy, PackageRepo, PackageServer, Secret
from pywharf_operator.spec.kinds import Json

STRAYS: Final = ObjectKey("", "repos without a server")
"""Stands for every missing server: the repos that name one are reconciled together."""
POLICIES: Final = ObjectKey("", "policies")
"""Stands for the statuses of all policies: a policy may be about several servers."""
_NAME: Final = re.compile(REPO_NAME_PATTERN)


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that were read. Those that are being deleted count as gone."""

    key: ObjectKey
    server: PackageServer | None
    server_raw: Json | None
    """None if the repos name servers that are missing, being deleted or unreadable."""
    server_fault: Finding | None
    """Why the server cannot be parsed, if it exists."""
    repos: tuple[PackageRepo, ...]
    """The repos that name the server."""
    raws: Mapping[ObjectKey, Json]
    """The same repos and the malformed ones, as the API server returned them."""
    malformed: tuple[Malformed, ...]
    secrets: tuple[Secret, ...]
    namespaces: Mapping[str, Mapping[str, str]] | None
    """Labels by namespace; None if namespaces are not watched."""
    watched: tuple[str, ...] | None = None
    """The watched namespaces; None: all."""
    unreadable: frozenset[str] = frozenset()
    """Namespaces of which nothing could be read; none of their repos is in `repos`."""
    policies: tuple[PackagePolicy, ...] = ()
    """The policies that are about the server or its repos."""
    malformed_policies: tuple[Malformed, ...] = ()
    unlisted_policies: frozenset[str] | None = frozenset()
    """Namespaces whose policies could not be read; None: all."""
    authority: bytes | None = None
    """The value of `ca.crt` in the server's TLS Secret, if a repo's clients are given it."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return f"Observed({self.key})"

    @property
    def snapshot(self) -> Snapshot:
        """The input of rendering."""
        return Snapshot(
            repos=self.repos,
            servers=() if self.server is None else (self.server,),
            secrets=self.secrets,
            namespaces=self.namespaces,
            claims=tuple(_claim(one) for one in self.malformed),
            watched=self.watched,
            policies=self.policies,
            unparsed_policies=frozenset(one.key for one in self.malformed_policies),
            unlisted_policies=self.unlisted_policies,
            authorities={} if self.authority is None else {self.key: self.authority},
        )


class ServerKeys(msgspec.Struct, frozen=True):
    """Which servers exist, and which do not although repos name them."""

    existing: frozenset[ObjectKey]
    missing: frozenset[ObjectKey]

    @property
    def to_reconcile(self) -> frozenset[ObjectKey]:
        """The keys of a full resync: every server, STRAYS for all missing ones, and POLICIES for all policies."""
        return self.existing | {POLICIES} | ({STRAYS} if self.missing else frozenset())


def _claim(one: Malformed) -> NameClaim:
    """Return the name that a malformed repo held before and still holds; its status may still contain it."""
    holders = (one.raw.get("spec"), one.raw.get("status"))
    names = (holder.get("repoName") for holder in holders if isinstance(holder, dict))
    name = next((name for name in names if isinstance(name, str) and _NAME.fullmatch(name)), one.key.name)
    try:
        created = msgspec.convert(one.raw["metadata"].get("creationTimestamp"), datetime | None)
    except msgspec.ValidationError:
        created = None
    return NameClaim(server_named_by(one.raw), name, one.key, created)
