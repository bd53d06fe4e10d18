"""A PackageRepo with the GitHub backend, from its manifest to its clients: operator, Jobs and real servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    get_repo,
    path,
    repo,
    secret,
    server,
    wait_for_condition,
)
from support.distributions.wheels import wheel
from support.github.repository import BRANCH, OWNER, Github, TestRepository
from support.kubelet.index_pods import annotate
from support.kubelet.stand_in import Kubelet
from support.operator import operating
from support.server.calling import call
from support.waiting import wait_for

READ, WRITE = "wheels-read-value", "wheels-write-value"
OWN = {"readSecretRef": {"name": "wheels", "key": "read"}, "writeSecretRef": {"name": "wheels", "key": "write"}}
LONG_S = 90.0


@pytest.fixture
def operator(cluster: Cluster, namespace: str, kubelet: Kubelet, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        running.secrets |= {READ, WRITE}
        yield running
        print(running.text())


@pytest.fixture
def app(github: Github) -> str:
    """The secret, of several lines, of an App that this GitHub knows."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    github.api.app_key = public.decode()
    return f'app_id = 12\ninstallation_id = 34\nprivate_key = """\n{private.decode()}"""\n'


def stateless(github: Github, **spec: Any) -> Json:
    """Return a server without a volume, whose repos may name this GitHub."""
    made = server(allowedEndpoints=[urlsplit(github.url).netloc], **spec)
    del made["spec"]["storage"]
    return made


def wheels(kept: TestRepository, **credentials: Any) -> Json:
    backend = {"owner": OWNER, "repo": kept.name, "branch": BRANCH, "apiURL": kept.github.url}
    return repo(
        "wheels",
        backend={"github": backend},
        credentials={**credentials, "backendSecretRef": {"name": "wheels", "key": "backend"}},
        index={"syncIntervalSeconds": 1},
    )


def served(kube: KubeClient, kubelet: Kubelet, namespace: str, replicas: int) -> list[str]:
    """Wait until the index was updated for the first time. Returns the URLs of the replicas."""
    urls = kubelet.wait_for_urls(namespace, SERVER_NAME, replicas, longest_s=LONG_S)
    for kind in ("Ready", "IndexUpToDate"):
        wait_for_condition(kube, path("packagerepos", namespace, "wheels"), kind, "True", longest_s=LONG_S)
    return urls


def update(kube: KubeClient, namespace: str, value: str) -> Json:
    """Request an index update as users do. Returns the repo's index status after it."""
    annotate(kube, namespace, "wheels", value)

    def done() -> Json:
        found = get_repo(kube, namespace, "wheels")
        index: Json = ((found or {}).get("status") or {}).get("index") or {}
        current = index.get("lastTrigger") == value and condition(found, "IndexUpToDate").get("status") == "True"
        return index if current and index.get("files") else {}

    return wait_for(done, f"the update {value}", longest_s=LONG_S)


def publish(computer: Computer, index: Index, file: Path, *, fails: bool = False) -> str:
    named = (f"--username={index.user}", f"--password={index.secret}")
    flags = ("--non-interactive", "--disable-progress-bar", f"--repository-url={index.url}")
    return computer.run("twine", "upload", *flags, *named, file, fails=fails).text


def status(url: str, secret: str, page: str = "") -> int:
    return call(f"{url}/repo/wheels/simple/{page}", auth=f"wheels:{secret}").status


def known_to(url: str, secret: str, project: str) -> None:
    """Wait until the replica serves the project."""
    wait_for(lambda: status(url, secret, f"{project}/") == 200, f"{project} at {url}", longest_s=LONG_S)


def installed(computer: Computer, url: str, secret: str, project: str, into: str) -> dict[str, str]:
    index = Index(f"{url}/repo/wheels/simple/", "wheels", secret)
    python, _ = install("pip", computer, index, project, into=into)
    return python.installed()


