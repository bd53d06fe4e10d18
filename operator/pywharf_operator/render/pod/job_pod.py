"""PURE. The pod template of index Jobs: inherited parts of the server's `spec.podTemplate`, and `spec.jobs`.

Jobs must run where the server runs, reach what it reaches and be admitted where it is admitted. Unlike the server's
pods, they must not be long-lived, replicated, selected by a Service, or accompanied by the server's sidecars.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pywharf_operator.render.labels import Manifest, labels, pod_metadata
from pywharf_operator.render.pod.pod_template import CONTAINER as SERVER_CONTAINER
from pywharf_operator.render.pod.pod_template import check_container, checked_patch, surroundings
from pywharf_operator.render.pod.removals import path_of, steps_of, without
from pywharf_operator.render.pod.security import container_security, pod_security
from pywharf_operator.render.pod.strategic_merge import merged_pod_template
from pywharf_operator.spec import PackageServer

CONTAINER: Final = "index"
_PATH: Final = "jobs.podTemplate"
INHERITED: Final = {
    "affinity": "Its `nodeAffinity` alone; the rest places replicas relative to each other.",
    "containers": (
        "Of the container `server`: `env`, `envFrom`, `imagePullPolicy`, `securityContext`, and mounts of ConfigMaps, "
        "Secrets and projected volumes."
    ),
    "dnsConfig": "Jobs look up the same names.",
    "dnsPolicy": "Jobs look up the same names.",
    "hostAliases": "Jobs look up the same names.",
    "hostUsers": "Jobs are isolated as the server is.",
    "imagePullSecrets": "Jobs have the server's image.",
    "nodeSelector": "Jobs run where the server may run.",
    "os": "Jobs have the server's image.",
    "preemptionPolicy": "It must agree with the priority class.",
    "priority": "It must agree with the priority class.",
    "priorityClassName": "Jobs are as important as what they update.",
    "runtimeClassName": "Jobs are isolated as the server is.",
    "schedulerName": "Jobs run where the server may run.",
    "securityContext": "Jobs read and write the same volume, and are admitted by the same policies.",
    "serviceAccountName": "Only where the repo uses the server's cloud identity.",
    "tolerations": "Jobs run where the server may run.",
    "volumes": "ConfigMaps, Secrets and projected volumes that the container `server` mounts.",
}
"""Fields of a pod's spec that Jobs inherit, with the inherited part or the reason."""
NOT_INHERITED: Final = {
    "activeDeadlineSeconds": "A Job has a deadline of its own.",
    "automountServiceAccountToken": "A Job asks nothing of the API server.",
    "enableServiceLinks": "Variables made of Services' names would be taken for flags.",
    "ephemeralContainers": "No pod template may have them.",
    "evictionResponders": "They answer for what serves; a Job is retried.",
    "hostIPC": "A Job needs nothing of its node.",
    "hostNetwork": "A Job needs nothing of its node.",
    "hostPID": "A Job needs nothing of its node.",
    "hostname": "It names a replica.",
    "hostnameOverride": "It names a replica.",
    "initContainers": "They prepare or accompany what serves; beside a sidecar a Job might never end.",
    "nodeName": "It bypasses the scheduler, which finds the node with the volume.",
    "overhead": "Kubernetes fills it in from the runtime class.",
    "readinessGates": "Nobody sends requests to a Job.",
    "resourceClaims": "They are devices of the server's containers.",
    "resources": "A Job has `jobs.resources`.",
    "restartPolicy": "A Job's pod is not restarted, but replaced.",
    "schedulingGates": "Whoever opens the server's gates need not know the Jobs.",
    "schedulingGroup": "It schedules replicas together.",
    "serviceAccount": "It is an old name of `serviceAccountName`.",
    "setHostnameAsFQDN": "It names a replica.",
    "shareProcessNamespace": "A Job has one container.",
    "subdomain": "It names a replica.",
    "terminationGracePeriodSeconds": "It is the time for running transfers; a Job has none.",
    "topologySpreadConstraints": "They spread replicas.",
}
"""The other fields, with the reason why Jobs do not inherit them. `jobs.podTemplate` may set each."""
_PARTLY_INHERITED: Final = frozenset({"affinity", "containers", "serviceAccountName", "volumes"})
"""Fields that Jobs inherit in part, or under a condition."""
_OF_CONTAINER: Final = ("imagePullPolicy", "securityContext")


