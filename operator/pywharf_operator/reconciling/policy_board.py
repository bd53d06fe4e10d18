"""What the last reconcile of each server says about policies. A policy may be about several servers.

It is lost with the process, and complete again once every server was reconciled.
"""

from collections.abc import Collection, Mapping

import msgspec

from pywharf_operator.cluster.kube import Json
from pywharf_operator.render import Finding
from pywharf_operator.spec import ObjectKey
from pywharf_operator.status.policies import PolicyReport


class ServerReport(msgspec.Struct, frozen=True):
    """What one server says about the policies that are about it or its repos."""

    policies: Mapping[ObjectKey, PolicyReport]
    repos: frozenset[ObjectKey] = frozenset()
    """The PackageRepos that name the server."""
    pods: tuple[Json, ...] = ()
    """Its ready replicas: their names and addresses."""
    fault: Finding | None = None
    """Why the server is not configured at all."""


class PolicyBoard:
    """The reports of all servers."""

    def __init__(self) -> None:
        self.servers: dict[ObjectKey, ServerReport] = {}

    def report(self, server: ObjectKey, report: ServerReport) -> bool:
        """Take the report of a server. Return whether it says something else than before."""
        changed = self.servers.get(server) != report
        self.servers[server] = report
        return changed

    def forget_gone(self, existing: Collection[ObjectKey]) -> None:
        """Forget the servers that are gone."""
        for gone in self.servers.keys() - set(existing):
            del self.servers[gone]

    def names(self, target: ObjectKey) -> list[ObjectKey]:
        """Return the servers that have this PackageRepo."""
        return [server for server, report in self.servers.items() if target in report.repos]