@pytest.mark.timeout(240)
def test_with_passwords_of_its_own_and_an_app(kube, namespace, kubelet, operator, github, app, tmp_path):
    """Clients need no GitHub account: every request to GitHub comes from the App."""
    kept, computer, file = github.repository(), Computer(tmp_path / "home"), wheel(tmp_path, "parcel")
    operator.secrets |= {line for line in app.splitlines() if len(line) == 64}
    apply(kube, namespace, secret("wheels", read=READ, write=WRITE, backend=app))
    apply(kube, namespace, stateless(github, replicas=2), wheels(kept, **OWN))
    one, other = served(kube, kubelet, namespace, 2)

    publish(computer, Index(f"{one}/repo/wheels/simple/", "wheels", WRITE), file)
    known_to(other, READ, "parcel")
    index = update(kube, namespace, "now")

    assert (kept.visible(), kept.drafts()) == ([file.name], [])
    counted = {key: index[key] for key in ("projects", "files", "bytes")}
    assert counted == {"projects": 1, "files": 1, "bytes": file.stat().st_size}
    for number, url in enumerate((one, other)):
        assert installed(computer, url, READ, "parcel", f"at-{number}") == {"parcel": "1.0"}
    (tmp_path / "another").mkdir()
    another = wheel(tmp_path / "another", "parcel", payload=b"VALUE = 2\n")
    assert "409" in publish(computer, Index(f"{other}/repo/wheels/simple/", "wheels", WRITE), another, fails=True)
    assert [status(one, value) for value in ("wrong", kept.token_of("write"))] == [401, 401]
    calls = [one for one in kept.calls if one.token and one.path != "/graphql"]  # GraphQL may be about another repo
    asked_by = {one.token for one in calls} - {kept.admin}  # the tests create and inspect it as admin
    assert all(token.startswith("ghs_") for token in asked_by), asked_by
    assert b'"parcel"' in (kept.index() or b"")


@pytest.mark.timeout(240)
def test_with_clients_own_tokens(kube, namespace, kubelet, operator, github, tmp_path):
    """GitHub decides who may do what. The server's own token reads, and updates the index."""
    kept, computer, file = github.repository(), Computer(tmp_path / "home"), wheel(tmp_path, "parcel")
    reader, writer, stranger = kept.token_of("read"), kept.token_of("write"), github.repository().token_of("write")
    own = kept.token_of("write")
    for log in (operator.secrets, kubelet.secrets):
        log |= {reader, writer, stranger, own}
    apply(kube, namespace, secret("wheels", backend=f"{own}\n"), secret("broken", backend="two words"))
    broken = wheels(kept) | {"metadata": {"name": "broken"}}
    broken["spec"]["credentials"] = {"backendSecretRef": {"name": "broken", "key": "backend"}}
    apply(kube, namespace, stateless(github, authReadExpires=1), wheels(kept), broken)
    (url,) = served(kube, kubelet, namespace, 1)
    index = Index(f"{url}/repo/wheels/simple/", "wheels", writer)

    assert "403" in publish(computer, Index(index.url, "wheels", reader), file, fails=True)
    assert kept.visible() == []
    publish(computer, index, file)

    assert kept.visible() == [file.name]
    published = [one for one in kept.calls if one.verb in {"POST", "PATCH"} and one.path != "/graphql"]
    assert {one.token for one in published} == {writer}, published
    assert update(kube, namespace, "now")["files"] == 1
    assert {one.token for one in kept.calls if one.verb == "PUT"} == {own}
    assert installed(computer, url, reader, "parcel", "reader") == {"parcel": "1.0"}
    assert [status(url, secret) for secret in (stranger, "ghp_nobody", "two words", "")] == [401] * 4
    kept.revoke(reader)
    wait_for(lambda: status(url, reader) == 401, "the revoked token to be refused")
    found = wait_for_condition(kube, path("packagerepos", namespace, "broken"), "Programmed", "False")
    assert "personal access token" in condition(found, "Programmed")["message"]
