"""The Jobs and pods of a server, as they are now."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

import msgspec

from pywharf_operator.cluster.kube import Json, Kube
from pywharf_operator.cluster.live import annotations_of, is_running, labels_of
from pywharf_operator.index_updates.refused_pods import is_late, refused_jobs, without_pod
from pywharf_operator.index_updates.stuck import lingering
from pywharf_operator.render.labels import selector_of
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import JOB, POD
from pywharf_operator.spec.names import CACHE_ANNOTATION, REPO_LABEL, SERVER_LABEL


class Runs(msgspec.Struct, frozen=True):
    """Jobs and their pods, by repo name."""

    jobs: Mapping[str, list[Json]]
    pods: Mapping[str, list[Json]]
    server_pods: list[Json]
    """The server's replicas: the pods that its Service sends requests to."""
    refused: Mapping[str, str] = {}
    """Why a Job gets no pod, by the Job's uid."""
    waits_for_pods: bool = False
    """Whether a running Job has no pod."""

    @property
    def has_pods_without_cache(self) -> bool:
        """Whether a replica runs that was started without a cache."""
        return any(is_running(pod) and CACHE_ANNOTATION not in annotations_of(pod) for pod in self.server_pods)

    def has_lingering(self, now: datetime) -> bool:
        """Return whether a Job's pod runs on although its index is updated; it must soon be reported."""
        return any(
            lingering(pod, now) is not None for repo, pods in self.pods.items() if repo in self.jobs for pod in pods
        )


async def read_runs(kube: Kube, server: ObjectKey, now: datetime) -> Runs:
    """Read every Job and pod of a server, and why Jobs get no pods. Raises KubeError."""
    labels = f"{SERVER_LABEL}={server.name}"
    # Pods after Jobs: an older list of pods would show a finished Job's pod as running, and its report would be lost.
    jobs = await kube.list(JOB, server.namespace, labels)
    pods = await kube.list(POD, server.namespace, labels)
    of_replicas = selector_of(server.name).items()
    replicas = [pod for pod in pods if of_replicas <= labels_of(pod).items()]
    without = without_pod(jobs, pods)
    found = await refused_jobs(kube, server.namespace) if any(is_late(job, now) for job in without) else {}
    # An Event outlives what it reports.
    refused = {uid: found[uid] for job in without if (uid := str(job["metadata"].get("uid"))) in found}
    return Runs(_by_repo(jobs), _by_repo(pods), replicas, refused, waits_for_pods=bool(without))


def _by_repo(items: list[Json]) -> Mapping[str, list[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for item in items:
        repo = labels_of(item).get(REPO_LABEL)
        if isinstance(repo, str):
            found[repo].append(item)
    return found
