"""The claim of a server's volume: somebody enlarges it, and an empty storage class differs from an unset one."""

from collections.abc import Iterator

import pytest

from pywharf_operator.spec.kinds import SERVER, VOLUME_CLAIM
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, condition, server, settled, wait_for_condition
from support.operator import operating
from support.waiting import wait_for

CLASSES, VOLUMES = "/apis/storage.k8s.io/v1/storageclasses", "/api/v1/persistentvolumes"


@pytest.fixture
def storage_class(kube: KubeClient, namespace: str) -> Iterator[str]:
    """A class whose claims may grow, with a volume for the server's claim."""
    made = {"provisioner": "example.com/none", "allowVolumeExpansion": True, "volumeBindingMode": "Immediate"}
    kube.create(CLASSES, {"metadata": {"name": namespace}, **made})
    yield from volume(kube, namespace, namespace)
    kube.delete(f"{CLASSES}/{namespace}")


@pytest.fixture
def without_class(kube: KubeClient, namespace: str) -> Iterator[str]:
    """A volume without a class for the server's claim."""
    yield from volume(kube, namespace, "")


def volume(kube: KubeClient, namespace: str, storage_class: str) -> Iterator[str]:
    spec = {
        "capacity": {"storage": "100Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "claimRef": {"namespace": namespace, "name": "pywharf-data"},
        "csi": {"driver": "example.com", "volumeHandle": namespace},
    }
    kube.create(VOLUMES, {"metadata": {"name": namespace}, "spec": spec})
    yield storage_class
    kube.delete(f"{VOLUMES}/{namespace}")


def claim(kube: KubeClient, namespace: str) -> Json:
    return kube.get(VOLUME_CLAIM.path(namespace, "pywharf-data")) or {}


def requested(kube: KubeClient, namespace: str) -> str:
    return str(claim(kube, namespace).get("spec", {}).get("resources", {}).get("requests", {}).get("storage"))


def bound(kube: KubeClient, namespace: str) -> bool:
    return bool(claim(kube, namespace).get("status", {}).get("phase") == "Bound")


@pytest.mark.timeout(180)
def test_a_claim_that_somebody_made_larger_stays(cluster, kube, namespace, storage_class, tmp_path):
    cluster.need_controllers()
    of_server, where = SERVER.path(namespace, "pywharf"), VOLUME_CLAIM.path(namespace, "pywharf-data")

    def wants(size: object, expected: str) -> None:
        apply(kube, namespace, server(storage={"size": size, "storageClassName": storage_class}))
        found = wait_for_condition(kube, of_server, "Ready", "False", reason="NoReadyReplica")
        assert "PersistentVolumeClaim" not in condition(found, "Ready")["message"]
        wait_for(lambda: requested(kube, namespace) == expected, f"a claim of {expected}")

    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace) as operator:
        wants("10Gi", "10Gi")
        wait_for(lambda: bound(kube, namespace), "a claim that is bound", longest_s=60)
        kube.patch(where, {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}, manager="somebody")
        settled(kube, namespace, operator)
        before = claim(kube, namespace)["metadata"]["resourceVersion"]
        kube.patch(of_server, {"metadata": {"labels": {"pywharf.dev/look": "again"}}})
        settled(kube, namespace, operator)
        wants("10Gi", "20Gi")
        wants("12Gi", "20Gi")  # a new size, still smaller
        assert requested(kube, namespace) == "20Gi"
        wants("25Gi", "25Gi")  # larger, so it grows
        wants(11 * 1024**3, "25Gi")
        assert claim(kube, namespace)["metadata"]["resourceVersion"] != before
        written = operator.metric("pywharf_operator_api_requests_total", verb="apply", code="422")
        assert written == 0


@pytest.mark.timeout(120)
def test_a_claim_of_no_class(cluster, kube, namespace, without_class, tmp_path):
    """The claim is bound to a volume without a class, though the cluster may have a default class."""
    cluster.need_controllers()
    apply(kube, namespace, server(storage={"size": "10Gi", "storageClassName": without_class}))
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for(lambda: bound(kube, namespace), "a claim that is bound", longest_s=60)
        assert claim(kube, namespace)["spec"]["storageClassName"] == ""
        wait_for_condition(kube, SERVER.path(namespace, "pywharf"), "Ready", "False", reason="NoReadyReplica")


def test_a_claim_without_a_wish_names_no_class(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(storage={"size": "10Gi"}))
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for(lambda: claim(kube, namespace), "the claim")
        assert "storageClassName" not in claim(kube, namespace)["spec"]
