"""User actions from pods, over TLS and plain HTTP, against servers that the operator created on a real node."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.certificates import Certificates, certificates, server_certificate
from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, get_repo, path, repo, secret_of, server, wait_for_condition
from support.distributions.wheels import wheel
from support.node.pods import ClientPod, applied, client_pod, restricted_namespace, rolled_out
from support.node.served_repo import FOLDER, REPO, Site, made_site
from support.waiting import wait_for

SECURE = "secure"
"""The name of the server that speaks TLS, and of its repo."""
PACKAGE = "parcel"
CA_FOLDER = "/etc/authority"
CA_FILE = f"{CA_FOLDER}/ca.crt"
RENEWED_S = 150.0
"""Most seconds until a renewed certificate is served.

A kubelet refreshes a pod's volumes after 60 to 90 seconds, the kubelet of the tests' own node after 10 to 15.
"""
PIP = ("--no-cache-dir", "--no-deps", "--disable-pip-version-check", "--no-input", "--retries=0")
# Requests the list of projects with each user and password. Prints the status, challenge and page of each response.
ASK = """
import base64, json, sys, urllib.error, urllib.request
url, given = sys.argv[1], json.loads(sys.argv[2])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def ask(user, password):
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"} if user else {}
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers["WWW-Authenticate"], answer.read().decode()
print(json.dumps([ask(*one) for one in given]))
"""
CERTIFICATE = """
import socket, ssl, sys
host, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
with socket.create_connection((host, 443), timeout=10) as plain:
    with context.wrap_socket(plain, server_hostname=host) as connection:
        print(ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True)))
"""


@dataclass(frozen=True)
class Users:
    """A site with a second server, which speaks TLS. Each server's repo holds a package."""

    site: Site
    made: Certificates
    inside: ClientPod
    """A pod in the servers' namespace. Both pods mount the authority from a ConfigMap and use it only on request."""
    outside: ClientPod
    """A pod in another namespace."""

    @property
    def host(self) -> str:
        return f"{SECURE}.{self.site.namespace}.svc"

    def url(self, repo: str, secret: str | None = None, user: str | None = None) -> str:
        """Return the URL in the repo's status, with credentials if a secret is given."""
        url = str((get_repo(self.site.kube, self.site.namespace, repo) or {})["status"]["url"])
        return url if secret is None else url.replace("://", f"://{user or repo}:{secret}@")

    def upload(self, repo: str, name: str, folder: Path, secret: str) -> tuple[str, ...]:
        """Copy a new wheel to `inside`. Returns the command that uploads it there."""
        made = wheel(folder, name)
        content = base64.b64encode(made.read_bytes()).decode()
        self.inside.run("sh", "-c", f"base64 -d > {FOLDER}/{made.name}", input=content)
        named = (f"--username={repo}", f"--password={secret}", f"--cert={CA_FILE}")
        where = f"--repository-url={self.url(repo)}"
        return ("twine", "upload", "--non-interactive", where, *named, f"{FOLDER}/{made.name}")

    def imported(self, target: str) -> str:
        """Return the value that the package installed in `target` reports."""
        script = f"import sys; sys.path[:0] = [{target!r}]; import {PACKAGE}; print({PACKAGE}.VALUE)"
        return self.outside.run("python3", "-c", script).strip()


