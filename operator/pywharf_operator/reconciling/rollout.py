"""Apply everything that is rendered for a server, in the order in which its pods need it, and prune the rest."""

from collections.abc import Callable, Sequence

from pywharf_operator.cluster.live import labels_of
from pywharf_operator.index_updates.runs import Runs
from pywharf_operator.reconciling.apply import READ_FIRST, READ_LATER, Live
from pywharf_operator.reconciling.config_rollout import RolloutAnnotations, deliver
from pywharf_operator.reconciling.memory import Memory
from pywharf_operator.render import Environment, RenderedServer, ServerVerdict
from pywharf_operator.render.labels import Manifest, object_name
from pywharf_operator.render.resolve.shares import round_robin
from pywharf_operator.spec.kinds import CRON_JOB, JOB, OPTIONAL, Kind
from pywharf_operator.spec.names import REPO_LABEL
from pywharf_operator.status.refusal import Refusal


async def apply_rendered(  # noqa: PLR0913, PLR0917 - all that there is
    announcements: RolloutAnnotations,
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
        await announcements.announce(runs.server_pods, rendered.digest)
    elif delivery.fallback is not None:
        await announcements.announce(runs.server_pods, delivery.fallback)
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


def _in_fair_order(cron_jobs: Sequence[Manifest], verdict: ServerVerdict) -> Sequence[Manifest]:
    """Order the CronJobs so that each namespace has its first ones early: a newer event may postpone the rest."""
    namespaces = {repo.name: repo.repo.key.namespace for repo in verdict.repos}
    return round_robin(cron_jobs, lambda one: namespaces[one["metadata"]["labels"][REPO_LABEL]])


def _prunable(verdict: ServerVerdict, rendered: RenderedServer, live: Live, runs: Runs, stays: set[Kind]) -> Live:
    """Return the objects that may be deleted if they are not rendered. `stays` are kinds that stay whole.

    A part that could not be updated keeps its last good version.
    """
    kept = {repo.name for repo in verdict.kept}
    served = {one["metadata"]["labels"][REPO_LABEL] for one in rendered.cron_jobs} | kept
    jobs = {
        (JOB, job["metadata"]["name"]): job for repo, found in runs.jobs.items() if repo not in served for job in found
    }
    return {
        (kind, name): item
        for (kind, name), item in (live | jobs).items()
        if kind not in stays and not (kind is CRON_JOB and labels_of(item).get(REPO_LABEL) in kept)
    }
