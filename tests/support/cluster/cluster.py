"""The Kubernetes of a test run, and the operations that tests need.

It is the first available of: PYWHARF_TEST_KUBECONFIG (an existing cluster: kind, k3d, a real one), KUBEBUILDER_ASSETS
(a folder with etcd and kube-apiserver), a `go` that builds them. Without any the tests are skipped, or fail if
PYWHARF_REQUIRE_CLUSTER=1 (or PYWHARF_REQUIRE_ALL=1) is set.
"""

import base64
import functools
import http
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support.cluster import build as cluster_build
from support.cluster.control_plane import API_SERVER, CONTROLLER_MANAGER, ETCD, ControlPlane, kubeconfig_text
from support.cluster.kube_client import ApiError, Json, KubeClient
from support.parts import CHECKOUT, missing
from support.waiting import wait_for

GIVEN = "PYWHARF_TEST_KUBECONFIG"
ASSETS = "KUBEBUILDER_ASSETS"
REQUIRE = "PYWHARF_REQUIRE_CLUSTER"
CRDS = CHECKOUT / "deploy" / "crds"
HOME = "pywharf-tests"
"""Namespace of the tests' own account, which has all rights."""

_ADMIN = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {HOME}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: admin, namespace: {HOME}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {HOME}-admin}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
subjects: [{{kind: ServiceAccount, name: admin, namespace: {HOME}}}]
"""


class KubectlError(AssertionError):
    """A failure of kubectl; `stderr` holds its error."""

    def __init__(self, arguments: tuple[str, ...], stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: {stderr}")
        self.stderr = stderr


@dataclass(frozen=True)
class Cluster:
    """An API server with the CRDs of deploy/crds and RBAC."""

    url: str
    """URL of the API server without a trailing slash."""
    ca_file: Path
    kubeconfig: Path
    """Kubeconfig of the administrator."""
    token: str
    """A bearer token of an account with all rights."""
    kubectl_program: Path
    folder: Path
    """Folder for files of this process: kubeconfigs, kubectl's cache."""
    has_controllers: bool
    """Whether garbage collection, CronJobs and the deletion of namespaces work."""

    def kubectl(self, *arguments: str, input: str | None = None, kubeconfig: Path | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run kubectl as the administrator or with `kubeconfig`; returns its output. Raises KubectlError."""
        return run_kubectl(self.kubectl_program, kubeconfig or self.kubeconfig, *arguments, text=input)

    def kubectl_started(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a kubectl that keeps running, with pipes for its output; leaving its context waits for its end."""
        command = [str(self.kubectl_program), *arguments]
        environment = kubectl_environment(self.kubeconfig)
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def client(self, token: str | None = None, url: str | None = None, ca_file: Path | None = None) -> KubeClient:
        """Return a client of the administrator or with another token; the caller closes it."""
        return KubeClient(url or self.url, ca_file or self.ca_file, token or self.token)

    def token_of(
        self, service_account: str, namespace: str, seconds: int = 3600, *, audience: str | None = None
    ) -> str:
        """Return a new token of the account, which is created if missing. `audience` None: the API server's own."""
        manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": service_account}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds, **({} if audience is None else {"audiences": [audience]})},
        }
        client = self.client()
        try:
            client.apply(f"{path}/{service_account}", manifest)
            return str(client.create(f"{path}/{service_account}/token", request)["status"]["token"])
        finally:
            client.close()

    def kubeconfig_for(
        self, service_account: str, namespace: str, *, url: str | None = None, ca_file: Path | None = None
    ) -> Path:
        """Write a kubeconfig with the account's token and namespace; `url` and `ca_file` may name a proxy."""
        return self._kubeconfig(self.token_of(service_account, namespace), url, ca_file, namespace)

    def kubeconfig_through(self, url: str, ca_file: Path) -> Path:
        """Write a kubeconfig with the administrator's token for a proxy."""
        return self._kubeconfig(self.token, url, ca_file, None)

    def _kubeconfig(self, token: str, url: str | None, ca_file: Path | None, namespace: str | None) -> Path:
        path = self.folder / f"{secrets.token_hex(6)}.kubeconfig"
        user = {"token": token}
        path.write_text(kubeconfig_text(url or self.url, ca_file or self.ca_file, "tests", user, namespace))
        return path

    def need_controllers(self) -> None:
        """Skip the test if there is no controller manager."""
        if not self.has_controllers:
            missing(CONTROLLER_MANAGER, f"{ASSETS} has none; unset it to build one with go")


