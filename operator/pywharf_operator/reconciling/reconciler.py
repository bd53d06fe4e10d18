"""Reconcile one PackageServer (level-triggered): read afresh, render (pure), apply what differs, write statuses."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import aiohttp
import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_ready, key_of
from pywharf_operator.cluster.namespaces import Namespaces
from pywharf_operator.index_updates.refused_pods import refused_replica
from pywharf_operator.index_updates.starting import Runs, read_runs, starts, update_index_of
from pywharf_operator.index_updates.state import LINGERS_S, lingering
from pywharf_operator.reconciling.apply import READ_FIRST, READ_LATER, RETRY_REFUSED_S, Applier, Live, Refusal
from pywharf_operator.reconciling.config_rollout import RolloutAnnotations, deliver
from pywharf_operator.reconciling.kept_repos import kept_repos
from pywharf_operator.reconciling.observe import STRAYS, Observed, Observer
from pywharf_operator.reconciling.outcome import (
    NO_UPDATES,
    NOT_SERVED,
    Result,
    counts_of,
    in_fair_order,
    is_accepted,
    is_ready_status,
    not_served_yet,
    refused_job,
    server_ready,
    unreadable_server,
    unserved_status,
)
from pywharf_operator.reconciling.replica_client import ask
from pywharf_operator.reconciling.session_key import ForeignSecretError, session_key
from pywharf_operator.render import (
    Environment,
    Finding,
    RenderedServer,
    RepoVerdict,
    Resolution,
    ServerVerdict,
    Snapshot,
    render_server,
    resolve,
)
from pywharf_operator.render.labels import REPO_LABEL, object_name
from pywharf_operator.render.resolve.missing_kinds import api_missing
from pywharf_operator.render.resolve.shares import round_robin
from pywharf_operator.render.urls import base_url, repo_url
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CRON_JOB, DEPLOYMENT, JOB, OPTIONAL, REPO, SERVER, Kind
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.spec.package_server import RepoCounts
from pywharf_operator.status.conditions import (
    malformed_status,
    namespaces_read,
    repo_status,
    server_status,
)
from pywharf_operator.status.programmed import ConfigHistory, programmed, unreachable
from pywharf_operator.status.writer import Statuses

_logger = logging.getLogger(__name__)
_APIS_FOR_S = 15.0
"""Seconds for which the cluster's optional kinds are cached; then the API server is asked again for missing ones."""
_WAITS_S = (0.2, 0.3, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 5.0, 5.0, 10.0, 30.0)
"""Seconds between checks of replicas that do not serve the newest configuration yet."""
_PODS_AGAIN_S = 15.0
"""Seconds between checks why Jobs have no pods; no event reports that the reason has changed."""
_UNREACHABLE_CHECKS = 4
"""Consecutive checks from which an unreachable replica is reported; one that is starting or ending is not."""
_CHUNK = 100
"""Statuses of repos without a server that are written between two checks which servers have appeared."""
_NUDGED_AGAIN_AFTER = 4
"""Checks after which a replica's kubelet is nudged again."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that do not change while the operator runs."""

    namespaces: tuple[str, ...] | None
    """The watched namespaces; None: all."""
    specs: Mapping[str, type[BackendSpec]]
    image: str


class _Memory(msgspec.Struct):
    """The state of a server that is kept between two reconciles and may be lost."""

    applier: Applier
    history: ConfigHistory
    digest: str = ""
    """The digest of the newest configuration."""
    checks: int = 0
    """Number of checks that found replicas not serving it."""
    lost: int = 0
    """Number of consecutive checks at which a ready replica could not be reached."""
    config_refused: bool = False
    """Whether the newest configuration could not be applied."""


