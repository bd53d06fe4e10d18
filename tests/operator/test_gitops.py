"""The overlays of examples/gitops, applied as Argo CD and Flux do, while an operator reconciles them."""

import contextlib
import json

import pytest

from pywharf_operator.spec.names import MANAGER
from support.cluster.cluster import KubectlError
from support.cluster.resources import condition, path, wait_for_condition
from support.operator.gitops import Health, decrypted, health, kustomized
from support.operator.operating import grant, operating
from support.waiting import wait_for

PASSWORDS = {"read": "gitops-read-value", "write": "gitops-write-value"}
SERVER_SIDE = {
    name: ("--server-side", f"--field-manager={name}") for name in ("argocd-controller", "kustomize-controller")
}
# `client-side` is Argo CD without the option ServerSideApply.
APPLIED = {**SERVER_SIDE, "client-side": ("--field-manager=argocd-controller",)}
PLURALS = {"PackagePolicy": "packagepolicies", "PackageRepo": "packagerepos", "PackageServer": "packageservers"}


def manifests(overlay, namespace):
    """Return the overlay's objects in the test's namespace, with their Secret decrypted."""
    objects = decrypted(kustomized(overlay), PASSWORDS)
    objects = [item for item in objects if item["kind"] != "Namespace"]
    for item in objects:
        item["metadata"]["namespace"] = namespace
    return objects


