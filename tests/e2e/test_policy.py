"""Policies on a real node: how soon every replica applies one, and that time moves pages without any write."""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json
from support.cluster.resources import apply, path, policy, repo, secret_of, wait_for_condition, wait_for_object
from support.node.pods import CLIENT_IMAGE, ClientPod, applied, pod_spec
from support.node.served_repo import REPO, SHARED, Site, made_site
from support.waiting import stretched

REPLICAS = 3
TIMES = 3
MEDIAN_S, WORST_S = 2.0, 5.0
LATE_S = 5.0
"""Seconds after its moment within which every replica shows or withholds a file."""
LONGEST_S = 90
NAME = "mirror"
PORT = 8000
# An index of JSON pages (PEP 691), one file a project, which the tests write.
UPSTREAM = f"""
import http.server, pathlib
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = pathlib.Path("/tmp/pages", self.path.strip("/").rpartition("/")[2])
        content = page.read_bytes() if page.is_file() else b""
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
pathlib.Path("/tmp/pages").mkdir()
http.server.ThreadingHTTPServer(("", {PORT}), Index).serve_forever()
"""
# Asks each replica by its address for a project's files until all show the wanted ones. Prints the moments at which it
# began, at which the first replica showed them and at which the last one did, by this pod's clock.
WATCH = """
import base64, json, sys, time, urllib.error, urllib.request
repo, project, wanted, new, longest, *hosts = sys.argv[1:]
basic = base64.b64encode(f"{repo}:{repo}-read-value".encode()).decode()
sent = {"Authorization": f"Basic {basic}", "Accept": "application/vnd.pypi.simple.v1+json"}
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def shows(host):
    try:
        request = urllib.request.Request(f"http://{host}:8888/repo/{repo}/simple/{project}/", headers=sent)
        with opener.open(request, timeout=5) as answer:
            return sorted(one["filename"] for one in json.load(answer)["files"]) == json.loads(wanted)
    except (OSError, ValueError, urllib.error.HTTPError):
        return False
assert new == "any" or not any(map(shows, hosts)), "shown already"
print(time.time(), flush=True)
end, first = time.monotonic() + float(longest), None
while True:
    shown = [shows(host) for host in hosts]
    first = first or (time.time() if any(shown) else None)
    if all(shown):
        break
    assert time.monotonic() < end, f"not shown in time: {shown}"
    time.sleep(0.02)
print(first, flush=True)
print(time.time(), flush=True)
"""


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster) -> Iterator[Site]:
    spec: Json = {"replicas": REPLICAS, **SHARED, "upstream": {"url": f"http://upstream:{PORT}/simple/"}}
    with made_site(pod_cluster, **spec) as made:
        labels = {"metadata": {"name": "upstream", "namespace": made.namespace, "labels": {"app": "upstream"}}}
        ports = [{"port": PORT, "protocol": "TCP"}]
        pod = pod_spec(CLIENT_IMAGE, ["python3", "-c", UPSTREAM])
        applied(
            pod_cluster,
            [
                {"apiVersion": "v1", "kind": "Pod", "spec": pod, **labels},
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "spec": {"selector": {"app": "upstream"}, "ports": ports},
                    **labels,
                },
            ],
        )
        made.kubectl("wait", "pod/upstream", "--for=condition=Ready", f"--timeout={LONGEST_S}s")
        made.inside.reach("upstream", PORT)
        apply(made.kube, made.namespace, secret_of(NAME), repo(NAME, upstream={"mode": "Pages"}))
        wait_for_condition(made.kube, path("packagerepos", made.namespace, NAME), "Ready", "True", longest_s=90)
        for one in (REPO, NAME):
            # The first update of an index writes into the status, too. After it nothing does that no test causes.
            where = path("packagerepos", made.namespace, one)
            wait_for_condition(made.kube, where, "IndexUpToDate", "True", longest_s=90)
        yield made


@pytest.fixture(autouse=True)
def without_policies(site: Site) -> Iterator[None]:
    yield
    site.kubectl("delete", "packagepolicies", "--all")