class OwnCluster(Cluster):
    """A cluster that a test may break."""

    plane: ControlPlane
    clients: list[KubeClient]
    """All created clients; a failed test may have left some open."""

    def client(self, token: str | None = None, url: str | None = None, ca_file: Path | None = None) -> KubeClient:
        """Return a client as `Cluster.client` does; it is closed at the test's end at the latest."""
        made = super().client(token, url, ca_file)
        self.clients.append(made)
        return made

    def close_clients(self) -> None:
        """Close every created client."""
        for client in self.clients:
            client.close()

    def stop_apiserver(self) -> None:
        """Kill the API server; connections to it are reset."""
        self.plane.kill(API_SERVER)

    def start_apiserver(self) -> None:
        """Start the API server again with the same data and address; returns when it is ready."""
        self.plane.start_apiserver()

    def kill(self, part: str) -> None:
        """Kill one of etcd, kube-apiserver and kube-controller-manager."""
        self.plane.kill(part)

    def start(self, part: str) -> None:
        """Start one of these parts again."""
        starts = {
            ETCD: self.plane.start_etcd,
            API_SERVER: self.plane.start_apiserver,
            CONTROLLER_MANAGER: self.plane.start_controller_manager,
        }
        starts[part]()


def own_cluster_of(plane: ControlPlane, folder: Path) -> OwnCluster:
    made = OwnCluster(**vars(cluster_of(plane, folder)))
    object.__setattr__(made, "plane", plane)
    object.__setattr__(made, "clients", [])
    return made


def cluster_of(plane: ControlPlane, folder: Path) -> Cluster:
    kubectl = kubectl_program(plane.programs)
    token = admin_token(kubectl, plane.kubeconfig)
    return _usable(
        Cluster(plane.url, plane.made.authority, plane.kubeconfig, token, kubectl, folder, plane.has_controllers)
    )


def prepare(plane: ControlPlane) -> None:
    """Apply the CRDs before the controller manager discovers the kinds."""
    apply_crds(kubectl_program(plane.programs), plane.kubeconfig)


def apply_crds(kubectl: Path, kubeconfig: Path) -> None:
    run_kubectl(kubectl, kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    run_kubectl(kubectl, kubeconfig, "wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))


def admin_token(kubectl: Path, kubeconfig: Path) -> str:
    run_kubectl(kubectl, kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-", text=_ADMIN)
    return run_kubectl(kubectl, kubeconfig, "create", "token", "admin", f"--namespace={HOME}", "--duration=24h").strip()


def given_cluster(kubeconfig: Path, folder: Path) -> Cluster:
    """Return the existing cluster of a kubeconfig."""
    program = kubectl_program(None)
    shown = run_kubectl(program, kubeconfig, "config", "view", "--raw", "--minify", "--flatten", "--output=json")
    cluster = json.loads(shown)["clusters"][0]["cluster"]
    if "certificate-authority-data" not in cluster:
        missing("a kubeconfig with its cluster's authority", f"{GIVEN} names one without certificate-authority")
    ca_file = folder / "authority.pem"
    ca_file.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    apply_crds(program, kubeconfig)
    token = admin_token(program, kubeconfig)
    return _usable(Cluster(cluster["server"].rstrip("/"), ca_file, kubeconfig, token, program, folder, True))


def _usable(cluster: Cluster) -> Cluster:
    """Wait until the new account's rights and the new kinds work, which takes a moment; returns the cluster."""
    client = cluster.client()

    def works() -> bool:
        try:
            client.list("/apis/pywharf.dev/v1alpha1/packagerepos")
            client.list("/apis/pywharf.dev/v1alpha1/packageservers")
        except ApiError as error:
            if error.status in {http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND, http.HTTPStatus.UNAUTHORIZED}:
                return False
            raise
        return True

    try:
        wait_for(works, "the rights of the tests' account", longest_s=60)
    finally:
        client.close()
    return cluster


def programs() -> Path:
    """Return the folder of etcd, kube-apiserver and usually the others. Otherwise skips the calling test."""
    found = programs_or_why()
    if isinstance(found, str):
        if os.environ.get(REQUIRE, "") not in {"", "0"}:
            pytest.fail(f"left out, but {REQUIRE} is set: no Kubernetes control plane: {found}")
        missing("a Kubernetes control plane", found)
    return found


@functools.cache
def programs_or_why() -> Path | str:
    """Return the folder of programs, or a text that says why there is none and what to do. May build for minutes."""
    if assets := os.environ.get(ASSETS):
        return Path(assets)
    try:
        return cluster_build.build(cluster_build.CLUSTER)
    except cluster_build.BuildError as error:
        return f"{GIVEN}, {ASSETS}, or {error}"


def kubectl_program(folder: Path | None) -> Path:
    if folder is not None and (folder / "kubectl").exists():
        return folder / "kubectl"
    if found := shutil.which("kubectl"):
        return Path(found)
    return programs() / "kubectl"


def kubectl_environment(kubeconfig: Path) -> dict[str, str]:
    """Return the environment of kubectl."""
    return os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(kubeconfig.with_suffix(".cache")),
        "NO_PROXY": "127.0.0.1,localhost",
    }


def run_kubectl(program: Path, kubeconfig: Path, *arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        [str(program), *arguments],
        input=text,
        env=kubectl_environment(kubeconfig),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode:
        raise KubectlError(arguments, done.stderr)
    return done.stdout


def manifests(text: str) -> list[Json]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


def new_namespace(client: KubeClient, labels: Mapping[str, str] | None = None) -> str:
    """Create a namespace with a name that no other test has."""
    name = f"t-{secrets.token_hex(5)}"
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": HOME} | dict(labels or {})}
    client.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return name
