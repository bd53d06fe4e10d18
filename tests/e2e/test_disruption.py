"""Downloads go on, whatever happens to pods, to the operator and to the API server."""

import json
import time
from collections.abc import Iterator

import pytest

from support.cluster import Cluster
from support.control_plane import API_SERVER
from support.kube_client import Json
from support.node import Node
from support.pods import rolled_out
from support.resources import apply, path, repo, secret_of, server, wait_for_condition
from support.site import FOLDER, SHARED, Site, made_site
from support.waiting import wait_for

REPLICAS = 2
AWAY_S = 60.0
LEAST = 4
"""Downloads in each phase, or it showed nothing."""
# Downloads again and again, two at a time, until told to stop; a line for each one that has ended.
LOOP = f"""
import json, pathlib, subprocess, sys, threading
folder = pathlib.Path({FOLDER!r}, "loop")
folder.mkdir(exist_ok=True)
lock = threading.Lock()
def work(worker):
    while not (folder / "stop").exists():
        done = subprocess.run([*sys.argv[1:], f"--dest={{folder / worker}}"], capture_output=True, text=True)
        with lock, (folder / "results").open("a") as file:
            file.write(json.dumps({{"status": done.returncode, "said": done.stderr[-2000:]}}) + "\\n")
threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
(folder / "ended").touch()
"""


class Loop:
    """Downloads that go on in the pod, also while nobody can reach it."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        command = [word for word in site.download(name, "") if not word.startswith("--dest")]
        site.inside.run("sh", "-c", f"cat > {FOLDER}/loop.py", input=LOOP)
        quoted = " ".join(f"'{word}'" for word in ["python3", f"{FOLDER}/loop.py", *command])
        site.inside.run("sh", "-c", f"nohup {quoted} >/dev/null 2>&1 &")

    def results(self) -> list[Json]:
        text = self._site.inside.run("sh", "-c", f"cat {FOLDER}/loop/results 2>/dev/null || true")
        return [json.loads(line) for line in text.splitlines()]

    def more(self, than: int) -> int:
        """Wait until some more have ended; how many have."""
        return wait_for(lambda: (n := len(self.results())) >= than + LEAST and n, "more downloads", longest_s=60)

    def stop(self) -> None:
        self._site.inside.run("touch", f"{FOLDER}/loop/stop")
        wait_for(lambda: self._site.inside.run("ls", f"{FOLDER}/loop").find("ended") >= 0, "its end", longest_s=60)


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster) -> Iterator[Site]:
    with made_site(pod_cluster, replicas=REPLICAS, **SHARED) as made:
        yield made


@pytest.fixture(scope="module")
def loop(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    site.publish(tmp_path_factory.mktemp("made"), "steady")
    running = Loop(site, "steady")
    yield running
    running.stop()
    assert not failures(running)


def failures(loop: Loop) -> list[str]:
    return [one["said"] for one in loop.results() if one["status"] != 0]


def held(loop: Loop, phase: str, before: int) -> None:
    """No download failed, and there were some; then and after it."""
    ended = len(loop.results())
    loop.more(ended)
    assert not failures(loop), phase
    assert ended - before >= LEAST, f"{phase}: too few downloads to show anything"
    print(f"{phase}: {ended - before} downloads, none failed")  # noqa: T201 - measured


def test_a_server_pod_is_deleted(site: Site, loop: Loop):
    before = loop.more(0)
    gone, *_ = site.server_pods()
    site.kubectl("delete", "pod", gone)  # and wait for its end
    wait_for(lambda: len(site.server_pods()) == REPLICAS, "another pod", longest_s=60)
    rolled_out(site.cluster, site.namespace, "pywharf")
    held(loop, "a pod deleted", before)


def test_the_deployment_is_rolled_out(site: Site, loop: Loop):
    before, old = loop.more(0), site.server_pods()
    template = {"metadata": {"annotations": {"rolled": "yes"}}}
    apply(site.kube, site.namespace, server(replicas=REPLICAS, **SHARED, podTemplate=template))
    wait_for(lambda: set(site.server_pods()).isdisjoint(old), "new pods alone", longest_s=100)
    rolled_out(site.cluster, site.namespace, "pywharf")
    held(loop, "rolled out", before)


def test_the_operator_is_killed(site: Site, loop: Loop):
    before = loop.more(0)
    selector = "--selector=app=pywharf-operator"
    (old,) = site.kubectl("get", "pods", selector, "-o", "name").split()
    site.kubectl("delete", old, "--force", "--grace-period=0")
    rolled_out(site.cluster, site.namespace, "pywharf-operator")
    served(site, "after-kill")
    held(loop, "the operator killed", before)


@pytest.mark.timeout(300)
def test_the_api_server_is_away_for_a_minute(node: Node, site: Site, loop: Loop):
    before = loop.more(0)
    node.plane.kill(API_SERVER)
    began = time.monotonic()
    try:
        wait_for(lambda: time.monotonic() > began + AWAY_S, "the minute to pass", longest_s=AWAY_S + 5)
    finally:
        node.plane.start_apiserver()
    held(loop, f"the API server away for {AWAY_S:.0f} s", before)
    back = time.monotonic()
    served(site, "after-outage")
    print(f"a repo is served {time.monotonic() - back:.1f} s after it was back")  # noqa: T201 - measured


def served(site: Site, name: str) -> None:
    """The operator works: a new repo is served."""
    apply(site.kube, site.namespace, secret_of(name), repo(name))
    wait_for_condition(site.kube, path("packagerepos", site.namespace, name), "Ready", "True", longest_s=90)
