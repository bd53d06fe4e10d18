"""`pywharf operator` as a process: its memory, its shutdown and its log."""

import signal
import time

import pytest

from support.operator.operating import grant, operating
from support.waiting import wait_for

MEBIBYTE = 1024 * 1024
SECRETS = "/api/v1/namespaces/{}/secrets"


@pytest.fixture
def granted(cluster, namespace):
    return grant(cluster, namespace)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_operator_is_small_and_ends_within_seconds(granted, namespace, tmp_path, number):
    with operating(tmp_path, granted, namespace) as operator:
        wait_for(lambda: operator.metric("pywharf_operator_api_requests_total") > 2, "some requests")
        assert operator.get("/healthz") == (200, "ok\n")
        assert operator.memory() < 150 * MEBIBYTE
        began = time.monotonic()
        assert operator.stop(number) == 0
        assert time.monotonic() - began < 10.0


def test_no_secret_is_in_the_log_at_any_level(kube, granted, namespace, tmp_path):
    value = "hunter2-hunter2-hunter2"
    with operating(tmp_path, granted, namespace, flags=["--debug"]) as operator:
        operator.secrets |= {value, "aHVudGVyMi1odW50ZXIyLWh1bnRlcjI="}
        metadata = {"name": "team-a", "labels": {"pywharf.dev/credentials": "true"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"read": value}}
        kube.create(SECRETS.format(namespace), secret)
        repo = {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageRepo",
            "metadata": {"name": "team-a"},
            "spec": {
                "backend": {"fileSystem": {}},
                "credentials": {"readSecretRef": {"name": "team-a", "key": "read"}, "readOnly": True},
            },
        }
        path = f"/apis/pywharf.dev/v1alpha1/namespaces/{namespace}"
        kube.create(f"{path}/packagerepos", repo)
        server = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageServer", "metadata": {"name": "pywharf"}}
        kube.create(f"{path}/packageservers", server | {"spec": {"storage": {"size": "1Gi"}}})
        rendered = f"{SECRETS.format(namespace)}/pywharf-credentials"
        wait_for(lambda: kube.get(rendered) is not None, "the rendered Secret", longest_s=60.0)
        kube.patch(rendered, {"metadata": {"annotations": {"edited": "by somebody"}}})
        kube.delete(rendered)
        wait_for(lambda: kube.get(rendered) is not None, "the rendered Secret again", longest_s=30.0)