@pytest.fixture(scope="module")
def users(pod_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    cluster, folder = pod_cluster, tmp_path_factory.mktemp("users")
    other = restricted_namespace(cluster)
    with made_site(cluster) as site:
        made = certificates(folder / "tls", f"DNS:{SECURE}.{site.namespace}.svc")
        tls = {"secretRef": {"name": "tls"}}
        apply(site.kube, site.namespace, tls_secret(made), secret_of(SECURE))
        apply(site.kube, site.namespace, server(SECURE, tls=tls), repo(SECURE, serverRef={"name": SECURE}))
        for namespace in (site.namespace, other):
            applied(cluster, [authority(namespace, made)])
        mounted = {CA_FOLDER: "authority"}
        outside = client_pod(cluster, other, "trusting", config_maps=mounted)
        inside = client_pod(cluster, site.namespace, "trusting", config_maps=mounted)
        rolled_out(cluster, site.namespace, SECURE)
        wait_for_condition(site.kube, path("packagerepos", site.namespace, SECURE), "Ready", "True", longest_s=90)
        users = Users(site, made, inside, outside)
        inside.reach(users.host, 443)
        for name in (REPO, SECURE):
            inside.run(*users.upload(name, PACKAGE, folder, f"{name}-write-value"))
        yield users
        site.kube.delete(f"/api/v1/namespaces/{other}")


def test_pip_and_uv_install_over_tls(users: Users):
    """pip and uv install from another namespace, with the authority of a ConfigMap. twine published over TLS."""
    index = users.url(SECURE, f"{SECURE}-read-value")
    assert users.url(SECURE) == f"https://{users.host}/repo/{SECURE}/simple/"
    pip = ("pip", "install", *PIP, f"--index-url={index}")
    users.outside.run("env", f"PIP_CERT={CA_FILE}", *pip, f"--target={FOLDER}/tls-env", PACKAGE)
    users.outside.run(*pip, f"--cert={CA_FILE}", f"--target={FOLDER}/tls-flag", PACKAGE)
    uv = ("uv", "pip", "install", "--no-cache", f"--target={FOLDER}/tls-uv", f"--default-index={index}", PACKAGE)
    users.outside.run("env", f"SSL_CERT_FILE={CA_FILE}", *uv)
    for target in ("tls-env", "tls-flag", "tls-uv"):
        assert users.imported(f"{FOLDER}/{target}") == "1"


def test_without_the_authority_pip_and_uv_refuse(users: Users):
    index = users.url(SECURE, f"{SECURE}-read-value")
    said = users.outside.fails("pip", "install", *PIP, f"--index-url={index}", f"--target={FOLDER}/none", PACKAGE)
    assert "CERTIFICATE_VERIFY_FAILED" in said
    uv = ("uv", "pip", "install", "--no-cache", f"--target={FOLDER}/none", f"--default-index={index}", PACKAGE)
    said = users.outside.fails("env", "UV_HTTP_RETRIES=0", *uv)
    assert "certificate" in said.lower()


def test_over_plain_http_pip_needs_a_flag(users: Users):
    index, host = users.url(REPO, f"{REPO}-read-value"), users.site.host
    assert users.url(REPO) == f"http://{host}/repo/{REPO}/simple/"
    pip = ("pip", "install", *PIP, f"--index-url={index}", f"--target={FOLDER}/plain")
    said = users.outside.fails(*pip, PACKAGE)
    assert f"'--trusted-host {host}'" in said
    assert "No matching distribution found" in said
    users.outside.run(*pip, "--trusted-host", host, PACKAGE)
    assert users.imported(f"{FOLDER}/plain") == "1"
    uv = ("uv", "pip", "install", "--no-cache", f"--target={FOLDER}/plain-uv", f"--default-index={index}", PACKAGE)
    users.outside.run(*uv)
    assert users.imported(f"{FOLDER}/plain-uv") == "1"


def test_wrong_credentials_get_401_and_see_nothing(users: Users):
    read, write = f"{REPO}-read-value", f"{REPO}-write-value"
    right = [(REPO, read), (REPO, write)]
    wrong = [(REPO, "wrong"), ("", ""), (REPO, f"{SECURE}-read-value"), (SECURE, read), ("nobody", read)]
    answers = json.loads(users.outside.run("python3", "-c", ASK, users.url(REPO), json.dumps(right + wrong)))
    for given, (status, challenge, page) in zip(right + wrong, answers, strict=True):
        if given in right:
            assert (status, challenge, PACKAGE in page) == (200, None, True), given
        else:
            assert (status, challenge.split()[0], PACKAGE in page) == (401, "Basic", False), given
    pip = ("pip", "download", *PIP, "--trusted-host", users.site.host, f"--dest={FOLDER}/wrong")
    said = users.outside.fails(*pip, f"--index-url={users.url(REPO, 'wrong')}", PACKAGE)
    assert "401 Error, Credentials not correct" in said


@pytest.mark.parametrize(("secret", "status"), [(f"{SECURE}-read-value", 403), ("wrong", 401)])
def test_publishing_needs_the_write_secret(users: Users, secret: str, status: int, tmp_path: Path):
    said = users.inside.fails(*users.upload(SECURE, "refused", tmp_path, secret))
    assert f"HTTPError: {status} " in said
    index = users.url(SECURE, f"{SECURE}-read-value")
    said = users.outside.fails("pip", "download", *PIP, f"--cert={CA_FILE}", f"--index-url={index}", "refused")
    assert "No matching distribution found" in said


def test_a_renewed_certificate_is_served_by_the_same_pod(users: Users):
    site = users.site
    before = server_pods(site.kube, site.namespace)
    assert certificate(users) == users.made.cert.read_text().strip()
    renewed = server_certificate(users.made.authority.parent, "renewed", f"DNS:{users.host}")
    apply(site.kube, site.namespace, tls_secret(renewed))
    began = time.monotonic()
    wanted = renewed.cert.read_text().strip()
    wait_for(lambda: certificate(users) == wanted, "the new certificate", longest_s=RENEWED_S)
    print(f"a renewed certificate is served after {time.monotonic() - began:.0f} s")
    assert server_pods(site.kube, site.namespace) == before


def test_the_operator_watches_though_its_user_has_no_name(users: Users):
    """The log shows that its watches run. Without them the operator would still work, but seconds late."""
    assert "start again" not in users.site.kubectl("logs", "deployment/pywharf-operator")


def test_pods_that_do_not_need_the_api_have_no_token(users: Users):
    shown = users.site.kubectl(
        "get", "pods", "--selector=pywharf.dev/server", "-o", "jsonpath={.items[*].spec.volumes[*].name}"
    )
    assert shown
    assert "kube-api-access" not in shown


def tls_secret(made: Certificates) -> Json:
    """Return a Secret like that of `kubectl create secret tls`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.cert.read_text(), "tls.key": made.key.read_text()},
    }


def authority(namespace: str, made: Certificates) -> Json:
    metadata = {"name": "authority", "namespace": namespace}
    data = {Path(CA_FILE).name: made.authority.read_text()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def certificate(users: Users) -> str:
    """Return the server's certificate after verifying it."""
    return users.outside.run("python3", "-c", CERTIFICATE, users.host, CA_FILE).strip()


def server_pods(kube: KubeClient, namespace: str) -> list[tuple[str, int]]:
    """Return the name and the restarts of each pod of the TLS server."""
    selector = f"pywharf.dev/server={SECURE},app.kubernetes.io/component=server"
    pods = kube.list(path("pods", namespace, group="/api/v1"), labelSelector=selector)
    return [(pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods]
