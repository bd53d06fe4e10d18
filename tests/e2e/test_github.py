"""A repo with the GitHub backend, in pods without a volume: twine, the index Job, pip and uv."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.cluster.kube_client import Json
from support.cluster.resources import apply, get_repo, path, repo, secret, server, wait_for_condition
from support.distributions.wheels import wheel
from support.github.repository import BRANCH, OWNER, Github
from support.node.node import Node, brought
from support.node.served_repo import FOLDER, Site, made_site
from support.waiting import wait_for


@pytest.fixture(scope="module")
def site(node: Node):
    with made_site(node.cluster) as made:
        yield made


def test_from_twine_to_pip_with_packages_in_github(node: Node, site: Site, github: Github, tmp_path: Path):
    repository, name = github.repository(), "hub"
    host = brought(node, "github", urlsplit(github.url).port or 0)
    where: Json = {"owner": OWNER, "repo": repository.name, "branch": BRANCH, "apiURL": f"http://{host}"}
    credentials = {f"{use}SecretRef": {"name": name, "key": use} for use in ("read", "write", "backend")}
    values = {"read": f"{name}-read-value", "write": f"{name}-write-value", "backend": repository.token_of("write")}
    spec: Json = {
        "backend": {"github": where | {"download": "stream"}},
        "credentials": credentials,
        "index": {"syncIntervalSeconds": 1},
        "serverRef": {"name": name},
    }
    without_volume = server(name, allowedEndpoints=[host])
    del without_volume["spec"]["storage"]
    apply(site.kube, site.namespace, without_volume, secret(name, **values), repo(name, **spec))
    at = path("packagerepos", site.namespace, name)
    wait_for_condition(site.kube, at, "Ready", "True", longest_s=90)
    wait_for_condition(site.kube, at, "IndexUpToDate", "True", longest_s=90)

    hub = f"{name}.{site.namespace}.svc"
    made = site.bring(wheel(tmp_path, "parcel"))
    named = (f"--username={name}", f"--password={name}-write-value")
    site.inside.run(
        "twine", "upload", "--non-interactive", f"--repository-url=http://{hub}/repo/{name}/simple/", *named, made
    )
    assert repository.visible() == [Path(made).name]

    index = f"http://{name}:{name}-read-value@{hub}/repo/{name}/simple/"
    pip = ("pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--trusted-host", hub)
    site.inside.run(*pip, f"--index-url={index}", f"--target={FOLDER}/hub", "parcel")
    site.inside.run("uv", "pip", "install", "--no-cache", f"--target={FOLDER}/uv", f"--default-index={index}", "parcel")

    site.kube.patch(at, {"metadata": {"annotations": {"pywharf.dev/update-index": "now"}}})

    def counted() -> bool:
        status = (get_repo(site.kube, site.namespace, name) or {}).get("status", {})
        return bool(status.get("index", {}).get("files") == 1)

    wait_for(counted, "the count of the Job", longest_s=90)
    assert b"parcel" in (repository.index() or b"")