def text_of(objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def live(kube, item):
    namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
    where = path("secrets", namespace, name, "/api/v1")
    found = kube.get(where if item["kind"] == "Secret" else path(PLURALS[item["kind"]], namespace, name))
    assert found is not None
    return found


def settled(found):
    """Return the parts of the object that its author controls."""
    passing = {"resourceVersion", "managedFields"}
    metadata = {key: value for key, value in found["metadata"].items() if key not in passing}
    return {**{key: value for key, value in found.items() if key != "status"}, "metadata": metadata}


def of_kind(objects, kind):
    return next(item for item in objects if item["kind"] == kind)


@contextlib.contextmanager
def at_work(cluster, tmp_path, namespace):
    with operating(tmp_path, grant(cluster, namespace), namespace) as operator:
        operator.secrets |= set(PASSWORDS.values())
        yield operator


def where(item):
    return path(PLURALS[item["kind"]], item["metadata"]["namespace"], item["metadata"]["name"])


def health_of(found, aspect, status):
    """Return a Health of this status, with the condition's message."""
    return Health(status, condition(found, aspect)["message"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", APPLIED)
def test_applying_the_same_again_shows_no_drift(cluster, kube, namespace, tmp_path, way):
    objects = manifests("production", namespace)
    text, flags = text_of(objects), APPLIED[way]
    cluster.kubectl("apply", *flags, "-f", "-", input=text)
    before = [live(kube, item) for item in objects]
    with at_work(cluster, tmp_path, namespace):
        repo = wait_for_condition(kube, where(of_kind(objects, "PackageRepo")), "SecretsResolved", "True")
        server = wait_for_condition(kube, where(of_kind(objects, "PackageServer")), "ConfigRendered", "True")
        cluster.kubectl("diff", *flags, "-f", "-", input=text)  # it exits with 1 if something differs
        cluster.kubectl("apply", *flags, "-f", "-", input=text)
        after = [live(kube, item) for item in objects]
    assert [settled(found) for found in after] == [settled(found) for found in before]
    for first, last in zip(before, after, strict=True):
        assert "finalizers" not in last["metadata"]
        if last["kind"] == "Secret":
            assert last["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        for entry in last["metadata"]["managedFields"]:
            if entry["manager"] == MANAGER:
                assert (entry["subresource"], set(entry["fieldsV1"])) == ("status", {"f:status"})
    assert {MANAGER} <= {entry["manager"] for found in (repo, server) for entry in found["metadata"]["managedFields"]}


@pytest.mark.timeout(300)
def test_health_of_what_the_operator_wrote(cluster, kube, namespace, tmp_path):
    """No pod runs here, so the best health is that of a server which waits for its replicas."""
    objects = manifests("production", namespace)
    repo, server, secret = (of_kind(objects, kind) for kind in ("PackageRepo", "PackageServer", "Secret"))
    cluster.kubectl("apply", *SERVER_SIDE["argocd-controller"], "-f", "-", input=text_of([repo, server]))
    assert [health(live(kube, item)).status for item in (repo, server)] == ["Progressing", "Progressing"]
    with at_work(cluster, tmp_path, namespace):
        found = wait_for_condition(kube, where(repo), "SecretsResolved", "False", reason="SecretNotFound")
        assert health(found) == health_of(found, "SecretsResolved", "Degraded")

        cluster.kubectl("apply", *SERVER_SIDE["argocd-controller"], "-f", "-", input=text_of([secret]))
        found = wait_for_condition(kube, where(repo), "SecretsResolved", "True")
        assert health(found) == health_of(found, "Programmed", "Progressing")
        found = wait_for_condition(kube, where(server), "ConfigRendered", "True")
        assert health(found) == health_of(found, "Ready", "Progressing")

        # Two replicas cannot share a volume that only one node may mount.
        server["spec"]["storage"] = {"size": "1Gi", "accessModes": ["ReadWriteOnce"]}
        cluster.kubectl("apply", *SERVER_SIDE["argocd-controller"], "-f", "-", input=text_of([server]))
        found = wait_for_condition(kube, where(server), "Accepted", "False", reason="StorageNotShared")
        assert health(found) == health_of(found, "Accepted", "Degraded")


@pytest.mark.timeout(300)
def test_the_action_is_no_drift(cluster, kube, namespace, tmp_path):
    """Argo CD sets the annotation with a separate patch; Git does not contain it."""
    objects = manifests("staging", namespace)
    repo, text = of_kind(objects, "PackageRepo"), text_of(objects)
    flags = SERVER_SIDE["argocd-controller"]
    cluster.kubectl("apply", *flags, "-f", "-", input=text)
    with at_work(cluster, tmp_path, namespace):
        wait_for_condition(kube, where(repo), "SecretsResolved", "True")
        kube.patch(
            where(repo), {"metadata": {"annotations": {"pywharf.dev/update-index": "1"}}}, manager="argocd-server"
        )
        cluster.kubectl("diff", *flags, "-f", "-", input=text)
        cluster.kubectl("apply", *flags, "-f", "-", input=text)
        wait_for(lambda: condition(live(kube, repo), "Ready"), "a status that speaks of Ready")
        assert live(kube, repo)["metadata"]["annotations"] == {"pywharf.dev/update-index": "1"}


@pytest.mark.timeout(300)
def test_what_is_served_is_healthy_and_no_drift(cluster, kube, kubelet, namespace, tmp_path):
    """The repo's schedule is suspended, which does not affect its health."""
    objects = manifests("staging", namespace)
    repo, server, text = of_kind(objects, "PackageRepo"), of_kind(objects, "PackageServer"), text_of(objects)
    flags = SERVER_SIDE["kustomize-controller"]
    with at_work(cluster, tmp_path, namespace):
        cluster.kubectl("apply", *flags, "-f", "-", input=text)
        for item in (server, repo):
            found = wait_for_condition(kube, where(item), "Ready", "True", longest_s=120)
            assert health(found) == health_of(found, "Ready", "Healthy")
        cluster.kubectl("diff", *flags, "-f", "-", input=text)
        kube.patch(where(repo), {"spec": {"upstream": {"reserved": []}}}, manager="somebody")
        with pytest.raises(KubectlError) as differs:  # so a difference would have shown above
            cluster.kubectl("diff", *flags, "--force-conflicts", "-f", "-", input=text)
        assert "error" not in differs.value.stderr.lower()


@pytest.mark.parametrize("way", APPLIED)
def test_no_cluster_takes_an_encrypted_secret(cluster, namespace, way):
    """Otherwise the cipher text, which everybody can read in Git, would be the password."""
    secret = of_kind(kustomized("staging"), "Secret")
    secret["metadata"]["namespace"] = namespace
    with pytest.raises(KubectlError, match=r"sops|base64"):
        cluster.kubectl("apply", *APPLIED[way], "-f", "-", input=text_of([secret]))