def publish(site: Site, project: str, **uploaded: datetime) -> None:
    """Write the upstream's page of a project; `uploaded` holds the upload time of each version, as v1."""
    files = [
        {
            "filename": file(project, version),
            "url": f"http://upstream:{PORT}/{file(project, version)}",
            "hashes": {"sha256": "a" * 64},
            "size": 1,
            "upload-time": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        for version, moment in uploaded.items()
    ]
    page = json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": files})
    ClientPod(site.cluster, site.namespace, "upstream").run("sh", "-c", f"cat > /tmp/pages/{project}", input=page)


def file(project: str, version: str) -> str:
    return f"{project}-{version.removeprefix('v')}-py3-none-any.whl"


def watching(site: Site, project: str, *versions: str, new: str = "new") -> "subprocess.Popen[str]":
    addresses = site.server_pods("{.status.podIP}")
    assert len(addresses) == REPLICAS
    wanted = json.dumps(sorted(file(project, version) for version in versions))
    return site.inside.start("python3", "-c", WATCH, NAME, project, wanted, new, str(LONGEST_S), *addresses)


def moment_of(watch: "subprocess.Popen[str]") -> float:
    assert watch.stdout is not None
    line = watch.stdout.readline().strip()
    assert line, f"the pod's watch ended: {watch.communicate(timeout=30)}"
    return float(line)


def until_shown(site: Site, project: str, *versions: str) -> tuple[float, float]:
    """Wait until every replica shows these versions; returns when the first and the last one did."""
    with watching(site, project, *versions, new="any") as watch:
        moment_of(watch)
        return moment_of(watch), moment_of(watch)


def resources_of(site: Site) -> dict[str, Json]:
    """Return everything by which a policy is written, delivered or announced; it changes with each write."""
    kinds = "packageservers,packagerepos,configmaps,secrets,deployments"
    items = json.loads(site.kubectl("get", kinds, "--output=json"))["items"]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in items}


def written_since(site: Site, before: dict[str, Json]) -> dict[str, tuple[Json | None, Json | None]]:
    """Return what was written since `before`: each resource as it was and as it is now."""
    now = resources_of(site)
    return {
        name: (before.get(name), now.get(name))
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }


def test_a_policy_is_in_force_and_gone_within_seconds(site: Site) -> None:
    publish(site, "parcel", v1=datetime.now(UTC) - timedelta(days=30), v2=datetime.now(UTC) - timedelta(hours=1))
    until_shown(site, "parcel", "v1", "v2")
    text = json.dumps(policy("week", cooldown={"minimumAge": "7d"}))
    took: dict[str, list[float]] = {"apply": [], "delete": []}
    for _ in range(TIMES):
        for verb, versions in (("apply", ("v1",)), ("delete", ("v1", "v2"))):
            with watching(site, "parcel", *versions) as watch:
                moment_of(watch)
                began = time.monotonic()
                site.kubectl(verb, "--filename=-", *(["--wait=false"] if verb == "delete" else []), input=text)
                moment_of(watch)
                moment_of(watch)
                took[verb].append(time.monotonic() - began)
    for verb, seconds in took.items():
        shown = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"{verb} of a PackagePolicy to {REPLICAS} replicas: median {statistics.median(seconds):.2f} s of {shown}")
        assert statistics.median(seconds) <= stretched(MEDIAN_S)
        assert max(seconds) <= stretched(WORST_S)


def test_a_release_matures_without_a_write(site: Site) -> None:
    now = datetime.now(UTC)
    matures = now + timedelta(seconds=40)
    publish(site, "slow", v1=now - timedelta(days=1), v2=matures - timedelta(minutes=1))
    apply(site.kube, site.namespace, policy("minute", cooldown={"minimumAge": "1m"}))
    wait_for_condition(site.kube, path("packagepolicies", site.namespace, "minute"), "Ready", "True")
    until_shown(site, "slow", "v1")
    before = resources_of(site)
    first, last = until_shown(site, "slow", "v1", "v2")
    assert first >= matures.timestamp()
    assert last <= matures.timestamp() + stretched(LATE_S)
    assert written_since(site, before) == {}


def test_an_exception_ends_on_time(site: Site) -> None:
    now = datetime.now(UTC)
    ends = (now + timedelta(seconds=40)).replace(microsecond=0)
    publish(site, "fixed", v1=now - timedelta(days=30), v2=now - timedelta(hours=1))
    one: dict[str, Any] = {"project": "fixed", "of": ["Cooldown"], "until": ends.isoformat(), "reason": "fixes a CVE"}
    where = path("packagepolicies", site.namespace, "week")
    apply(site.kube, site.namespace, policy("week", cooldown={"minimumAge": "7d"}, exceptions=[one]))
    found = wait_for_condition(site.kube, where, "Ready", "True")
    assert found["status"]["exceptions"]["active"] == 1
    until_shown(site, "fixed", "v1", "v2")
    before = resources_of(site)
    first, last = until_shown(site, "fixed", "v1")
    assert first >= ends.timestamp()
    assert last <= ends.timestamp() + stretched(LATE_S)
    assert written_since(site, before) == {}
    wait_for_object(
        site.kube, where, lambda live: live["status"]["exceptions"] == {"active": 0, "expired": 1}, "an ended exception"
    )