def job_metadata(server: PackageServer, of_repo: Mapping[str, str]) -> Manifest:
    """Return the labels and annotations of a Job and its pod, before `jobs.podTemplate`. `of_repo` are ours."""
    jobs = server.spec.jobs
    return pod_metadata(server, {"labels": jobs.labels, "annotations": jobs.annotations}, "index", of_repo)


def job_template(
    server: PackageServer, pod: Manifest, around: Manifest, of_repo: Mapping[str, str], *, uses_lent_identity: bool
) -> Manifest:
    """Return the template of a Job's pods. `pod` is the pod spec that follows from the Job's repo.

    `around` is the result of `surroundings` for the server's template. Raises InvalidPodTemplateError.
    """
    server_patch = server.spec.pod_template.get("spec") or {}
    container = {"name": CONTAINER, **inherited_container_patch(server_patch, SERVER_CONTAINER), **around["container"]}
    taken = inherited_pod_patch(server_patch, identity=uses_lent_identity)
    taken |= {"containers": [container], "volumes": around["volumes"]}
    removals = inherited_removals(server.spec.pod_template_removals, identity=uses_lent_identity)
    base = without({"metadata": job_metadata(server, of_repo), "spec": pod}, removals, missing_ok=True)
    made = merged_pod_template(base, {"spec": taken})
    made = merged_pod_template(made, checked_patch(server.spec.jobs.pod_template, _PATH), _PATH)
    check_container(made, CONTAINER, _PATH)
    made["metadata"]["labels"] = {**made["metadata"].get("labels", {}), **labels(server, "index"), **of_repo}
    return made


def check_job_template(server: PackageServer, template: Manifest) -> None:
    """Raise InvalidPodTemplateError if `jobs.podTemplate` fits no Job of any repo. `template` is the server's."""
    job_template(server, every_map(server), surroundings(template), {}, uses_lent_identity=True)


def every_map(server: PackageServer) -> Manifest:
    """Return a pod spec with every map and list that any Job's has. No patch may put another type in their place."""
    container: Manifest = {
        "name": CONTAINER,
        "args": [],
        "resources": {"requests": {}, "limits": {}},
        "securityContext": container_security(),
        "volumeMounts": [],
    }
    term = "requiredDuringSchedulingIgnoredDuringExecution"
    return {
        "affinity": {"podAffinity": {term: []}},
        "securityContext": pod_security(server),
        "containers": [container],
        "volumes": [],
    }


def inherited_pod_patch(spec: Manifest, *, identity: bool) -> Manifest:
    """Return the patch of a Job's pod spec that follows from `spec.podTemplate.spec`, without the `surroundings`.

    `identity`: whether the Job reads its storage with the identity of the server's pods.
    """
    found = {field: value for field, value in spec.items() if field in INHERITED.keys() - _PARTLY_INHERITED}
    if identity and "serviceAccountName" in spec:
        found["serviceAccountName"] = spec["serviceAccountName"]
    affinity = spec.get("affinity")
    if isinstance(affinity, dict) and "nodeAffinity" in affinity:
        found["affinity"] = {"nodeAffinity": affinity["nodeAffinity"]}
    return found


def inherited_removals(paths: Iterable[str], *, identity: bool) -> list[str]:
    """Those of `spec.podTemplateRemovals` that name what a Job takes over, as paths in the template of its pods."""
    fields = INHERITED.keys() - _PARTLY_INHERITED | ({"serviceAccountName"} if identity else set())
    found = []
    for path in paths:
        _, field, *rest = steps_of(path)
        if field in fields:
            found.append(path)
        elif field == "containers" and rest[:1] == [SERVER_CONTAINER] and set(rest[1:2]) & set(_OF_CONTAINER):
            found.append(path_of(("spec", field, CONTAINER, *rest[1:])))
    return found


def inherited_container_patch(spec: Manifest, container: str) -> Manifest:
    """Return the patch of a Job's container that follows from the server's `container` in `spec.podTemplate.spec`."""
    containers = spec.get("containers")
    items = containers if isinstance(containers, list | tuple) else ()
    own = next((item for item in items if isinstance(item, dict) and item.get("name") == container), {})
    return {field: own[field] for field in _OF_CONTAINER if field in own}
