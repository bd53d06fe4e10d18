"""Reconcile one PackageServer (level-triggered): read afresh, render (pure), apply what differs, write statuses."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import aiohttp
import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.names import RepoName
from pywharf_operator.cluster.issuer_reader import IssuerReader
from pywharf_operator.cluster.kube import Json, Kube
from pywharf_operator.cluster.live import is_ready, is_rolled_out, key_of
from pywharf_operator.cluster.namespaces import Namespaces
from pywharf_operator.index_updates.outcome import indexes_of
from pywharf_operator.index_updates.planning import plan_updates
from pywharf_operator.index_updates.refused_pods import refused_replica
from pywharf_operator.index_updates.runs import Runs, read_runs
from pywharf_operator.index_updates.starting import start
from pywharf_operator.reconciling.apply import READ_FIRST, RETRY_REFUSED_S, Applier, Live
from pywharf_operator.reconciling.client_configs import ClientConfigs
from pywharf_operator.reconciling.config_rollout import RolloutAnnotations
from pywharf_operator.reconciling.kept_policies import KeptPoliciesUnknownError
from pywharf_operator.reconciling.memory import Memory
from pywharf_operator.reconciling.next_reconcile import APIS_FOR_S, seconds_to_next
from pywharf_operator.reconciling.observe import Observer
from pywharf_operator.reconciling.observed import POLICIES, STRAYS, Observed, ServerKeys
from pywharf_operator.reconciling.policy_board import ServerReport
from pywharf_operator.reconciling.policy_statuses import PolicyStatuses
from pywharf_operator.reconciling.render_input import render_input
from pywharf_operator.reconciling.replica_client import ask
from pywharf_operator.reconciling.rollout import apply_rendered
from pywharf_operator.reconciling.session_key import key_or_finding
from pywharf_operator.reconciling.unserved import UnservedStatuses
from pywharf_operator.render import (
    Environment,
    Finding,
    RenderedServer,
    Resolution,
    Snapshot,
    render_server,
    resolve,
)
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.resolve.missing_kinds import api_missing
from pywharf_operator.render.resolve.shares import round_robin
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import DEPLOYMENT, OPTIONAL, REPO, SERVER
from pywharf_operator.spec.names import REPO_LABEL
from pywharf_operator.status.programmed import ConfigHistory, unreachable
from pywharf_operator.status.served import (
    Result,
    counts_of,
    policy_reports,
    programmed_of,
    repo_statuses,
    status_of_server,
)
from pywharf_operator.status.upstreams import next_look_s
from pywharf_operator.status.writer import Statuses


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that do not change while the operator runs."""

    namespaces: tuple[str, ...] | None
    """The watched namespaces; None: all."""
    specs: Mapping[str, type[BackendSpec]]
    image: str


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
        issuer: IssuerReader | None = None,
    ) -> None:
        self._kube = kube
        self._issuer = issuer or IssuerReader(kube)
        self._http = http
        self._settings = settings
        self._now = now
        self._counted = counted
        self._again = again
        self._observer = Observer(kube, settings.namespaces, namespaces)
        self._statuses = Statuses(kube)
        self._unserved = UnservedStatuses(self._statuses, settings.specs, counted)
        self._client_configs = ClientConfigs(kube, settings.namespaces)
        self._policies = PolicyStatuses(self._observer, self._statuses, http)
        self._announcements = RolloutAnnotations(kube)
        self._memories: dict[ObjectKey, Memory] = {}
        self._missing: set[ObjectKey] = set()
        """Servers that repos name and that do not exist."""
        self._apis: frozenset[str] = frozenset()
        self._apis_until = 0.0

    async def keys(self) -> ServerKeys:
        """List every server, and the missing ones that repos name. Raises KubeError."""
        return await self._observer.server_keys()

    def forget_gone(self, keys: ServerKeys) -> None:
        """Forget what is remembered of servers and objects that are gone. `keys` is a new list."""
        self._observer.forget()
        for gone in self._memories.keys() - keys.existing:
            del self._memories[gone]
        self._policies.board.forget_gone(keys.existing)
        self._issuer.forget_gone(keys.existing)
        self._missing &= keys.missing

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
            now, observed = self._now(), await self._observer.strays()
            unreadable = self._observer.namespaces.refusing(SERVER)
            await self._client_configs.prune(observed.repos)
            await self._unserved.write_strays(observed, unreadable, self._memories, now)
            return None
        if key == POLICIES:
            return await self._policies.write(self._now(), superseded)
        found = await self._observer.observe(key)
        if found is None:
            self._note_missing(key)
            return None
        self.appeared(key)
        if found.server is None:
            await self._unserved.write_malformed_server(found, self._now())
            self._report_unconfigured(found)
            return None
        memory = self._memories.setdefault(key, Memory(Applier(self._kube, time.monotonic), ConfigHistory()))
        live, runs = await asyncio.gather(memory.applier.read(key, READ_FIRST), read_runs(self._kube, key, self._now()))
        session_key = await key_or_finding(self._kube, found.server)
        if isinstance(session_key, Finding):
            await self._unserved.write_blocked(found, found.server, session_key, self._now())
            self._report_unconfigured(found)
            return RETRY_REFUSED_S
        return await self._with_server(found, found.server, memory, live, runs, session_key, superseded)

    def _report_unconfigured(self, observed: Observed) -> None:
        """Report that the server gets no configuration now, so that no policy of it is newly in force."""
        message = f"PackageServer {observed.key} cannot be configured now; see its conditions."
        fault = Finding(status=False, reason="ConfigNotRendered", message=message)
        self._report(observed.key, ServerReport({}, frozenset(observed.raws), fault=fault))

    def _report(self, server: ObjectKey, report: ServerReport) -> None:
        if self._policies.board.report(server, report):
            self._again(POLICIES)

    def _note_missing(self, key: ObjectKey) -> None:
        """Leave the repos that name the missing server to the reconcile of STRAYS."""
        if self._policies.board.servers.pop(key, None) is not None:
            self._again(POLICIES)
        if key.namespace not in self._observer.namespaces.refusing(SERVER):
            self._memories.pop(key, None)
            self._counted(key, {})
        self._missing.add(key)
        self._again(STRAYS)

    async def _with_server(  # noqa: PLR0913, PLR0917 - what was read, and the memory
        self,
        observed: Observed,
        server: PackageServer,
        memory: Memory,
        live: Live,
        runs: Runs,
        session_key: bytes,
        superseded: Callable[[], bool],
    ) -> float | None:
        environment = Environment(
            specs=self._settings.specs,
            image=self._settings.image,
            apis=await self.apis(),
            now=self._now(),
            has_pods_without_cache=runs.has_pods_without_cache,
            session_key=session_key,
        )
        # In a thread: with thousands of repos it takes a while, and the probes must be answered meanwhile.
        try:
            snapshot = await render_input(
                self._kube, self._issuer, observed, server, self._observer.namespaces.is_deleted
            )
        except KeptPoliciesUnknownError as error:
            await self._unserved.write_held(observed, server, error.finding, self._now())
            self._report_unconfigured(observed)
            raise
        resolution, rendered = await asyncio.to_thread(_rendered, snapshot, environment)
        verdict = resolution.servers[0]
        memory.remember(rendered)
        refusals = await apply_rendered(
            self._announcements, verdict, rendered, environment, memory, live, runs, superseded
        )
        client_configs = await self._client_configs.keep(
            observed.repos, rendered.client_configs, verdict.authority.fault
        )
        jobs = {_repo_of(one): one for one in rendered.cron_jobs}
        updated = [repo for repo in resolution.repos if repo.served and repo.name in jobs]
        now = self._now()
        plans = plan_updates(updated, jobs, runs, now)
        started = await start(self._kube, plans)
        reports, deployment = await asyncio.gather(
            ask(self._http, [pod for pod in runs.server_pods if is_ready(pod)]),
            self._kube.get(DEPLOYMENT, server.key),
        )
        now = self._now()
        result = Result(
            verdict=verdict,
            repos=resolution.repos,
            raws=observed.raws,
            malformed=len(observed.malformed),
            unreadable=observed.unreadable,
            unlisted_policies=observed.unlisted_policies,
            rendered=rendered,
            missing_kind=api_missing(server, environment),
            reports=reports,
            history=memory.history,
            lost=memory.reported_loss(unreachable(reports)),
            rolled_out=is_rolled_out(deployment),
            refusals=tuple(refusals),
            refused_replica=refused_replica(deployment),
            indexes=indexes_of(plans, started, runs, now),
            client_configs={key: one.finding for key, one in client_configs.items()},
        )
        serving = programmed_of(result)
        reported = policy_reports(result)
        pods = tuple(_address(pod) for pod in runs.server_pods if is_ready(pod))
        self._report(server.key, ServerReport(reported, frozenset(observed.raws), pods if reported else ()))
        await self._write_statuses(result, observed, serving, now, superseded)
        late = any(not one.status for one in serving.values())
        late |= any(one.reach.delivered and not one.programmed.status for one in reported.values())
        again = seconds_to_next(result, runs, client_configs, observed, now)
        look_s = next_look_s(verdict.repos, server, reports)
        if look_s is not None:
            again.append(look_s)
        check_s = memory.next_check_s(waiting=bool(reports) and late)
        if check_s is not None:
            again.append(check_s)
        if memory.announces_again:
            behind = [report.pod for report in reports if report.digest != rendered.digest]
            await self._announcements.announce(runs.server_pods, rendered.digest, again=behind)
        return min(again, default=None)

    async def _write_statuses(
        self,
        result: Result,
        observed: Observed,
        serving: Mapping[RepoName, Finding],
        now: datetime,
        superseded: Callable[[], bool],
    ) -> None:
        repos = repo_statuses(result, serving, now)
        # If a newer event cuts the writes short, it must not hit the same namespace each time.
        ordered = round_robin(repos, lambda one: key_of(one[0]).namespace)
        await self._statuses.write(REPO, ordered, now, superseded)
        await self._unserved.write_malformed(observed, now)
        statuses = [status for _, status in repos]
        self._counted(result.verdict.server.key, counts_of(statuses))
        assert observed.server_raw is not None  # noqa: S101 - there is a server
        await self._statuses.write(SERVER, [(observed.server_raw, status_of_server(result, statuses, now))], now)

    async def apis(self) -> frozenset[str]:
        """Return the optional kinds that the cluster has."""
        if time.monotonic() >= self._apis_until:
            found = await asyncio.gather(*(self._kube.exists(kind) for kind in OPTIONAL))
            self._apis = frozenset(kind.name for kind, there in zip(OPTIONAL, found, strict=True) if there)
            self._apis_until = time.monotonic() + APIS_FOR_S
        return self._apis


def _rendered(snapshot: Snapshot, environment: Environment) -> tuple[Resolution, RenderedServer]:
    """Decide on a server and its repos, and render the server."""
    resolution = resolve(snapshot, environment)
    return resolution, render_server(resolution.servers[0], environment)


def _address(pod: Json) -> Json:
    """Return what is needed to ask a replica: the pod's name and address."""
    return {"metadata": {"name": pod["metadata"]["name"]}, "status": {"podIP": (pod.get("status") or {}).get("podIP")}}


def _repo_of(cron_job: Manifest) -> RepoName:
    name: RepoName = cron_job["metadata"]["labels"][REPO_LABEL]
    return name
