"""The pull-through cache on a real node: the chart with a cache volume, an index as a pod, a policy, and its end."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json
from support.cluster.resources import apply, path, policy, repo, secret_of, wait_for_condition
from support.distributions.wheels import wheel
from support.node.pods import CLIENT_IMAGE, applied, client_pod, pod_spec, restricted_namespace, rolled_out
from support.node.release import IMAGE_VALUES, Release
from support.node.served_repo import FOLDER, Site
from support.operator.chart import CHART
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(300)  # the first test may wait for the node, the chart and the index
NAME = "mirror"
PORT = 8000
PROJECTS = ("parcel", "crate")
VERSIONS = ("1.0", "2.0")
BEFORE, AFTER = 2, 4
"""Installs of each project before the index ends, and after."""
_MOUNT = "/wheels"
# An index of JSON pages (PEP 691) and the files of a folder.
UPSTREAM = f"""
import hashlib, http.server, json, pathlib
files = sorted(pathlib.Path("{_MOUNT}").glob("*.whl"))
def entry(file):
    content = file.read_bytes()
    return {{"filename": file.name, "url": "/files/" + file.name, "size": len(content),
            "hashes": {{"sha256": hashlib.sha256(content).hexdigest()}}, "upload-time": "2024-01-02T03:04:05.000000Z"}}
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, rest = self.path.strip("/").partition("/")
        status, form, content = 404, "text/plain", b""
        if kind == "files":
            content = next((file.read_bytes() for file in files if file.name == rest), b"")
            status, form = 200 if content else 404, "application/octet-stream"
        elif kind == "simple" and (found := [entry(file) for file in files if file.name.split("-")[0] == rest]):
            page = {{"meta": {{"api-version": "1.1"}}, "name": rest, "files": found}}
            status, form, content = 200, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()
        self.send_response(status)
        self.send_header("Content-Type", form)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
http.server.ThreadingHTTPServer(("", {PORT}), Index).serve_forever()
"""
# Installs the projects in turn until the file `stop` exists. Prints a line for each: its exit status and the project.
LOOP = """
n=0
while [ ! -e "$1/stop" ]; do
  for project in parcel crate; do
    n=$((n + 1))
    pip download --no-cache-dir --no-deps --disable-pip-version-check --no-input --retries=0 --quiet \\
      --trusted-host "$2" --index-url "$3" --dest "$1/$n" "$project" >&2
    echo "$? $project $(ls $1/$n)"
  done
done
"""
_ASKED = """
import base64, sys, urllib.error, urllib.request
url, user, password = sys.argv[1:]
token = base64.b64encode(f"{user}:{password}".encode()).decode()
request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}", "Accept": "application/json"})
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode("utf-8", "replace")[:2000])
"""


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The chart's release whose server has a cache, an index as a Deployment, and a client in another namespace."""
    folder = tmp_path_factory.mktemp("cache")
    release = Release(pod_cluster, restricted_namespace(pod_cluster), folder)
    other = restricted_namespace(pod_cluster)
    kube = pod_cluster.client()
    host = f"upstream.{other}.svc.cluster.local:{PORT}"
    server: Json = {
        "cache": {"fileSystem": {"size": "1Gi"}},
        "allowedEndpoints": [host],
        "upstream": {"mode": "Cached", "url": f"http://{host}/simple/"},
    }
    try:
        applied(pod_cluster, upstream(other, folder))
        release.helm("install", str(CHART), values=IMAGE_VALUES | {"server": server})
        rolled_out(pod_cluster, other, "upstream")
        rolled_out(pod_cluster, release.namespace, "pywharf-operator")
        apply(kube, release.namespace, secret_of(NAME), repo(NAME, upstream={"mode": "Cached"}))
        wait_for_condition(kube, path("packagerepos", release.namespace, NAME), "Ready", "True", longest_s=120)
        rolled_out(pod_cluster, release.namespace, "pywharf")
        made = Site(pod_cluster, kube, release.namespace, client_pod(pod_cluster, other))
        made.inside.reach(made.host)
        yield made
    finally:
        release.remove()
        pod_cluster.kubectl("delete", "namespace", other, "--wait=false")
        kube.close()


