"""The writer of statuses while nothing is rendered: the server is missing, malformed or blocked."""

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Final

from pywharf.config.repo_config import BackendSpec
from pywharf_operator.reconciling.observed import STRAYS, Observed
from pywharf_operator.render import Environment, Finding, RepoVerdict, Resolution, resolve
from pywharf_operator.render.resolve.shares import round_robin
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import REPO, SERVER
from pywharf_operator.status.conditions import malformed_status
from pywharf_operator.status.served import counts_of
from pywharf_operator.status.unserved import (
    blocked_repos,
    blocked_server,
    held_server,
    not_served_yet,
    strays,
    unserved_status,
)
from pywharf_operator.status.writer import Statuses

_CHUNK: Final = 100
"""Statuses of repos without a server that are written between two checks which servers have appeared."""


class UnservedStatuses:
    """Writes the statuses of repos without a server, and of servers that are not rendered."""

    def __init__(
        self,
        statuses: Statuses,
        specs: Mapping[str, type[BackendSpec]],
        counted: Callable[[ObjectKey, Mapping[tuple[str, str], int]], None],
    ) -> None:
        self._statuses = statuses
        self._specs = specs
        self._counted = counted

    async def write_strays(
        self, observed: Observed, unreadable: frozenset[str], appeared: Container[ObjectKey], now: datetime
    ) -> None:
        """Write the statuses of all repos without a server. Objects of an unreadable server are left in place.

        `unreadable` are the namespaces whose servers cannot be read. `appeared` holds the servers that were reconciled.
        """
        missing, waiting = strays(await self._resolved(observed), unreadable)
        ordered = round_robin([*missing, *waiting], lambda one: one.repo.key.namespace)
        for start in range(0, len(ordered), _CHUNK):
            # The reconcile of a server that appeared in between has written the statuses of its repos.
            chunk = [
                one
                for one in ordered[start : start + _CHUNK]
                if one.repo.server_key not in appeared or one.repo.server_key.namespace in unreadable
            ]
            await self._write_repos(observed, chunk, now)
        await self.write_malformed(observed, now)
        self._counted(STRAYS, counts_of([unserved_status(one, now) for one in missing]))

    async def write_malformed_server(self, observed: Observed, now: datetime) -> None:
        """Report on the server why it cannot be parsed. Its objects are left in place."""
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        assert observed.server_fault is not None  # noqa: S101 - it was not parsed
        status = malformed_status(observed.server_raw, observed.server_fault, now)
        await self._statuses.write(SERVER, [(observed.server_raw, status)], now)
        await self._write_repos(observed, not_served_yet(await self._resolved(observed), observed.key), now)
        await self.write_malformed(observed, now)

    async def write_blocked(self, observed: Observed, server: PackageServer, finding: Finding, now: datetime) -> None:
        """Write the status of a server that cannot be configured, and those of its repos that have none."""
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        repos = blocked_repos(await self._resolved(observed), server.key, observed.raws, now)
        await self._statuses.write(REPO, repos, now)
        status = blocked_server(server, len(observed.repos) + len(observed.malformed), finding, now)
        await self._statuses.write(SERVER, [(observed.server_raw, status)], now)

    async def write_held(self, observed: Observed, server: PackageServer, finding: Finding, now: datetime) -> None:
        """Write why nothing is applied for a server that runs on, and the statuses of its repos that have none."""
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        repos = blocked_repos(await self._resolved(observed), server.key, observed.raws, now)
        await self._statuses.write(REPO, repos, now)
        await self._statuses.write(SERVER, [(observed.server_raw, held_server(server, finding, now))], now)

    async def write_malformed(self, observed: Observed, now: datetime) -> None:
        """Write the statuses of the repos that passed the schema and cannot be parsed."""
        wanted = [(one.raw, malformed_status(one.raw, one.finding, now)) for one in observed.malformed]
        await self._statuses.write(REPO, wanted, now)

    async def _write_repos(self, observed: Observed, verdicts: Sequence[RepoVerdict], now: datetime) -> None:
        wanted = [(observed.raws[verdict.repo.key], unserved_status(verdict, now)) for verdict in verdicts]
        await self._statuses.write(REPO, wanted, now)

    async def _resolved(self, observed: Observed) -> Resolution:
        return await asyncio.to_thread(resolve, observed.snapshot, Environment(specs=self._specs))