class Reconciler:
    """Reconciles PackageServers.

    `counted` is called with the number of repos that have each condition, `again` with what else to reconcile.
    """

    def __init__(  # noqa: PLR0913 - all but the first three are options
        self,
        kube: Kube,
        http: aiohttp.ClientSession,
        settings: Settings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        counted: Callable[[ObjectKey, Mapping[tuple[str, str], int]], None] = lambda _key, _counts: None,
        namespaces: Namespaces | None = None,
        again: Callable[[ObjectKey], None] = lambda _key: None,
    ) -> None:
        self._kube = kube
        self._http = http
        self._settings = settings
        self._now = now
        self._counted = counted
        self._again = again
        self._observer = Observer(kube, settings.namespaces, namespaces)
        self._statuses = Statuses(kube)
        self._nudges = RolloutAnnotations(kube)
        self._memories: dict[ObjectKey, _Memory] = {}
        self._missing: set[ObjectKey] = set()
        """Servers that repos name and that do not exist."""
        self._apis: frozenset[str] = frozenset()
        self._apis_until = 0.0

    async def keys(self) -> set[ObjectKey]:
        """Return every server, and STRAYS if a repo names a missing one, for a full resync."""
        servers, named = await self._observer.server_keys()
        self._observer.forget()
        for gone in self._memories.keys() - servers:
            del self._memories[gone]
        self._missing &= named
        return servers | {STRAYS} if named else servers

    def key_of_event(self, server: ObjectKey) -> ObjectKey:
        """Return the key to reconcile after an event of the server: STRAYS if the server is known to be missing.

        A missing server thus costs one request, and all repos that name one are handled in one pass.
        """
        return STRAYS if server in self._missing else server

    def appeared(self, server: ObjectKey) -> None:
        """Reconcile the server by its own key again, because the API server reported it."""
        if server in self._missing:
            self._missing.discard(server)
            self._again(STRAYS)

    async def reconcile(self, key: ObjectKey, superseded: Callable[[], bool] = lambda: False) -> float | None:
        """Bring a server to its desired state. Return the seconds to the next reconcile, or None to wait for an event.

        `superseded` returns whether a newer event waits; then the rest is left to the next reconcile. Raises KubeError.
        """
        if key == STRAYS:
            await self._write_stray_statuses()
            return None
        observed = await self._observer.observe(key)
        if observed is None:
            self._note_missing(key)
            return None
        self.appeared(key)
        if observed.server is None:
            await self._with_malformed_server(observed)
            return None
        memory = self._memories.setdefault(key, _Memory(Applier(self._kube, time.monotonic), ConfigHistory()))
        live, runs = await asyncio.gather(memory.applier.read(key, READ_FIRST), read_runs(self._kube, key, self._now()))
        return await self._with_server(observed, observed.server, memory, live, runs, superseded)

    async def _with_server(  # noqa: PLR0913, PLR0917 - what was read, and the memory
        self,
        observed: Observed,
        server: PackageServer,
        memory: _Memory,
        live: Live,
        runs: Runs,
        superseded: Callable[[], bool],
    ) -> float | None:
        applier = memory.applier
        key = await self._session_key(server)
        if isinstance(key, Finding):
            await self._blocked(observed, server, key)
            return RETRY_REFUSED_S
        environment = Environment(
            specs=self._settings.specs, image=self._settings.image, apis=await self.apis(), session_key=key
        )
        # In a thread: with thousands of repos it takes a while, and the probes must be answered meanwhile.
        snapshot = await self._snapshot(observed, server)
        resolution, rendered = await asyncio.to_thread(_rendered, snapshot, environment)
        verdict, digest = resolution.servers[0], rendered.digest
        memory.history.remember(digest, rendered.contents)
        if memory.digest != digest:
            memory.digest, memory.checks = digest, 0
        delivery = await deliver(applier, verdict, rendered, live, key, memory.config_refused)
        memory.config_refused = delivery.config_refused
        refusals = list(delivery.refusals)
        if delivery.is_complete:
            await self._nudges.nudge(runs.server_pods, digest)
        elif delivery.fallback is not None:
            await self._nudges.nudge(runs.server_pods, delivery.fallback)
        live |= await applier.read(server.key, READ_LATER)
        refusals += await applier.apply(server, rendered.workload, live)
        refusals += await applier.apply(server, in_fair_order(rendered.cron_jobs, verdict), live, superseded)
        refusals += await applier.adopt_jobs(server, (job for jobs in runs.jobs.values() for job in jobs))
        stays = set() if verdict.accepted.status else {*READ_LATER, JOB}
        # A kind that the cluster seems to lack may be missing only for a moment.
        stays |= {kind for kind in OPTIONAL if kind.name not in environment.apis}
        if not delivery.is_complete:
            stays |= set(READ_FIRST)
        refusals += await self._prune(applier, verdict, rendered, live, runs, stays)
        reports, deployment = await asyncio.gather(
            ask(self._http, [pod for pod in runs.server_pods if is_ready(pod)]),
            self._kube.get(DEPLOYMENT, server.key),
        )
        lost = unreachable(reports)
        memory.lost = 0 if lost is None else memory.lost + 1
        result = Result(
            observed=observed,
            verdict=verdict,
            resolution=resolution,
            rendered=rendered,
            runs=runs,
            reports=reports,
            lost=lost if memory.lost >= _UNREACHABLE_CHECKS else None,
            refusals=tuple(refusals),
            refused_replica=refused_replica(deployment),
        )
        waiting = await self._write_statuses(result, memory, environment, superseded)
        again = [refusal.retry_after_s for refusal in refusals]
        reasons = (
            (_APIS_FOR_S, api_missing(server, environment) is not None),
            (_PODS_AGAIN_S, runs.waits_for_pods),
            (LINGERS_S, self._has_lingering(runs)),
        )
        again += [wait_s for wait_s, applies in reasons if applies]
        if waiting or memory.lost:
            again.append(_WAITS_S[min(memory.checks, len(_WAITS_S) - 1)])
            memory.checks += 1
            if memory.checks % _NUDGED_AGAIN_AFTER == 0:
                late = [report.pod for report in reports if report.digest != digest]
                await self._nudges.nudge(runs.server_pods, digest, again=late)
        else:
            memory.checks = 0
        return min(again, default=None)

    async def _snapshot(self, observed: Observed, server: PackageServer) -> Snapshot:
        """Return the input of rendering, with what is served of repos that cannot be read now."""
        if not observed.unreadable:
            return observed.snapshot
        kept = await kept_repos(self._kube, server, observed.unreadable, self._observer.namespaces.is_deleted)
        return msgspec.structs.replace(observed.snapshot, kept=kept)

    def _has_lingering(self, runs: Runs) -> bool:
        """Return whether a Job's pod runs on although its index is updated; it must soon be reported."""
        now = self._now()
        return any(
            lingering(pod, now) is not None for repo, pods in runs.pods.items() if repo in runs.jobs for pod in pods
        )

    async def _session_key(self, server: PackageServer) -> bytes | Finding:
        """Return the key, or why there is none."""
        try:
            return await session_key(self._kube, server)
        except ForeignSecretError as error:
            return Finding(status=False, reason="ObjectNotOwned", message=str(error))
        except KubeError as error:
            if not error.is_permanent:
                raise
            why = f"Secret {object_name(server, 'session')}: the API server refuses it: {error.message or error.reason}"
            return Finding(status=False, reason="ApplyRefused", message=why)

    async def _blocked(self, observed: Observed, server: PackageServer, finding: Finding) -> None:
        """Write the status of a server that cannot be configured, and those of its repos that have none.

        The other repos keep their status, except those whose namespace is not allowed.
        """
        now = self._now()
        environment = Environment(specs=self._settings.specs)
        resolution = await asyncio.to_thread(resolve, observed.snapshot, environment)
        # A repo may be in another namespace, so only the server's status names the server's objects.
        message = f"The PackageServer {server.key} cannot be configured; its condition ConfigRendered says why."
        waits = Finding(status=False, reason="ConfigNotRendered", message=message)
        wanted = [
            (
                observed.raws[repo.repo.key],
                repo_status(
                    repo,
                    url=None,
                    programmed=waits if repo.served else NOT_SERVED,
                    index_up_to_date=NO_UPDATES,
                    index=None,
                    now=now,
                ),
            )
            for repo in resolution.repos
            if repo.repo.status is None or repo.accepted.reason == "NamespaceNotAllowed"
        ]
        await self._statuses.write(REPO, wanted, now)
        status = server_status(
            ServerVerdict(server=server, accepted=_CAN_RUN, repos=()),
            url=None,
            repos=RepoCounts(total=len(observed.repos) + len(observed.malformed)),
            ready_replicas=0,
            config_rendered=finding,
            ready=finding,
            now=now,
        )
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        await self._statuses.write(SERVER, [(observed.server_raw, status)], now)

    @staticmethod
    async def _prune(  # noqa: PLR0913, PLR0917 - all that there is
        applier: Applier, verdict: ServerVerdict, rendered: RenderedServer, live: Live, runs: Runs, stays: set[Kind]
    ) -> list[Refusal]:
        """Delete objects that are no longer wanted. A part that could not be updated keeps its last good version."""
        kept = {repo.name for repo in verdict.kept}
        served = {one["metadata"]["labels"][REPO_LABEL] for one in rendered.cron_jobs} | kept
        jobs = {
            (JOB, job["metadata"]["name"]): job
            for repo, found in runs.jobs.items()
            if repo not in served
            for job in found
        }
        live = {
            (kind, name): item
            for (kind, name), item in (live | jobs).items()
            if kind not in stays and not (kind is CRON_JOB and _repo_of(item) in kept)
        }
        return await applier.prune(
            verdict.server, rendered.objects, live, keep={object_name(verdict.server, "session")}
        )

    async def _write_statuses(
        self, result: "Result", memory: _Memory, environment: Environment, superseded: Callable[[], bool]
    ) -> bool:
        """Write every status. Return whether a ready replica does not serve the newest configuration yet."""
        now = self._now()
        observed, verdict, server = result.observed, result.verdict, result.verdict.server
        jobs = {one["metadata"]["labels"][REPO_LABEL]: one for one in result.rendered.cron_jobs}
        wanted: list[tuple[Json, PackageRepoStatus]] = []
        updated = [repo for repo in result.resolution.repos if repo.served and repo.name in jobs]
        due = starts(updated, result.runs, now)
        waiting = False
        for repo in result.resolution.repos:
            serving, index_finding, index, url = NOT_SERVED, NO_UPDATES, None, None
            if repo.served:
                serving = self._programmed(result, repo, memory)
                waiting = waiting or (not serving.status and bool(result.reports))
                url = repo_url(server, repo.name)
            if repo.name in jobs and repo.served:
                index_finding, index = await update_index_of(self._kube, repo, jobs[repo.name], result.runs, due, now)
                index_finding = refused_job(jobs[repo.name], result.refusals) or index_finding
            status = repo_status(
                repo, url=url, programmed=serving, index_up_to_date=index_finding, index=index, now=now
            )
            wanted.append((observed.raws[repo.repo.key], status))
        # If a newer event cuts the writes short, it must not hit the same namespace each time.
        ordered = round_robin(wanted, lambda one: key_of(one[0]).namespace)
        await self._statuses.write(REPO, ordered, now, superseded)
        await self.write_malformed(observed, now)
        statuses = [status for _, status in wanted]
        self._counted(server.key, counts_of(statuses))
        of_server = server_status(
            verdict,
            url=base_url(server),
            repos=RepoCounts(
                total=len(statuses) + len(observed.malformed) + len(verdict.kept),
                ready=sum(is_ready_status(status) for status in statuses),
            ),
            ready_replicas=len(result.reports),
            config_rendered=result.rendered.config_rendered,
            ready=server_ready(result, environment),
            namespaces_read=namespaces_read(verdict, observed.unreadable),
            now=now,
        )
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        await self._statuses.write(SERVER, [(observed.server_raw, of_server)], now)
        return waiting

    def _note_missing(self, key: ObjectKey) -> None:
        """Leave the repos that name the missing server to the reconcile of STRAYS."""
        if key.namespace not in self._observer.namespaces.refusing(SERVER):
            self._memories.pop(key, None)
            self._counted(key, {})
        self._missing.add(key)
        self._again(STRAYS)

    async def _write_stray_statuses(self) -> None:
        """Write the statuses of all repos without a server. Objects of an unreadable server are left in place."""
        now = self._now()
        observed = await self._observer.strays()
        resolution = await asyncio.to_thread(resolve, observed.snapshot, Environment(specs=self._settings.specs))
        unreadable = self._observer.namespaces.refusing(SERVER)
        missing = [one for one in resolution.repos if one.repo.server_key.namespace not in unreadable]
        of_unreadable = [
            msgspec.structs.replace(one, accepted=unreadable_server(one.repo.server_key))
            for one in resolution.repos
            if one.repo.server_key.namespace in unreadable and not is_accepted(one)
        ]
        ordered = round_robin([*missing, *of_unreadable], lambda one: one.repo.key.namespace)
        for start in range(0, len(ordered), _CHUNK):
            # The reconcile of a server that appeared in between has written the statuses of its repos.
            chunk = [
                one
                for one in ordered[start : start + _CHUNK]
                if one.repo.server_key not in self._memories or one.repo.server_key.namespace in unreadable
            ]
            await self._write_unserved(observed, chunk, now)
        await self.write_malformed(observed, now)
        self._counted(STRAYS, counts_of([unserved_status(one, now) for one in missing]))

    async def _with_malformed_server(self, observed: Observed) -> None:
        """Report on the server why it cannot be parsed. Its objects are left in place."""
        now = self._now()
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        assert observed.server_fault is not None  # noqa: S101 - it was not parsed
        status = malformed_status(observed.server_raw, observed.server_fault, now)
        await self._statuses.write(SERVER, [(observed.server_raw, status)], now)
        resolution = await asyncio.to_thread(resolve, observed.snapshot, Environment(specs=self._settings.specs))
        await self._write_unserved(observed, not_served_yet(resolution, observed.key), now)
        await self.write_malformed(observed, now)

    async def _write_unserved(self, observed: Observed, verdicts: Sequence[RepoVerdict], now: datetime) -> None:
        wanted = [(observed.raws[verdict.repo.key], unserved_status(verdict, now)) for verdict in verdicts]
        await self._statuses.write(REPO, wanted, now)

    async def write_malformed(self, observed: Observed, now: datetime) -> None:
        """Write the statuses of the repos that passed the schema and cannot be parsed."""
        wanted = [(one.raw, malformed_status(one.raw, one.finding, now)) for one in observed.malformed]
        await self._statuses.write(REPO, wanted, now)

    async def apis(self) -> frozenset[str]:
        """Return the optional kinds that the cluster has."""
        if time.monotonic() >= self._apis_until:
            found = await asyncio.gather(*(self._kube.exists(kind) for kind in OPTIONAL))
            self._apis = frozenset(kind.name for kind, there in zip(OPTIONAL, found, strict=True) if there)
            self._apis_until = time.monotonic() + _APIS_FOR_S
        return self._apis

    @staticmethod
    def _programmed(result: "Result", repo: RepoVerdict, memory: _Memory) -> Finding:
        if not result.rendered.config_rendered.status:
            return Finding(status=False, reason="ConfigNotRendered", message=result.rendered.config_rendered.message)
        return programmed(
            repo.name, result.rendered.contents[repo.name], result.reports, memory.history, lost=result.lost
        )


def _rendered(snapshot: Snapshot, environment: Environment) -> tuple[Resolution, RenderedServer]:
    """Decide on a server and its repos, and render the server."""
    resolution = resolve(snapshot, environment)
    return resolution, render_server(resolution.servers[0], environment)


def _repo_of(item: Json) -> object:
    return (item["metadata"].get("labels") or {}).get(REPO_LABEL)


_CAN_RUN = Finding(status=True, reason="Accepted", message="The server can run as it is described.")
