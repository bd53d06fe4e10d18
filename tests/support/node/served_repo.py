"""A server with a repo on a real node, and a pod of a user."""

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cluster.cluster import Cluster, KubectlError
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, path, repo, secret_of, server, wait_for_condition
from support.distributions.wheels import wheel
from support.node.pods import ClientPod, client_pod, install_operator, restricted_namespace, rolled_out

REPO = "team-a"
FOLDER = "/tmp"
SHARED: Json = {"storage": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}}
"""Storage of a server with several replicas: all can mount the same folder of the node."""
_SELECTOR = "--selector=app.kubernetes.io/component=server"


@dataclass(frozen=True)
class Site:
    """One server with one repo, an operator and a user's pod, all in one namespace."""

    cluster: Cluster
    kube: KubeClient
    namespace: str
    inside: ClientPod

    @property
    def host(self) -> str:
        return f"pywharf.{self.namespace}.svc"

    def index(self, password: str = f"{REPO}-read-value", repo: str = REPO, scheme: str = "http") -> str:
        """Return the index URL for pip."""
        return f"{scheme}://{repo}:{password}@{self.host}/repo/{repo}/simple/"

    def publish(self, folder: Path, name: str, repo: str = REPO, *, scheme: str = "http") -> None:
        """Publish a wheel with twine from the pod."""
        made = self.bring(wheel(folder, name))
        where = f"--repository-url={scheme}://{self.host}/repo/{repo}/simple/"
        named = (f"--username={repo}", f"--password={repo}-write-value")
        self.inside.run("twine", "upload", "--non-interactive", where, *named, made)

    def bring(self, file: Path) -> str:
        """Copy a file into the pod; returns its path there."""
        content = base64.b64encode(file.read_bytes()).decode()
        self.inside.run("sh", "-c", f"base64 -d > {FOLDER}/{file.name}", input=content)
        return f"{FOLDER}/{file.name}"

    def download(self, name: str, to: str, index: str = "") -> tuple[str, ...]:
        """Return the command that a user types, without retries."""
        trusted = ("--trusted-host", self.host)
        flags = ("--no-cache-dir", "--no-deps", "--disable-pip-version-check", "--no-input", "--retries=0")
        return ("pip", "download", *flags, *trusted, f"--index-url={index or self.index()}", f"--dest={to}", name)

    def server_pods(self, shown: str = "{.metadata.name}") -> list[str]:
        """Return the value of `shown` (jsonpath) for each pod of the server that is not terminating, sorted."""
        where = ("--namespace", self.namespace)
        form = f"jsonpath={{range .items[*]}}{{.metadata.deletionTimestamp}}|{shown}{{'\\n'}}{{end}}"
        lines = self.cluster.kubectl("get", "pods", _SELECTOR, *where, "-o", form).splitlines()
        return sorted(line.partition("|")[2] for line in lines if line.startswith("|"))

    def kubectl(self, verb: str, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as Cluster.kubectl
        return self.cluster.kubectl(verb, f"--namespace={self.namespace}", *arguments, input=input)


@contextlib.contextmanager
def made_site(cluster: Cluster, **server_spec: Any) -> Iterator[Site]:
    """Create a site in a namespace that enforces the level `restricted`; it is deleted at the end."""
    namespace = restricted_namespace(cluster)
    kube = cluster.client()
    try:
        install_operator(cluster, namespace)
        apply(kube, namespace, server(**server_spec), secret_of(REPO), repo(REPO))
        inside = client_pod(cluster, namespace)
        wait_for_condition(kube, path("packagerepos", namespace, REPO), "Ready", "True", longest_s=90)
        rolled_out(cluster, namespace, "pywharf")
        site = Site(cluster, kube, namespace, inside)
        inside.reach(site.host)
        yield site
    finally:
        kube.delete(f"/api/v1/namespaces/{namespace}")
        kube.close()


def status_of(error: KubectlError) -> int:
    """Return the HTTP status that a client reports in its error; 0 if it reports none."""
    found = re.search(r"\b([45]\d\d)\b", error.stderr)
    return int(found[1]) if found else 0
