"""Downloads continue while pods, the operator or the API server are disrupted."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from support.cluster.cluster import Cluster
from support.cluster.control_plane import API_SERVER
from support.cluster.kube_client import Json
from support.cluster.resources import apply, config_text, repo, secret_of, server
from support.node.node import Node
from support.node.pods import rolled_out
from support.node.served_repo import FOLDER, SHARED, Site, made_site
from support.waiting import stretched, wait_for

REPLICAS = 2
PACKAGE, WHEEL = "steady", "steady-1.0-py3-none-any.whl"
AWAY_S = 60.0
WORKERS, EVERY_S = 3, 0.75
"""Concurrent workers, and the seconds from one download of a worker to its next, if it has ended: four a second."""
LEAST, LEAST_EACH_S = 4, 1.0
"""Fewest downloads in a phase and per second of it; with fewer the phase shows nothing."""
# Downloads repeatedly until the file `stop` exists, and writes a line for each download that has ended. Each has its
# own process and folder, so that the file comes from the server. pip is imported only once: importing it takes longer
# than a download.
LOOP = f"""
import json, os, pathlib, sys, tempfile, time
import pip._internal.commands.download
from pip._internal.cli.main import main
folder = pathlib.Path({FOLDER!r}, "loop")
folder.mkdir(exist_ok=True)
first, workers = os.getpid(), []
while os.getpid() == first and len(workers) < {WORKERS - 1}:
    workers.append(os.fork())
while not (folder / "stop").exists():
    due = time.monotonic() + {EVERY_S}
    with tempfile.TemporaryDirectory() as to, tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = 70
            try:
                status = main([*sys.argv[1:], f"--dest={{to}}"])
            finally:
                sys.stdout.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        line = {{"worker": os.getpid(), "status": status, "files": os.listdir(to), "said": output.read()[-2000:]}}
    with (folder / "results").open("a") as file:
        file.write(json.dumps(line) + "\\n")
    time.sleep(max(0, due - time.monotonic()))
if os.getpid() == first:
    [os.waitpid(worker, 0) for worker in workers]
    (folder / "ended").touch()
"""


class Loop:
    """Downloads that continue in the pod even while nobody can reach it."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        _pip, *command = [word for word in site.download(name, "") if not word.startswith("--dest")]
        site.inside.run("sh", "-c", f"cat > {FOLDER}/loop.py", input=LOOP)
        quoted = " ".join(f"'{word}'" for word in ["python3", f"{FOLDER}/loop.py", *command])
        site.inside.run("sh", "-c", f"nohup {quoted} >/dev/null 2>&1 &")

    def results(self) -> list[Json]:
        text = self._site.inside.run("sh", "-c", f"cat {FOLDER}/loop/results 2>/dev/null || true")
        return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]

    def settled(self) -> int:
        """Wait until running downloads have ended and each worker has done one more. Returns how many have ended."""
        before = Counter(one["worker"] for one in self.results())

        def ended() -> int:
            now = self.results()
            more = Counter(one["worker"] for one in now) - before
            return len(now) if len(more) == WORKERS and min(more.values()) > 1 else 0

        return wait_for(ended, "more downloads", longest_s=60)

    def stop(self) -> None:
        self._site.inside.run("touch", f"{FOLDER}/loop/stop")
        wait_for(lambda: self._site.inside.run("ls", f"{FOLDER}/loop").find("ended") >= 0, "its end", longest_s=60)


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster) -> Iterator[Site]:
    with made_site(pod_cluster, replicas=REPLICAS, **SHARED) as made:
        yield made


@pytest.fixture(scope="module")
def loop(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    site.publish(tmp_path_factory.mktemp("made"), PACKAGE)
    running = Loop(site, PACKAGE)
    yield running
    running.stop()
    assert not failures(running)


def failures(loop: Loop) -> list[Json]:
    """Return the downloads that ended with an error or without the file."""
    return [one for one in loop.results() if one["status"] != 0 or one["files"] != [WHEEL]]


@contextlib.contextmanager
def downloading(loop: Loop, phase: str) -> Iterator[None]:
    """Check that downloads continue within the context and after it, and that none fails."""
    before, began = loop.settled(), time.monotonic()
    yield
    ended, took_s = len(loop.results()), time.monotonic() - began
    loop.settled()
    assert not failures(loop), phase
    print(f"{phase}: {ended - before} downloads in {took_s:.0f} s, none failed")
    least = max(LEAST, took_s * LEAST_EACH_S / stretched(1))
    assert ended - before >= least, f"{phase}: too few downloads to show anything"


def test_a_server_pod_is_deleted(site: Site, loop: Loop):
    with downloading(loop, "a pod deleted"):
        gone, *_ = site.server_pods()
        site.kubectl("delete", "pod", gone)  # waits for its end
        wait_for(lambda: len(site.server_pods()) == REPLICAS, "another pod", longest_s=60)
        rolled_out(site.cluster, site.namespace, "pywharf")


def test_the_deployment_is_rolled_out(site: Site, loop: Loop):
    with downloading(loop, "rolled out"):
        old = site.server_pods()
        template = {"metadata": {"annotations": {"rolled": "yes"}}}
        apply(site.kube, site.namespace, server(replicas=REPLICAS, **SHARED, podTemplate=template))
        wait_for(lambda: set(site.server_pods()).isdisjoint(old), "new pods alone", longest_s=100)
        rolled_out(site.cluster, site.namespace, "pywharf")


def test_the_operator_is_killed(site: Site, loop: Loop):
    with downloading(loop, "the operator killed"):
        (old,) = operator_pods(site)
        site.kubectl("delete", old, "--force", "--grace-period=0")
        wait_for(lambda: len(now := operator_pods(site)) == 1 and old not in now, "another operator", longest_s=60)
        rolled_out(site.cluster, site.namespace, "pywharf-operator")
        rendered(site, "after-kill")


@pytest.mark.timeout(400)
def test_the_api_server_is_away_for_a_minute(node: Node, site: Site, loop: Loop):
    with downloading(loop, f"the API server away for {AWAY_S:.0f} s"):
        node.plane.kill(API_SERVER)
        began = time.monotonic()
        try:
            wait_for(lambda: time.monotonic() > began + AWAY_S, "the minute to pass", longest_s=AWAY_S + 5)
        finally:
            node.plane.start_apiserver()
        back = time.monotonic()
    rendered(site, "later")
    print(f"the operator renders a new repo {time.monotonic() - back:.1f} s after it was back")


def operator_pods(site: Site) -> list[str]:
    return site.kubectl("get", "pods", "--selector=app=pywharf-operator", "-o", "name").split()


def rendered(site: Site, name: str) -> None:
    """Wait until the operator renders a new repo. It is served once the kubelet delivers it: docs/operations.md."""
    apply(site.kube, site.namespace, secret_of(name), repo(name))
    wait_for(lambda: f"[{name}]" in config_text(site.kube, site.namespace), "the operator", longest_s=90)
