"""Backup and restore like Velero's: every object of a namespace, restored without the fields that the cluster set."""

from collections.abc import Iterable

from pywharf_operator.spec.kinds import (
    CONFIG_MAP,
    JOB,
    OPTIONAL,
    OWNED,
    POLICY,
    REPO,
    SECRET,
    SERVER,
    SERVICE,
    SERVICE_ACCOUNT,
    VOLUME_CLAIM,
    Kind,
)
from support.cluster.kube_client import ApiError, Json, KubeClient

_FIRST = (VOLUME_CLAIM, SERVICE_ACCOUNT, SECRET, CONFIG_MAP)
_REST = {*OWNED, JOB, REPO, SERVER, POLICY} - {*OPTIONAL, *_FIRST}
ORDER = (*_FIRST, *sorted(_REST, key=lambda kind: kind.plural))
"""Velero's order: kinds that others need come first, then the rest by name. Test clusters lack the optional kinds."""
_KEPT = ("name", "namespace", "labels", "annotations")
_OF_THE_CLUSTER = {"kube-root-ca.crt", "default"}
_ALREADY_THERE = 409


def taken(kube: KubeClient, namespace: str, *, owners: bool = False) -> list[Json]:
    """Return every object in restore order; `owners` keeps their owner references, as kubectl does."""
    kept = (*_KEPT, "ownerReferences") if owners else _KEPT
    return [_saved(kind, item, kept) for kind in ORDER for item in all_of(kube, namespace, kind)]


def all_of(kube: KubeClient, namespace: str, kind: Kind) -> list[Json]:
    """Return the objects of a kind, without those that the cluster or the running operator's account brings."""
    items = kube.list(kind.path(namespace))
    return [item for item in items if item["metadata"]["name"] not in _OF_THE_CLUSTER and not _of_tests(item)]


def _of_tests(item: Json) -> bool:
    """Return whether the object is the account of the running operator."""
    return bool(item["metadata"]["name"].startswith("pywharf-operator"))


def _saved(kind: Kind, item: Json, kept: Iterable[str]) -> Json:
    metadata = {field: item["metadata"][field] for field in kept if field in item["metadata"]}
    made = {field: value for field, value in item.items() if field not in {"metadata", "status"}}
    made |= {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
    if kind is SERVICE:
        made["spec"] = {name: value for name, value in item["spec"].items() if not name.startswith("clusterIP")}
    if kind is JOB:
        # The API server chooses new ones.
        made["spec"] = {name: value for name, value in item["spec"].items() if name != "selector"}
        for labels in (metadata["labels"], made["spec"]["template"]["metadata"]["labels"]):
            for name in [name for name in labels if name.endswith(("controller-uid", "job-name"))]:
                del labels[name]
    return made


def restore(kube: KubeClient, saved: Iterable[Json]) -> None:
    """Create the saved objects; existing objects stay unchanged."""
    kinds = {(kind.api_version, kind.name): kind for kind in ORDER}
    for item in saved:
        kind = kinds[item["apiVersion"], item["kind"]]
        try:
            kube.create(kind.path(item["metadata"]["namespace"]), item, manager="velero-server")
        except ApiError as error:
            if error.status != _ALREADY_THERE:
                raise