def upstream(namespace: str, folder: Path) -> list[Json]:
    """Return the index: a Deployment with its files in a ConfigMap, and a Service."""
    files = [wheel(folder, name, version) for name in PROJECTS for version in VERSIONS]
    content = {file.name: base64.b64encode(file.read_bytes()).decode() for file in files}
    labels = {"app": "upstream"}
    mount = {"name": "wheels", "mountPath": _MOUNT, "readOnly": True}
    pod = pod_spec(CLIENT_IMAGE, ["python3", "-c", UPSTREAM])
    pod["containers"][0]["volumeMounts"].append(mount)
    pod["volumes"].append({"name": "wheels", "configMap": {"name": "wheels"}})
    template = {"metadata": {"labels": labels}, "spec": pod}
    metadata = {"name": "upstream", "namespace": namespace}
    ports = [{"port": PORT, "protocol": "TCP"}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"name": "wheels"}, "binaryData": content},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}},
    ]


def asked(site: Site, what: str) -> tuple[int, str]:
    """Return the status and the beginning of the body of a request to the repo."""
    url = f"http://{site.host}/repo/{NAME}/simple/{what}"
    status, _, body = site.inside.run("python3", "-c", _ASKED, url, NAME, f"{NAME}-read-value").partition(" ")
    return int(status), body


def scaled(site: Site, replicas: int) -> None:
    where = f"--namespace={site.inside.namespace}"
    site.cluster.kubectl("scale", where, "deployment/upstream", f"--replicas={replicas}")

    def pods() -> int:
        found = site.cluster.kubectl("get", "pods", where, "--selector=app=upstream", "--output=name")
        return len(found.split())

    wait_for(lambda: pods() == replicas, f"{replicas} pods of the index", longest_s=90)


def test_installs_go_on_while_the_index_is_away(site: Site) -> None:
    """None fails: before, while and after the index ends, and with a new server whose memory is empty."""
    denied = {"project": "parcel", "versions": "==2.0", "reason": "stolen release"}
    apply(site.kube, site.namespace, policy("no-parcel-2", deny=[denied]))
    wait_for_condition(site.kube, path("packagepolicies", site.namespace, "no-parcel-2"), "Ready", "True")
    index = site.index(f"{NAME}-read-value", NAME)
    expected = {"parcel": "parcel-1.0-py3-none-any.whl", "crate": "crate-2.0-py3-none-any.whl"}
    done: list[str] = []
    with site.inside.start("sh", "-c", LOOP, "sh", FOLDER, site.host, index) as loop:
        assert loop.stdout is not None

        def installs(count: int) -> None:
            assert loop.stdout is not None
            for _ in range(count * len(PROJECTS)):
                done.append(loop.stdout.readline().strip())

        installs(BEFORE)
        began = time.monotonic()
        scaled(site, 0)
        installs(AFTER)
        site.inside.run("touch", f"{FOLDER}/stop")
        done += [line.strip() for line in loop.stdout.readlines()]
    print(f"{len(done)} installs, {time.monotonic() - began:.0f} s of them with the index ending or away")
    assert {line for line in done if line} == {f"0 {project} {file}" for project, file in expected.items()}
    # What the policy withholds is not given from the cache, and what nobody asked for before is not known.
    assert asked(site, f"parcel/{expected['parcel'].replace('1.0', '2.0')}")[0] == 403
    status, body = asked(site, "never-asked-for/")
    assert status == 504
    assert "never-asked-for" in json.loads(body)["detail"]
    site.kubectl("delete", "pod", "--selector=app.kubernetes.io/component=server")
    rolled_out(site.cluster, site.namespace, "pywharf")
    wait_for(lambda: asked(site, "parcel/")[0] == 200, "the kept page", longest_s=60)
    for project, file in expected.items():
        assert asked(site, f"{project}/{file}")[0] == 200


def test_the_cache_has_a_volume_of_its_own(site: Site) -> None:
    claims = json.loads(site.kubectl("get", "persistentvolumeclaims", "--output=json"))["items"]
    found = {one["metadata"]["name"]: one for one in claims}
    assert set(found) == {"pywharf-data", "pywharf-cache"}
    assert all("ownerReferences" not in one["metadata"] for one in claims)
    assert site.kubectl("explain", "packageserver.spec.cache").count("<Object>") >= 5
