"""PURE. The statuses of repos and servers while nothing is rendered: the server is missing, malformed or blocked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from pywharf_operator.cluster.kube import Json
from pywharf_operator.render import Finding, RepoVerdict, Resolution, ServerVerdict
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus, RepoCounts
from pywharf_operator.status.conditions import READY, conditions_of, repo_status, server_status

NOT_SERVED: Final = Finding(
    status=False, reason="NotServed", message="The repo is not served; other conditions say why."
)
NO_UPDATES: Final = Finding(status=None, reason="NotServed", message="Its index is not updated while it is not served.")
_CAN_RUN: Final = Finding(status=True, reason="Accepted", message="The server can run as it is described.")

RepoStatuses = list[tuple[Json, PackageRepoStatus]]
"""Repos, as the API server returned them, each with its new status."""


def unserved_status(verdict: RepoVerdict, now: datetime, programmed: Finding = NOT_SERVED) -> PackageRepoStatus:
    """Return the status of a repo without a server, in the same words as if a server did not admit it."""
    return repo_status(verdict, url=None, programmed=programmed, index_up_to_date=NO_UPDATES, index=None, now=now)


def not_served_yet(resolution: Resolution, server: ObjectKey) -> Sequence[RepoVerdict]:
    """Return the repos that get a new status if the server is malformed: those not known to be served.

    They are repos of other namespaces and get the status that they would get if the server did not exist, so that
    nobody finds out whether it does.
    """
    return [one for one in resolution.repos if not _is_accepted(one) and one.repo.key.namespace != server.namespace]


def strays(resolution: Resolution, unreadable: frozenset[str]) -> tuple[list[RepoVerdict], list[RepoVerdict]]:
    """Return the repos whose server is missing, and those that wait for a server that cannot be read.

    `unreadable` are the namespaces whose servers cannot be read. An accepted repo there is still served.
    """
    missing = [one for one in resolution.repos if one.repo.server_key.namespace not in unreadable]
    waiting = [
        msgspec.structs.replace(one, accepted=_unreadable_server(one.repo.server_key))
        for one in resolution.repos
        if one.repo.server_key.namespace in unreadable and not _is_accepted(one)
    ]
    return missing, waiting


def blocked_repos(
    resolution: Resolution, server: ObjectKey, raws: Mapping[ObjectKey, Json], now: datetime
) -> RepoStatuses:
    """Return the new statuses of the repos whose server cannot be configured: of those that have none.

    The other repos keep their status, except those whose namespace is not allowed.
    """
    # A repo may be in another namespace, so only the server's status names the server's objects.
    message = f"The PackageServer {server} cannot be configured; its condition ConfigRendered says why."
    waits = Finding(status=False, reason="ConfigNotRendered", message=message)
    return [
        (raws[repo.repo.key], unserved_status(repo, now, waits if repo.served else NOT_SERVED))
        for repo in resolution.repos
        if repo.repo.status is None or repo.accepted.reason == "NamespaceNotAllowed"
    ]


def blocked_server(server: PackageServer, repos: int, finding: Finding, now: datetime) -> PackageServerStatus:
    """Return the status of a server that cannot be configured. `repos` is the number of repos that name it."""
    return server_status(
        ServerVerdict(server=server, accepted=_CAN_RUN, repos=()),
        url=None,
        repos=RepoCounts(total=repos),
        ready_replicas=0,
        config_rendered=finding,
        ready=finding,
        now=now,
    )


def held_server(server: PackageServer, finding: Finding, now: datetime) -> PackageServerStatus:
    """Return the status of a server that runs on as it is, because its configuration cannot be rendered now."""
    previous = server.status or PackageServerStatus()
    findings = {"ConfigRendered": finding, READY: finding}
    generation = server.metadata.generation or 0
    others = (one for one in previous.conditions if one.type not in findings)
    return msgspec.structs.replace(
        previous,
        observed_generation=generation,
        conditions=(*conditions_of(findings, previous.conditions, generation, now), *others),
    )


def _is_accepted(verdict: RepoVerdict) -> bool:
    status = verdict.repo.status
    return status is not None and any(one.type == "Accepted" and one.status == "True" for one in status.conditions)


def _unreadable_server(server: ObjectKey) -> Finding:
    return Finding(
        status=None,
        reason="ServerUnreadable",
        message=(
            f"The operator may not read the namespace {server.namespace} that spec.serverRef names; ask whoever runs "
            "the operator to give its ServiceAccount the Role there again."
        ),
    )
