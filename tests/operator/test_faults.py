"""A real operator behind a proxy that injects faults: it reaches the desired state whatever the API server does."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster.api_faults import Answer, Delay, WatchError
from support.cluster.api_proxy import ApiProxy
from support.cluster.cluster import Cluster
from support.cluster.kube_client import KubeClient
from support.cluster.resources import (
    apply,
    config_text,
    path,
    repo,
    secret_of,
    server,
    settled,
    wait_for_condition,
    wait_for_config,
)
from support.operator.operating import ACCOUNT, Operator, grant, operating
from support.waiting import wait_for

LONG_S = 60.0
SOON_S = 20.0
IN_FLIGHT_S = 0.4
"""Seconds after a response within which a write may already have been on its way."""
TRIES = 3
SLOW_S = 20.0
QUIET_S = 6.0
BATCH, APPS, NET = "/apis/batch/v1", "/apis/apps/v1", "/apis/networking.k8s.io/v1"
NOT_REACHED = (
    r"WARNING The objects cannot be listed: Unreachable: the API server was not reached \(\w+\)\. Waiting for it\."
)


@pytest.fixture
def kubeconfig(cluster: Cluster, namespace: str, api_proxy: ApiProxy) -> Path:
    """The kubeconfig of the operator's account, through the proxy."""
    grant(cluster, namespace)
    return cluster.kubeconfig_for(ACCOUNT, namespace, url=api_proxy.url, ca_file=api_proxy.ca_file)


