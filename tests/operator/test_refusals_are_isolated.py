"""A write that a real API server refuses, for one object or one repo, does not block any other."""

import pytest

from support.cluster.api_faults import Answer
from support.cluster.resources import apply, condition, path, repo, secret_of, server, wait_for_condition
from support.operator.operating import ACCOUNT, grant, operating
from support.waiting import wait_for

BATCH = "/apis/batch/v1"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@pytest.fixture
def dead_webhook(kube, namespace):
    """A webhook for the namespace's Ingresses that does not answer, as while an ingress controller is down."""
    hook = {
        "name": "validate.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [
            {
                "apiGroups": ["networking.k8s.io"],
                "apiVersions": ["v1"],
                "resources": ["ingresses"],
                "operations": ["CREATE", "UPDATE"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    kube.request("POST", WEBHOOKS, kind | {"metadata": {"name": namespace}, "webhooks": [hook]})
    yield
    kube.delete(f"{WEBHOOKS}/{namespace}")


@pytest.mark.usefixtures("dead_webhook")
def test_a_webhook_that_is_down_keeps_back_its_own_objects_alone(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(ingress={"host": "packages.example.com"}), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        found = wait_for_condition(
            kube, path("packageservers", namespace, "pywharf"), "Ready", "False", reason="ApplyRefused"
        )
        message = condition(found, "Ready")["message"]
        assert f"Ingress {namespace}/pywharf: " in message
        assert "failed calling webhook" in message
        wait_for_condition(
            kube, path("packagerepos", namespace, "team-a"), "Programmed", "False", reason="NoReadyReplica"
        )
        assert kube.get(path("cronjobs", namespace, "pywharf-index-team-a", BATCH)) is not None


def test_a_status_that_is_refused_keeps_back_itself_alone(cluster, kube, namespace, api_proxy, tmp_path):
    grant(cluster, namespace)
    api_proxy.add(Answer(422), method="PATCH", path="/packagerepos/team-a/status$")
    apply(kube, namespace, server(), *(one(name) for name in ("team-a", "team-b") for one in (secret_of, repo)))
    kubeconfig = cluster.kubeconfig_for(ACCOUNT, namespace, url=api_proxy.url, ca_file=api_proxy.ca_file)
    with operating(tmp_path, kubeconfig, namespace) as operator:
        wait_for_condition(kube, path("packagerepos", namespace, "team-b"), "Accepted", "True")
        wait_for_condition(kube, path("packageservers", namespace, "pywharf"), "ConfigRendered", "True")
        wait_for(lambda: f"status of PackageRepo {namespace}/team-a is refused" in operator.text(), "the log's line")
        api_proxy.clear()
        kube.patch(path("packagerepos", namespace, "team-b"), {"spec": {"index": {"suspend": True}}})
        wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Accepted", "True")
