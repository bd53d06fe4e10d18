"""Pods on a real node, all of the level `restricted`: a user's client, and the operator."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from support.cluster.cluster import Cluster, KubectlError, new_namespace
from support.cluster.kube_client import Json
from support.node.image_build import CLIENT_IMAGE as BUILT_CLIENT_IMAGE
from support.node.image_build import IMAGE as BUILT_IMAGE
from support.operator.operating import ACCOUNT, LEASE_RULES, RULES
from support.waiting import wait_for

GIVEN_IMAGE, GIVEN_CLIENT_IMAGE = "PYWHARF_TEST_IMAGE", "PYWHARF_TEST_CLIENT_IMAGE"
"""Environment variables for a given cluster: images that its nodes can pull."""
IMAGE = os.environ.get(GIVEN_IMAGE, BUILT_IMAGE)
CLIENT_IMAGE = os.environ.get(
    GIVEN_CLIENT_IMAGE, "python:3.13-slim" if GIVEN_IMAGE in os.environ else BUILT_CLIENT_IMAGE
)
_CLIENTS = "/tmp/clients"
# An image with only Python gets the latest clients.
_CLIENT_SCRIPT = f"""
command -v twine || {{ python3 -m venv {_CLIENTS} && {_CLIENTS}/bin/pip install --quiet uv twine; }}
exec sleep infinity
"""
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
READY_S = 90.0
REACHED_S = 180.0
"""Seconds. CoreDNS and kube-proxy know a new Service immediately, but 77 s late after an API outage (measured)."""
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()"
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class ClientPod:
    """A pod that waits for commands. It has pip, uv and twine and may write to /tmp."""

    cluster: Cluster
    namespace: str
    name: str

    def run(self, *command: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run a command in the pod and return its output. Raises KubectlError."""
        options = ("--stdin",) if input is not None else ()
        where = ("exec", *options, f"--namespace={self.namespace}", self.name, "--")
        return self.cluster.kubectl(*where, *command, input=input)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command in the pod that keeps running; leaving the returned process's context waits for its end."""
        arguments = ("exec", f"--namespace={self.namespace}", self.name, "--", *command)
        return self.cluster.kubectl_started(*arguments)

    def reach(self, host: str, port: int = 80) -> None:
        """Wait until the pod can connect to the host."""
        wait_for(lambda: self._connects(host, port), f"{host}:{port} to be reached", longest_s=REACHED_S)

    def fails(self, *command: str) -> str:
        """Run a command that must fail and return all its output (twine writes its errors to stdout)."""
        try:
            self.run("sh", "-c", 'exec "$@" 1>&2', "sh", *command)
        except KubectlError as error:
            return error.stderr
        msg = f"{' '.join(command)} did not fail"
        raise AssertionError(msg)

    def _connects(self, host: str, port: int) -> bool:
        try:
            self.run("python3", "-c", _CONNECT, host, str(port))
        except KubectlError:
            return False
        return True


def restricted_namespace(cluster: Cluster) -> str:
    """Create a namespace that enforces the level `restricted`."""
    client = cluster.client()
    try:
        return new_namespace(client, RESTRICTED)
    finally:
        client.close()


def client_pod(
    cluster: Cluster, namespace: str, name: str = "client", *, config_maps: Mapping[str, str] | None = None
) -> ClientPod:
    """Start a client pod and wait until it is ready; `config_maps` are mounted at the folders that are their keys."""
    probe = {"exec": {"command": ["sh", "-c", "command -v twine"]}, "periodSeconds": 1}
    path = {"name": "PATH", "value": f"/opt/clients/bin:{_CLIENTS}/bin:/usr/local/bin:/usr/bin:/bin"}
    spec = pod_spec(CLIENT_IMAGE, ["sh", "-c", _CLIENT_SCRIPT], readinessProbe=probe, env=[path])
    spec["automountServiceAccountToken"] = False
    for folder, config_map in (config_maps or {}).items():
        spec["volumes"].append({"name": config_map, "configMap": {"name": config_map}})
        mount = {"name": config_map, "mountPath": folder, "readOnly": True}
        spec["containers"][0]["volumeMounts"].append(mount)
    metadata = {"name": name, "namespace": namespace}
    applied(cluster, [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    cluster.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_S:.0f}s", f"-n={namespace}", f"pod/{name}")
    return ClientPod(cluster, namespace, name)


def pod_spec(image: str, command: list[str] | None = None, **container: Any) -> Json:
    """Return a pod spec of one container that meets the level `restricted`."""
    one: Json = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": _CONTAINER_SECURITY,
    }
    one |= {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    one |= ({"command": command} if command else {}) | container
    return {
        "securityContext": _POD_SECURITY,
        "terminationGracePeriodSeconds": 1,
        "containers": [one],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def install_operator(cluster: Cluster, namespace: str) -> None:
    """Install an operator for its own namespace with the least rights, and wait until it is ready."""
    version = "rbac.authorization.k8s.io/v1"
    metadata = {"name": ACCOUNT, "namespace": namespace}
    labels = {"app": ACCOUNT}
    probe = {"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 1, "timeoutSeconds": 5}
    arguments = ["operator", f"--namespace={namespace}", f"--image={IMAGE}", "--leader_elect"]
    spec = pod_spec(IMAGE, args=arguments, readinessProbe=probe) | {"serviceAccountName": ACCOUNT}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
    deployment = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }
    applied(
        cluster,
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": [*RULES, *LEASE_RULES]},
            {
                "apiVersion": version,
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": role,
                "subjects": [subject],
            },
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
        ],
    )
    rolled_out(cluster, namespace, ACCOUNT)


def rolled_out(cluster: Cluster, namespace: str, deployment: str) -> None:
    """Wait for a Deployment's rollout. Raises AssertionError with the state and logs of its pods."""
    where = f"--namespace={namespace}"
    wait_for(lambda: _exists(cluster, where, deployment), f"the Deployment {deployment}", longest_s=READY_S)
    try:
        cluster.kubectl("rollout", "status", where, f"deployment/{deployment}", f"--timeout={READY_S:.0f}s")
    except KubectlError as error:
        shown = cluster.kubectl("get", "pods,events", where, "-o", "wide")
        logs = cluster.kubectl("logs", where, f"deployment/{deployment}", "--tail=40")
        raise AssertionError(f"{error}\n{shown}\n{logs}") from None


def applied(cluster: Cluster, objects: Iterable[Json]) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def _exists(cluster: Cluster, where: str, deployment: str) -> bool:
    return bool(cluster.kubectl("get", where, "deployment", deployment, "--ignore-not-found", "-o", "name"))
