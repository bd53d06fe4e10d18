"""The image alone, as `docker run` starts it. Its entry point is the command; its user has no name and no rights."""

import json

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json
from support.node.pods import IMAGE, applied, pod_spec, restricted_namespace

READY_S = 60
CONFIG = '[demo]\ntype = "file_system"\nread_secret = "foo"\nwrite_secret = "bar"\n'
SECRETS = '[demo]\ntype = "file_system"\nraw = "bar"\n'
FLAGS = ["/pywharf-root", "--config=/etc/pywharf/config.toml", "--admin_secret=/etc/pywharf/admin_secret.toml"]
ASK = """
import base64, urllib.request
basic = base64.b64encode(b"demo:foo").decode()
request = urllib.request.Request("http://127.0.0.1:8888/simple/", headers={"Authorization": f"Basic {basic}"})
print(urllib.request.urlopen(request, timeout=10).status)
"""


@pytest.fixture(scope="module")
def namespace(pod_cluster: Cluster):
    name = restricted_namespace(pod_cluster)
    yield name
    pod_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    ("name", "started"),
    [
        ("flags", {"args": ["server", *FLAGS]}),
        (
            "environment",
            {
                "env": [
                    {"name": "PYWHARF_COMMAND", "value": "server"},
                    {"name": "PYWHARF_COMMAND_ROOT", "value": FLAGS[0]},
                    {"name": "PYWHARF_COMMAND_CONFIG", "value": FLAGS[1].partition("=")[2]},
                    {"name": "PYWHARF_COMMAND_ADMIN_SECRET", "value": FLAGS[2].partition("=")[2]},
                ]
            },
        ),
    ],
)
def test_it_serves_a_root_as_the_original_image_did(name, started, namespace: str, pod_cluster: Cluster):
    mounts = [("tmp", "/tmp"), ("root", "/pywharf-root"), ("config", "/etc/pywharf")]
    probe = {"httpGet": {"path": "/healthz", "port": 8888}, "periodSeconds": 1}
    container: Json = {"volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts]}
    spec = pod_spec(IMAGE, readinessProbe=probe, **container, **started)
    spec["automountServiceAccountToken"] = False
    spec["volumes"] += [{"name": "root", "emptyDir": {}}, {"name": "config", "configMap": {"name": "config"}}]
    data = {"config.toml": CONFIG, "admin_secret.toml": SECRETS}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": namespace}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    applied(pod_cluster, [config | {"data": data}, pod])
    where = f"--namespace={namespace}"
    pod_cluster.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_S}s", where, f"pod/{name}")
    assert pod_cluster.kubectl("exec", where, name, "--", "python3", "-c", ASK).strip() == "200"


def test_it_holds_what_it_runs_and_no_more(namespace: str, pod_cluster: Cluster):
    """The image has no pip, compiler or cache, only the locked packages, and an unprivileged user."""
    script = """
import importlib.metadata, json, os, shutil, sys
names = sorted(d.metadata["Name"].lower() for d in importlib.metadata.distributions())
tools = [t for t in ("pip", "pip3", "gcc", "cc", "make", "git", "curl", "wget") if shutil.which(t)]
writable = [p for p in sys.path + [os.path.dirname(shutil.which("pywharf"))] if p and os.access(p, os.W_OK)]
print(json.dumps({"names": names, "tools": tools, "user": [os.getuid(), os.getgid()], "writable": writable}))
"""
    spec = pod_spec(IMAGE, ["python3", "-c", script]) | {"restartPolicy": "Never"}
    metadata = {"name": "look", "namespace": namespace}
    applied(pod_cluster, [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    where = f"--namespace={namespace}"
    succeeded = "--for=jsonpath={.status.phase}=Succeeded"
    pod_cluster.kubectl("wait", succeeded, f"--timeout={READY_S}s", where, "pod/look")
    found = json.loads(pod_cluster.kubectl("logs", where, "look"))
    assert found["tools"] == []
    assert found["user"] == [65532, 65532]
    assert found["writable"] == []
    assert {"pywharf", "aiohttp", "kopf", "kubernetes", "pygithub"} <= set(found["names"])
    assert not {"pip", "setuptools", "hatchling", "wheel"} & set(found["names"])


def test_any_user_of_group_0_may_run_it(namespace: str, pod_cluster: Cluster):
    """The image runs with ids that the cluster assigns."""
    spec = pod_spec(IMAGE, ["pywharf", "operator", "--help"]) | {"restartPolicy": "Never"}
    ids = {"runAsUser": 1000680000, "runAsGroup": 0}
    spec["securityContext"] = {key: value for key, value in spec["securityContext"].items() if key != "fsGroup"} | ids
    metadata = {"name": "any-user", "namespace": namespace}
    applied(pod_cluster, [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    where = f"--namespace={namespace}"
    succeeded = "--for=jsonpath={.status.phase}=Succeeded"
    pod_cluster.kubectl("wait", succeeded, f"--timeout={READY_S}s", where, "pod/any-user")
    assert "--lease_name" in pod_cluster.kubectl("logs", where, "any-user").replace("lease-name", "lease_name")
