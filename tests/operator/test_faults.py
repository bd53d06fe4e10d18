"""A real operator behind a proxy that does harm: whatever the API server does, what is wished for comes true."""

import contextlib
import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest

from pywharf_operator.handlers import OWNED_SECRETS, RESOURCES
from support.api_faults import Answer, Delay, Drop, WatchError
from support.api_proxy import ApiProxy, proxied
from support.asking import asked_all_the_time, index_status
from support.cluster import CRDS, Cluster, apply_crds, new_namespace
from support.control_plane import API_SERVER, ETCD
from support.kube_client import ApiError, KubeClient
from support.kubelet import kubelet_of
from support.operating import ACCOUNT, Operator, grant, operating
from support.resources import (
    API,
    apply,
    config_text,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.waiting import wait_for

Fault: TypeAlias = Callable[[ApiProxy], None]
WATCHES = len(RESOURCES) + len(OWNED_SECRETS)
RECOVERED_S = 120.0
MANY = 50
STARTED_S = 8.0
TRIES = 3
SLOW_S = 15.0
NOT_REACHED = (
    r"WARNING The objects cannot be listed: Unreachable: the API server was not reached \(\w+\)\. Waiting for it\."
)
READ = "team-a-read-value"
LONG_S = 60.0
SOON_S = 20.0
BATCH, APPS, NET = "/apis/batch/v1", "/apis/apps/v1", "/apis/networking.k8s.io/v1"
IN_FLIGHT_S = 0.4
"""A write that came so soon after an answer was on its way already."""


@pytest.fixture
def kubeconfig(cluster: Cluster, namespace: str, api_proxy: ApiProxy) -> Path:
    """Of the operator's account, through the proxy."""
    grant(cluster, namespace)
    return cluster.kubeconfig_for(ACCOUNT, namespace, url=api_proxy.url, ca_file=api_proxy.ca_file)


@pytest.fixture
def operator(kube: KubeClient, namespace: str, kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    """At rest, with a server and the repo team-a made."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, kubeconfig, namespace) as running:
        running.secrets |= {"team-a-read-value", "team-a-write-value"}
        wait_for_config(kube, namespace, "team-a")
        settled(kube, namespace, running)
        yield running


def settled(kube: KubeClient, namespace: str, operator: Operator, name: str = "pywharf") -> None:
    wait_for_condition(kube, path("packageservers", namespace, name), "Accepted", "True", longest_s=LONG_S)
    wait_for(lambda: operator.metric("pywharf_operator_queue_depth") == 0, "an empty queue", longest_s=LONG_S)


# How the API server asks for less


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_on_a_write_is_honoured(kube, namespace, api_proxy, operator, code):
    """All writes wait, those of other objects too; then everything is as it was wished for."""
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
"""What is applied for the server of that name, and is answered with a 500 once."""
CREATED = {"session key": "/secrets$", "Job": "/jobs$"}


def objects_of(name: str, team: str) -> dict[tuple[str, str], set[str]]:
    """By kind, what the server has with that one repo."""
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
    """A server for each, all at once: an HTTP 500 to one write of each kind, and everything is there all the same."""
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


# Blind watches

REPOS = "/packagerepos$"


@pytest.mark.parametrize("fault", [Answer(410), WatchError(410)], ids=["HTTP 410", "an ERROR event 410"])
def test_a_repo_deleted_while_nobody_watched_is_gone(kube, namespace, api_proxy, operator, fault):
    """No event ever tells of it: the watch says nothing, and is then refused, so that everything is listed anew."""
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    wait_for_config(kube, namespace, "team-a", "team-b", longest_s=LONG_S)
    where = path("cronjobs", namespace, "pywharf-index-team-b", BATCH)
    wait_for(lambda: kube.get(where), "the CronJob", longest_s=LONG_S)
    settled(kube, namespace, operator)
    assert api_proxy.hush(REPOS)
    kube.delete(path("packagerepos", namespace, "team-b"))
    rule = api_proxy.add(fault, path=REPOS, watch=True, times=1)
    api_proxy.cut(REPOS)
    wait_for_config(kube, namespace, "team-a", longest_s=SOON_S)
    wait_for(lambda: kube.get(where) is None, "the CronJob to go", longest_s=SOON_S)
    assert rule.hits == 1
    assert operator.process.poll() is None


# What kopf does not survive


def once(code: int) -> Fault:
    """The next watch of the repos, or the list before it, is answered so."""

    def begin(proxy: ApiProxy) -> None:
        proxy.add(Answer(code), path=REPOS, times=1)
        proxy.cut(REPOS)

    return begin


def on_watch(code: int) -> Fault:
    def begin(proxy: ApiProxy) -> None:
        proxy.add(Answer(code), path=REPOS, watch=True, times=1)
        proxy.cut(REPOS)

    return begin


def event(code: int) -> Fault:
    def begin(proxy: ApiProxy) -> None:
        assert proxy.inject(code, REPOS)

    return begin


def for_a_while(fault: Answer | Drop) -> Fault:
    """Whatever is asked for in the next ten seconds."""

    def begin(proxy: ApiProxy) -> None:
        rule = proxy.add(fault)
        assert proxy.cut()
        timer = threading.Timer(10.0, proxy.remove, [rule])
        timer.daemon = True
        timer.start()

    return begin


def silence(proxy: ApiProxy) -> None:
    """When the looks at everything that follow a start are over."""

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
"""Each streak has an operator, a namespace and a proxy of its own; its faults come one after the other."""


def streak(cluster: Cluster, kube: KubeClient, folder: Path, namespace: str, faults: dict[str, Fault]) -> list[str]:
    """A new repo during each fault is served soon, by the same process; what took how long."""
    told = []
    with proxied(cluster.url, cluster.ca_file, folder / "proxy") as proxy:
        grant(cluster, namespace)
        kubeconfig = cluster.kubeconfig_for(ACCOUNT, namespace, url=proxy.url, ca_file=proxy.ca_file)
        apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
        for number in range(len(faults)):  # beforehand: a Secret's own watch would tell of a new one
            apply(kube, namespace, secret_of(f"team-{number}"))
        names = ["team-a"]
        with operating(folder, kubeconfig, namespace) as operator:
            operator.secrets |= {READ}
            wait_for_config(kube, namespace, *names, longest_s=LONG_S)
            for number, (what, begin) in enumerate(faults.items()):
                wait_for(lambda: proxy.watches() >= WATCHES, f"open watches, before {what}", longest_s=LONG_S)
                begin(proxy)
                began = time.monotonic()
                names.append(f"team-{number}")
                apply(kube, namespace, repo(names[-1]))
                wait_for_config(kube, namespace, *names, longest_s=RECOVERED_S)
                told.append(f"{what}: {time.monotonic() - began:.1f} s")
                assert operator.process.poll() is None, what
    return told


@pytest.mark.timeout(240)
def test_whatever_ends_the_watches_the_operator_converges_and_servers_serve(cluster, kube, tmp_path):
    """A change made meanwhile is in the configuration within two minutes; a real server answers 200 throughout."""
    cluster.need_controllers()
    namespaces = {name: new_namespace(kube) for name in STREAKS}
    served = namespaces["answers"]
    with ThreadPoolExecutor(len(STREAKS)) as pool, kubelet_of(cluster, tmp_path / "kubelet", served) as kubelet:
        running = [
            pool.submit(streak, cluster, kube, tmp_path / name, namespaces[name], faults)
            for name, faults in STREAKS.items()
        ]
        (url,) = kubelet.wait_for_urls(served, "pywharf", 1)
        wait_for(lambda: index_status(url, "team-a", READ) == 200, "the server to serve", longest_s=LONG_S)
        with asked_all_the_time(url, "team-a", READ) as answers:
            told = [line for done in running for line in done.result()]
    print("\n".join(told))  # noqa: T201 - pytest shows it of a test that failed
    assert set(answers) == {200}, Counter(answers)
    assert len(answers) > MANY
    for namespace in namespaces.values():
        kube.delete(f"/api/v1/namespaces/{namespace}")


# Nobody there


def test_without_an_operator_everything_can_be_deleted(cluster, kube, namespace, tmp_path):
    """Nothing waits for it: no finalizer holds anything. Started again, it makes nothing anew."""
    cluster.need_controllers()
    home, folder = namespace, tmp_path / "operator"
    other = new_namespace(kube)
    apply(kube, other, server(), secret_of("team-a"), repo("team-a"), secret_of("team-b"), repo("team-b"))
    kubeconfig = grant(cluster, home, other)
    with operating(folder, kubeconfig, home, other) as operator:
        wait_for_config(kube, other, "team-a", "team-b")
        settled(kube, other, operator)
    for plural, group in KINDS:
        held = {
            one["metadata"]["name"]: one["metadata"].get("finalizers")
            for one in kube.list(path(plural, other, group=group))
        }
        assert not any(held[name] for name in held if plural != "persistentvolumeclaims"), (plural, held)
    kube.delete(path("packagerepos", other, "team-b"))
    assert kube.get(path("packagerepos", other, "team-b")) is None
    kube.delete(path("packageservers", other, "pywharf"))
    assert kube.get(path("packageservers", other, "pywharf")) is None
    wait_for(lambda: not owned(kube, other), "what the server owned to go", longest_s=LONG_S)
    with operating(folder, kubeconfig, home, other) as operator:
        where = path("packagerepos", other, "team-a")
        wait_for_condition(kube, where, "Accepted", "False", longest_s=LONG_S)
        assert not owned(kube, other)
        apply(kube, other, server())
        wait_for_config(kube, other, "team-a", longest_s=LONG_S)
    kube.delete(f"/api/v1/namespaces/{other}")
    gone = f"/api/v1/namespaces/{other}"
    wait_for(lambda: kube.get(gone) is None, "the namespace to go", longest_s=LONG_S)
    kube.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    with operating(folder, grant(cluster, home, other), home, other) as operator:
        apply(kube, home, server(), secret_of("team-c"), repo("team-c"))
        wait_for_config(kube, home, "team-c", longest_s=LONG_S)
        settled(kube, home, operator)
        assert not owned(kube, other)
        assert not kube.list(path("packagerepos", other))
    kube.delete(gone)


KINDS = [*objects_of("", ""), ("packagerepos", API), ("packageservers", API)]


def owned(kube: KubeClient, namespace: str) -> list[str]:
    """What belongs to a server, but for its claim, which outlives it."""
    return [
        f"{plural}/{one['metadata']['name']}"
        for plural, group in objects_of("", "")
        for one in kube.list(path(plural, namespace, group=group), labelSelector="pywharf.dev/server=pywharf")
        if plural != "persistentvolumeclaims"
    ]


def test_before_the_api_server_and_while_it_is_slow(kube, namespace, api_proxy, kubeconfig, tmp_path):
    """It waits with one line in its log, works when the API server is there, and is alive while that is slow."""
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


@pytest.mark.timeout(240)
def test_a_control_plane_that_comes_and_goes(own_cluster, tmp_path):
    """Started before the CRDs; then the API server is killed, and etcd, with changes before and after."""
    own_cluster.need_controllers()
    kube = own_cluster.client()
    namespace = new_namespace(kube)
    kubeconfig = grant(own_cluster, namespace)
    own_cluster.kubectl("delete", "-f", str(CRDS))
    with operating(tmp_path / "operator", kubeconfig, namespace, wait=False) as operator:
        wait_for(lambda: "Waiting for it" in operator.text(), "a line in the log", longest_s=LONG_S)
        assert operator.get("/healthz")[0] == 200
        assert operator.get("/readyz")[0] == 503
        apply_crds(own_cluster.kubectl_program, own_cluster.kubeconfig)
        apply(kube, namespace, server(), *(secret_of(name) for name in TEAMS), repo(TEAMS[0]))
        wait_for_config(kube, namespace, TEAMS[0], longest_s=LONG_S)
        lines = [line for line in operator.text().splitlines() if "CustomResourceDefinition" in line]
        assert len(lines) == 1, lines
        assert "packagerepos.pywharf.dev and packageservers.pywharf.dev" in lines[0]
        there = [TEAMS[0]]
        for part, before, after in ((API_SERVER, TEAMS[1], TEAMS[2]), (ETCD, TEAMS[3], TEAMS[4])):
            settled(kube, namespace, operator)
            apply(kube, namespace, repo(before))
            own_cluster.kill(part)
            wait_for(lambda: not is_ready(kube), "an API server that does not answer", longest_s=LONG_S)
            if part == API_SERVER:
                wait_for(lambda: unanswered(operator) >= TRIES, "requests in vain", longest_s=LONG_S)
            assert operator.get("/healthz")[0] == 200
            own_cluster.start(part)
            wait_for(lambda: is_ready(kube), "the API server", longest_s=LONG_S)
            apply(kube, namespace, repo(after))
            kube.delete(path("packagerepos", namespace, there[0]))
            there = [*there[1:], before, after]
            wait_for_config(kube, namespace, *there, longest_s=RECOVERED_S)
            assert operator.process.poll() is None
            assert operator.get("/healthz")[0] == 200
    kube.close()


TEAMS = ("team-a", "team-b", "team-c", "team-d", "team-e")


def is_ready(kube: KubeClient) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
        return bool(kube.request("GET", "/readyz"))
    return False


def unanswered(operator: Operator) -> float:
    return operator.metric("pywharf_operator_api_requests_total", code="none")
