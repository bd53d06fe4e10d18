"""A real operator survives the faults that end kopf: the process stays and converges, and servers keep serving."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest

from pywharf_operator.watching.registry import OWNED_SECRETS, RESOURCES
from support.cluster.api_faults import Answer, Drop, Rule
from support.cluster.api_proxy import ApiProxy, proxied
from support.cluster.cluster import Cluster, new_namespace
from support.cluster.kube_client import KubeClient
from support.cluster.resources import apply, repo, secret_of, server, wait_for_config
from support.kubelet.stand_in import kubelet_of
from support.operator.operating import ACCOUNT, grant, operating
from support.server.asking import asked_all_the_time, index_status
from support.waiting import wait_for

Fault: TypeAlias = Callable[[ApiProxy], None]
WATCHES = sum(not one.kind.optional for one in (*RESOURCES, *OWNED_SECRETS))
REPOS = "/packagerepos$"
LONG_S = 60.0
RECOVERED_S = 120.0
STARTED_S = 8.0
MANY = 50
READ = "team-a-read-value"


def met(proxy: ApiProxy, rule: Rule, path: str = "") -> None:
    """Break these watches and wait until the next request has hit the fault."""
    assert proxy.cut(path)
    wait_for(lambda: rule.hits, "the fault to be met", longest_s=LONG_S)


def once(code: int) -> Fault:
    """Answer the next watch of the repos, or the list before it, with this code."""

    def begin(proxy: ApiProxy) -> None:
        met(proxy, proxy.add(Answer(code), path=REPOS, times=1), REPOS)

    return begin


def on_watch(code: int) -> Fault:
    def begin(proxy: ApiProxy) -> None:
        met(proxy, proxy.add(Answer(code), path=REPOS, watch=True, times=1), REPOS)

    return begin


def event(code: int) -> Fault:
    def begin(proxy: ApiProxy) -> None:
        assert proxy.inject(code, REPOS)

    return begin


def for_a_while(fault: Answer | Drop) -> Fault:
    """Apply the fault to every request of the next ten seconds."""

    def begin(proxy: ApiProxy) -> None:
        rule = proxy.add(fault)
        met(proxy, rule)
        timer = threading.Timer(10.0, proxy.remove, [rule])
        timer.daemon = True
        timer.start()

    return begin


def watches_all(proxy: ApiProxy) -> bool:
    """Return whether the watches are open. Those of optional kinds may be, too, so the repos' counts by itself."""
    return proxy.watches() >= WATCHES and proxy.watches(REPOS) > 0


def silence(proxy: ApiProxy) -> None:
    """Silence every watch once the full reconciles after a start are over."""

    def oldest() -> float:
        return min(time.monotonic() - call.at for call in proxy.calls(path=REPOS) if call.watch)

    wait_for(lambda: oldest() > STARTED_S, "the operator to rest", longest_s=LONG_S)
    assert proxy.hush() >= WATCHES


def broken(proxy: ApiProxy) -> None:
    assert proxy.cut()


STREAKS: dict[str, dict[str, Fault]] = {
    "silent": {"a silent stream": silence},
    "answers": {
        "HTTP 410 on a watch": on_watch(410),
        "HTTP 404 on a watch": on_watch(404),
        "HTTP 401 once": once(401),
        "HTTP 403 for everything": for_a_while(Answer(403)),
    },
    "streams": {
        "an ERROR event 410": event(410),
        "an ERROR event 500": event(500),
        "an ERROR event 504": event(504),
        "an ERROR event 429": event(429),
        "broken streams": broken,
    },
    "away": {
        "HTTP 503 for everything": for_a_while(Answer(503)),
        "no connection at all": for_a_while(Drop()),
    },
}
"""Faults by streak. A streak has its own operator, namespace and proxy; its faults come one after the other."""


def streak(
    cluster: Cluster, kube: KubeClient, folder: Path, namespace: str, faults: dict[str, Fault], go: threading.Event
) -> list[str]:
    """Check that a new repo during each fault is served soon by the same process.

    The faults begin once `go` is set. Returns how long each fault took.
    """
    durations = []
    with proxied(cluster.url, cluster.ca_file, folder / "proxy") as proxy:
        grant(cluster, namespace)
        kubeconfig = cluster.kubeconfig_for(ACCOUNT, namespace, url=proxy.url, ca_file=proxy.ca_file)
        apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
        for number in range(len(faults)):  # beforehand: the watch of Secrets would report a new one
            apply(kube, namespace, secret_of(f"team-{number}"))
        names = ["team-a"]
        with operating(folder, kubeconfig, namespace) as operator:
            operator.secrets |= {READ}
            wait_for_config(kube, namespace, *names, longest_s=LONG_S)
            assert go.wait(LONG_S), "the server that is asked meanwhile did not come"
            for number, (what, begin) in enumerate(faults.items()):
                wait_for(lambda: watches_all(proxy), f"open watches, before {what}", longest_s=LONG_S)
                begin(proxy)
                began = time.monotonic()
                names.append(f"team-{number}")
                apply(kube, namespace, repo(names[-1]))
                wait_for_config(kube, namespace, *names, longest_s=RECOVERED_S)
                durations.append(f"{what}: {time.monotonic() - began:.1f} s")
                assert operator.process.poll() is None, what
    return durations


@pytest.mark.timeout(240)
def test_whatever_ends_the_watches_the_operator_converges_and_servers_serve(cluster, kube, tmp_path):
    """A change during a fault is in the configuration within two minutes; a real server answers 200 throughout."""
    cluster.need_controllers()
    namespaces = {name: new_namespace(kube) for name in STREAKS}
    served = namespaces["answers"]
    go = threading.Event()
    with ThreadPoolExecutor(len(STREAKS)) as pool, kubelet_of(cluster, tmp_path / "kubelet", served) as kubelet:
        running = [
            pool.submit(streak, cluster, kube, tmp_path / name, namespaces[name], faults, go)
            for name, faults in STREAKS.items()
        ]
        (url,) = kubelet.wait_for_urls(served, "pywharf", 1)
        wait_for(lambda: index_status(url, "team-a", READ) == 200, "the server to serve", longest_s=LONG_S)
        with asked_all_the_time(url, "team-a", READ) as answers:
            go.set()
            durations = [line for done in running for line in done.result()]
    print("\n".join(durations))
    assert set(answers) == {200}, Counter(answers)
    assert len(answers) > MANY
    for namespace in namespaces.values():
        kube.delete(f"/api/v1/namespaces/{namespace}")
