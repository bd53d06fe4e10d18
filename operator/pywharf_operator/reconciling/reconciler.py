"""Reconcile one PackageServer (level-triggered): read afresh, render (pure), apply what differs, write statuses."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import aiohttp
import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.names import RepoName
from pywharf_operator.cluster.issuer_reader import IssuerReader
from pywharf_operator.cluster.kube import Json, Kube
from pywharf_operator.cluster.live import is_ready, is_rolled_out, key_of, labels_of
from pywharf_operator.cluster.namespaces import Namespaces
from pywharf_operator.index_updates.outcome import indexes_of
from pywharf_operator.index_updates.planning import plan_updates
from pywharf_operator.index_updates.refused_pods import refused_replica
from pywharf_operator.index_updates.runs import Runs, read_runs
from pywharf_operator.index_updates.starting import start
from pywharf_operator.index_updates.stuck import LINGERS_S
from pywharf_operator.reconciling.apply import READ_FIRST, READ_LATER, RETRY_REFUSED_S, Applier, Live
from pywharf_operator.reconciling.client_configs import ClientConfigs
from pywharf_operator.reconciling.config_rollout import RolloutAnnotations, deliver
from pywharf_operator.reconciling.kept_identity import kept_cluster, with_kept
from pywharf_operator.reconciling.kept_policies import KeptPoliciesUnknownError, kept_policies
from pywharf_operator.reconciling.kept_repos import kept_repos
from pywharf_operator.reconciling.memory import Memory
from pywharf_operator.reconciling.observe import POLICIES, STRAYS, Observed, Observer, ServerKeys
from pywharf_operator.reconciling.policy_board import ServerReport
from pywharf_operator.reconciling.policy_statuses import PolicyStatuses
from pywharf_operator.reconciling.replica_client import ask
from pywharf_operator.reconciling.session_key import key_or_finding
from pywharf_operator.reconciling.unserved import UnservedStatuses
from pywharf_operator.render import (
    Environment,
    Finding,
    RenderedServer,
    Resolution,
    ServerVerdict,
    Snapshot,
    render_server,
    resolve,
)
from pywharf_operator.render.labels import Manifest, object_name
from pywharf_operator.render.resolve.access import next_end_s
from pywharf_operator.render.resolve.identity import asks_about_cluster
from pywharf_operator.render.resolve.missing_kinds import api_missing
from pywharf_operator.render.resolve.policy_room import overflows
from pywharf_operator.render.resolve.shares import round_robin
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CRON_JOB, DEPLOYMENT, JOB, OPTIONAL, REPO, SERVER, Kind
from pywharf_operator.spec.names import REPO_LABEL
from pywharf_operator.status.programmed import ConfigHistory, unreachable
from pywharf_operator.status.refusal import Refusal
from pywharf_operator.status.served import (
    Result,
    counts_of,
    lacks_review_right,
    policy_reports,
    programmed_of,
    repo_statuses,
    status_of_server,
)
from pywharf_operator.status.writer import Statuses

_APIS_FOR_S = 15.0
"""Seconds for which the cluster's optional kinds are cached; then the API server is asked again for missing ones."""
_RIGHTS_AGAIN_S = 15.0
"""Seconds between checks whether replicas have a right that they lacked; no event reports a change of rights."""
_PODS_AGAIN_S = 15.0
"""Seconds between checks why Jobs have no pods; no event reports that the reason has changed."""


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
            session_key=session_key,
        )
        # In a thread: with thousands of repos it takes a while, and the probes must be answered meanwhile.
        try:
            snapshot = await self._snapshot(observed, server)
        except KeptPoliciesUnknownError as error:
            await self._unserved.write_held(observed, server, error.finding, self._now())
            self._report_unconfigured(observed)
            raise
        resolution, rendered = await asyncio.to_thread(_rendered, snapshot, environment)
        verdict = resolution.servers[0]
        memory.remember(rendered)
        refusals = await self._apply(verdict, rendered, environment, memory, live, runs, superseded)
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
        again = [refusal.retry_after_s for refusal in refusals]
        again += [one.again_s for one in client_configs.values() if one.again_s is not None]
        reasons = (
            (_APIS_FOR_S, result.missing_kind is not None),
            (_PODS_AGAIN_S, runs.waits_for_pods),
            (LINGERS_S, runs.has_lingering(now)),
            (_RIGHTS_AGAIN_S, lacks_review_right(result)),
        )
        again += [wait_s for wait_s, applies in reasons if applies]
        again += next_end_s(observed.repos, now)
        late = any(not one.status for one in serving.values())
        late |= any(one.reach.delivered and not one.programmed.status for one in reported.values())
        check_s = memory.next_check_s(waiting=bool(reports) and late)
        if check_s is not None:
            again.append(check_s)
        if memory.announces_again:
            behind = [report.pod for report in reports if report.digest != rendered.digest]
            await self._announcements.announce(runs.server_pods, rendered.digest, again=behind)
        return min(again, default=None)

    async def _snapshot(self, observed: Observed, server: PackageServer) -> Snapshot:
        """Return the input of rendering, with what is served of repos and policies that cannot be read now."""
        snapshot = observed.snapshot
        if observed.unreadable:
            kept = await kept_repos(self._kube, server, observed.unreadable, self._observer.namespaces.is_deleted)
            snapshot = msgspec.structs.replace(snapshot, kept=kept)
        may_stay = observed.unlisted_policies != frozenset() or bool(observed.malformed_policies)
        if may_stay or (observed.policies and await asyncio.to_thread(overflows, observed.policies)):
            delivered = await kept_policies(self._kube, server)
            snapshot = msgspec.structs.replace(snapshot, delivered_policies=delivered)
        return msgspec.structs.replace(snapshot, cluster=await self._cluster(snapshot, server))

    async def _cluster(self, snapshot: Snapshot, server: PackageServer) -> ClusterKeys:
        """Return the cluster's issuer and keys if an access entry needs them: the newest, otherwise those in use."""
        if not asks_about_cluster(server, snapshot):
            self._issuer.forget(server.key)
            return ClusterKeys()
        keys = await self._issuer.keys(server.key)
        if keys.found is not None and keys.found.jwks:
            return keys
        return with_kept(keys, await kept_cluster(self._kube, server))

    async def _apply(  # noqa: PLR0913, PLR0917 - all that there is
        self,
        verdict: ServerVerdict,
        rendered: RenderedServer,
        environment: Environment,
        memory: Memory,
        live: Live,
        runs: Runs,
        superseded: Callable[[], bool],
    ) -> list[Refusal]:
        """Apply the configuration, then the other objects, and delete what is no longer rendered."""
        applier, server = memory.applier, verdict.server
        delivery = await deliver(applier, verdict, rendered, live, environment.session_key, memory.refused)
        memory.refused = delivery.refused
        refusals = list(delivery.refusals)
        if delivery.is_complete:
            await self._announcements.announce(runs.server_pods, rendered.digest)
        elif delivery.fallback is not None:
            await self._announcements.announce(runs.server_pods, delivery.fallback)
        live |= await applier.read(server.key, READ_LATER)
        refusals += await applier.apply(server, rendered.workload, live)
        refusals += await applier.apply(server, _in_fair_order(rendered.cron_jobs, verdict), live, superseded)
        refusals += await applier.adopt_jobs(server, (job for jobs in runs.jobs.values() for job in jobs))
        stays = set() if verdict.accepted.status else {*READ_LATER, JOB}
        # A kind that the cluster seems to lack may be missing only for a moment.
        stays |= {kind for kind in OPTIONAL if kind.name not in environment.apis}
        if not delivery.is_complete:
            stays |= set(READ_FIRST)
        prunable = _prunable(verdict, rendered, live, runs, stays)
        keep = {object_name(server, "session")}
        return refusals + await applier.prune(server, rendered.objects, prunable, keep=keep)

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
            self._apis_until = time.monotonic() + _APIS_FOR_S
        return self._apis


