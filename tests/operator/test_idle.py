"""An operator without work reconciles everything again and again, and writes nothing."""

import time

import pytest

from support.cluster.resources import apply, condition, get_repo, path, repo, secret_of, server, wait_for_condition
from support.kubelet.index_pods import IndexPods, ended
from support.operator.operating import ACCOUNT, grant, operating
from support.waiting import wait_for

STREAM_S = 40.0
"""Seconds after which the API server ends a watch: pywharf_operator.watching.registry.WatchTimeouts."""
RESYNCS = 8
NAMES = ("team-a", "team-b", "team-c")
RESYNCED = "pywharf_operator_reconciles_total"


@pytest.mark.timeout(400)
def test_nothing_to_do_is_nothing_written(cluster, kube, namespace, api_proxy, tmp_path):
    """Resyncs, watches that end and watches that break, as in ten minutes or more with `--resync=300`."""
    grant(cluster, namespace)
    kubeconfig = cluster.kubeconfig_for(ACCOUNT, namespace, url=api_proxy.url, ca_file=api_proxy.ca_file)
    broken = repo("broken")  # its Secret is missing: a fault is reported once, not on every reconcile
    apply(kube, namespace, server(), broken, *(secret_of(name) for name in NAMES))
    apply(kube, namespace, *(repo(name) for name in NAMES[1:]), repo("team-a", index={"suspend": True}))
    pods = IndexPods(kube, namespace, team_b=ended({"projects": 1, "files": 1, "bytes": 1}), team_c=ended("no report"))
    with operating(tmp_path / "operator", kubeconfig, namespace, flags=["--resync=2"]) as operator:
        for name in NAMES:
            wait_for_condition(kube, path("packagerepos", namespace, name), "Accepted", "True")
        pods.until(lambda: "True" in index_status(kube, namespace, "team-b"), "the index of team-b")
        pods.until(lambda: "False" in index_status(kube, namespace, "team-c"), "the index of team-c")
        at_rest(operator, api_proxy)
        before, since = operator.metric(RESYNCED), time.monotonic()
        statuses = [get_repo(kube, namespace, name) for name in (*NAMES, "broken")]
        wait_for(lambda: operator.metric(RESYNCED) >= before + RESYNCS / 2, "resyncs", longest_s=60)
        assert api_proxy.cut() > 5, "it watches"
        # One watch started after the cut, and another after the API server had ended that one.
        wait_for(lambda: watches_begun(api_proxy, since) >= 2, "a watch to end by itself", longest_s=STREAM_S + 30)
        wait_for(lambda: operator.metric(RESYNCED) >= before + RESYNCS, "resyncs", longest_s=60)
        assert api_proxy.writes(since=since) == []
        assert [get_repo(kube, namespace, name) for name in (*NAMES, "broken")] == statuses
        assert operator.metric("pywharf_operator_reconciles_total", result="error") == 0


def index_status(kube, namespace, name):
    found = condition(get_repo(kube, namespace, name), "IndexUpToDate")
    return [found.get("status")]


def watches_begun(proxy, since):
    return len([call for call in proxy.calls(path="/packagerepos$", since=since) if call.watch])


def at_rest(operator, proxy):
    """Wait for two reconciles without a write."""
    seen = (operator.metric(RESYNCED), len(proxy.writes()))

    def rests():
        nonlocal seen
        now = (operator.metric(RESYNCED), len(proxy.writes()))
        if now[1] != seen[1]:
            seen = now
        return now[0] >= seen[0] + 2

    wait_for(rests, "two looks without a write", longest_s=60)