@pytest.fixture
def operator(kube: KubeClient, namespace: str, kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    """An idle operator that has created the objects of a server and of the repo team-a."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, kubeconfig, namespace) as running:
        running.secrets |= {"team-a-read-value", "team-a-write-value"}
        wait_for_config(kube, namespace, "team-a")
        settled(kube, namespace, running)
        yield running


# The API server asks for fewer requests


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_on_a_write_is_honoured(kube, namespace, api_proxy, operator, code):
    """All writes wait, including those to other objects. Then everything reaches its desired state."""
    wait_s = 3
    rule = api_proxy.add(Answer(code, wait_s), method="PATCH", path="/configmaps/pywharf-config$", times=1)
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    wait_for(lambda: rule.hits, "the write that is refused", longest_s=LONG_S)
    apply(kube, namespace, server("other"), repo("team-c", serverRef={"name": "other"}), secret_of("team-c"))
    wait_for_config(kube, namespace, "team-a", "team-b", longest_s=LONG_S)
    settled(kube, namespace, operator, "other")
    (refused,) = [call for call in api_proxy.writes() if call.fault is not None]
    early = [
        f"{call.method} {call.path} after {call.at - refused.at:.2f} s"
        for call in api_proxy.writes(since=refused.at + IN_FLIGHT_S)
        if call.at < refused.at + wait_s
    ]
    assert not early
    assert api_proxy.writes(since=refused.at + wait_s)


APPLIED = {
    "claim": "/persistentvolumeclaims/pywharf-claim-data$",
    "config": "/configmaps/pywharf-config-config$",
    "credentials": "/secrets/pywharf-credentials-credentials$",
    "cronjob": "/cronjobs/pywharf-cronjob-index-",
    "deployment": "/deployments/pywharf-deployment$",
    "policy": "/networkpolicies/pywharf-policy",
    "account": "/serviceaccounts/pywharf-account",
    "service": "/services/pywharf-service$",
    "server-status": "/packageservers/pywharf-server-status/status$",
    "repo-status": "/packagerepos/team-repo-status/status$",
}
"""Paths by kind. The patch to each gets HTTP 500 once; the server is named after the kind."""
CREATED = {"session key": "/secrets$", "Job": "/jobs$"}


def objects_of(name: str, team: str) -> dict[tuple[str, str], set[str]]:
    """Return the names of the server's objects with this one repo, by kind."""
    return {
        ("secrets", "/api/v1"): {f"{name}-credentials", f"{name}-session"},
        ("configmaps", "/api/v1"): {f"{name}-config"},
        ("services", "/api/v1"): {name},
        ("serviceaccounts", "/api/v1"): {name, f"{name}-index"},
        ("persistentvolumeclaims", "/api/v1"): {f"{name}-data"},
        ("deployments", APPS): {name},
        ("cronjobs", BATCH): {f"{name}-index-{team}"},
        ("networkpolicies", NET): {name, f"{name}-index"},
    }


def test_each_kind_of_write_may_fail_once(kube, namespace, api_proxy, kubeconfig, tmp_path):
    """One write of each kind gets HTTP 500, each for another server, concurrently. Every object exists in the end."""
    rules = {kind: api_proxy.add(Answer(500), method="PATCH", path=at, times=1) for kind, at in APPLIED.items()}
    rules |= {kind: api_proxy.add(Answer(500), method="POST", path=at, times=1) for kind, at in CREATED.items()}
    for kind in APPLIED:
        apply(kube, namespace, secret_of(f"team-{kind}"))
        apply(kube, namespace, server(f"pywharf-{kind}"))
        apply(kube, namespace, repo(f"team-{kind}", serverRef={"name": f"pywharf-{kind}"}))
    with operating(tmp_path, kubeconfig, namespace) as operator:
        for kind in APPLIED:
            name, team = f"pywharf-{kind}", f"team-{kind}"
            settled(kube, namespace, operator, name)
            wait_for_condition(kube, path("packagerepos", namespace, team), "Accepted", "True", longest_s=LONG_S)
            for (plural, group), wanted in objects_of(name, team).items():
                found = kube.list(path(plural, namespace, group=group), labelSelector=f"pywharf.dev/server={name}")
                assert {one["metadata"]["name"] for one in found} == wanted, (kind, plural)
        assert {kind: rule.hits for kind, rule in rules.items()} == dict.fromkeys(rules, 1)
        deleting = api_proxy.add(Answer(500), method="DELETE", path="/cronjobs/", times=1)
        kube.delete(path("packagerepos", namespace, "team-config"))
        where = path("cronjobs", namespace, "pywharf-config-index-team-config", BATCH)
        wait_for(lambda: kube.get(where) is None, "the CronJob of a deleted repo to go", longest_s=LONG_S)
        assert deleting.hits == 1
        telling = api_proxy.add(Answer(500), method="POST", path="/events$", times=1)
        kube.delete(path("secrets", namespace, "team-account", "/api/v1"))
        where = path("packagerepos", namespace, "team-account")
        wait_for_condition(kube, where, "SecretsResolved", "False", longest_s=LONG_S)
        wait_for(lambda: telling.hits, "an Event of it", longest_s=LONG_S)


# Watches that miss events

REPOS = "/packagerepos$"


@pytest.mark.parametrize("fault", [Answer(410), WatchError(410)], ids=["HTTP 410", "an ERROR event 410"])
def test_a_repo_deleted_while_nobody_watched_is_gone(kube, namespace, api_proxy, operator, fault):
    """No event reports the deletion: the watch is silent and is then refused, so that everything is listed again."""
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    wait_for_config(kube, namespace, "team-a", "team-b", longest_s=LONG_S)
    where = path("cronjobs", namespace, "pywharf-index-team-b", BATCH)
    wait_for(lambda: kube.get(where), "the CronJob", longest_s=LONG_S)

    def rests() -> bool:
        last: float = max(call.at for call in api_proxy.calls() if not call.watch)
        return time.monotonic() - last > QUIET_S

    wait_for(rests, "an operator that asks for nothing, so that only the fault can wake it", longest_s=LONG_S)
    assert api_proxy.hush()
    kube.delete(path("packagerepos", namespace, "team-b"))
    rule = api_proxy.add(fault, path=REPOS, watch=True, times=1)
    api_proxy.cut(REPOS)
    wait_for_config(kube, namespace, "team-a", longest_s=SOON_S)
    wait_for(lambda: kube.get(where) is None, "the CronJob to go", longest_s=SOON_S)
    assert rule.hits == 1
    assert operator.process.poll() is None


# An API server that is down or slow


def test_before_the_api_server_and_while_it_is_slow(kube, namespace, api_proxy, kubeconfig, tmp_path):
    """The operator waits with one log line, works once the API server is up, and stays alive while it is slow."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with contextlib.ExitStack() as stack:
        with api_proxy.down() as rule:
            operator = stack.enter_context(operating(tmp_path, kubeconfig, namespace, wait=False))
            wait_for(lambda: rule.hits >= TRIES, "several tries", longest_s=LONG_S)
            assert operator.get("/healthz")[0] == 200
            assert operator.get("/readyz")[0] == 503
            said = [line.split(" ", 2)[2] for line in operator.text().splitlines()]
            assert len(said) == 2, said
            assert re.fullmatch(NOT_REACHED, said[1]), said
        wait_for_config(kube, namespace, "team-a", longest_s=LONG_S)
        settled(kube, namespace, operator)
        slow = api_proxy.add(Delay(2.0))
        api_proxy.cut()
        apply(kube, namespace, secret_of("team-b"), repo("team-b"))
        began, seen = time.monotonic(), set()

        def served() -> bool:
            seen.add(operator.get("/healthz")[0])
            return "[team-b]" in config_text(kube, namespace) and time.monotonic() - began > SLOW_S

        wait_for(served, "the change, by a slow API server", longest_s=LONG_S)
        assert slow.hits
        assert seen == {200}
        api_proxy.remove(slow)
        kube.delete(path("packagerepos", namespace, "team-b"))
        wait_for_config(kube, namespace, "team-a", longest_s=LONG_S)