def _rendered(snapshot: Snapshot, environment: Environment) -> tuple[Resolution, RenderedServer]:
    """Decide on a server and its repos, and render the server."""
    resolution = resolve(snapshot, environment)
    return resolution, render_server(resolution.servers[0], environment)


def _in_fair_order(cron_jobs: Sequence[Manifest], verdict: ServerVerdict) -> Sequence[Manifest]:
    """Order the CronJobs so that each namespace has its first ones early: a newer event may postpone the rest."""
    namespaces = {repo.name: repo.repo.key.namespace for repo in verdict.repos}
    return round_robin(cron_jobs, lambda one: namespaces[_repo_of(one)])


def _prunable(verdict: ServerVerdict, rendered: RenderedServer, live: Live, runs: Runs, stays: set[Kind]) -> Live:
    """Return the objects that may be deleted if they are not rendered. `stays` are kinds that stay whole.

    A part that could not be updated keeps its last good version.
    """
    kept = {repo.name for repo in verdict.kept}
    served = {_repo_of(one) for one in rendered.cron_jobs} | kept
    jobs = {
        (JOB, job["metadata"]["name"]): job for repo, found in runs.jobs.items() if repo not in served for job in found
    }
    return {
        (kind, name): item
        for (kind, name), item in (live | jobs).items()
        if kind not in stays and not (kind is CRON_JOB and labels_of(item).get(REPO_LABEL) in kept)
    }


def _address(pod: Json) -> Json:
    """Return what is needed to ask a replica: the pod's name and address."""
    return {"metadata": {"name": pod["metadata"]["name"]}, "status": {"podIP": (pod.get("status") or {}).get("podIP")}}


def _repo_of(cron_job: Manifest) -> RepoName:
    name: RepoName = cron_job["metadata"]["labels"][REPO_LABEL]
    return name
