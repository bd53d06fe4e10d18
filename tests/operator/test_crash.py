"""The operator is killed at each of its writes, before or after it reaches the API server, and started again."""

import contextlib
import itertools
import threading
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.cluster.api_faults import Drop, Rule
from support.cluster.api_proxy import ApiProxy, proxied
from support.cluster.cluster import Cluster, new_namespace
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, config_text, path, repo, secret, secret_of, server, wait_for_condition
from support.kubelet.index_pods import BATCH, annotate
from support.kubelet.stand_in import kubelet_of
from support.operator.operating import ACCOUNT, Operator, grant, operating
from support.server.asking import asked_all_the_time, index_status
from support.waiting import wait_for

KILLS = 50
WRITES = ("POST", "PUT", "PATCH", "DELETE")
LONG_S = 60.0
READ = "team-a-read-value"
KINDS = (
    ("secrets", "/api/v1"),
    ("configmaps", "/api/v1"),
    ("services", "/api/v1"),
    ("serviceaccounts", "/api/v1"),
    ("persistentvolumeclaims", "/api/v1"),
    ("deployments", "/apis/apps/v1"),
    ("cronjobs", BATCH),
    ("jobs", BATCH),
    ("networkpolicies", "/apis/networking.k8s.io/v1"),
)
NAMES = {
    "secrets": {"pywharf-credentials", "pywharf-session"},
    "configmaps": {"pywharf-config"},
    "services": {"pywharf"},
    "serviceaccounts": {"pywharf", "pywharf-index"},
    "persistentvolumeclaims": {"pywharf-data"},
    "deployments": {"pywharf"},
    "networkpolicies": {"pywharf", "pywharf-index"},
}


@dataclass
class Chain:
    """A namespace, its own operator, and what was observed of them."""

    cluster: Cluster
    kube: KubeClient
    namespace: str
    folder: Path
    proxy: ApiProxy
    kubeconfig: Path
    kills: list[str] = field(default_factory=list)
    """The writes at which the operator was killed."""
    session: str | None = None

    def life(self, *, after: bool) -> bool:
        """Start the operator, kill it at its first write (done only with `after`) and return whether there was one."""
        hit, gate = threading.Event(), threading.Lock()
        operators: list[Operator] = []
        rules: list[Rule] = []

        def kill() -> None:
            with gate:
                if not hit.is_set():
                    hit.set()
                    for rule in rules:  # any other write that it has sent is lost, too
                        self.proxy.add(Drop(), method=rule.method)
                    operators[0].process.kill()

        began = len(self.proxy.calls())
        with operating(self.folder, self.kubeconfig, self.namespace, wait=False) as operator:
            operators.append(operator)
            rules += [self.proxy.add(Drop(after_forwarding=after), method=method, on_hit=kill) for method in WRITES]

            def decided() -> bool:
                return hit.is_set() or operator_is_done(operator)

            wait_for(decided, "a write, or a reconcile without one", longest_s=LONG_S)
            operator.process.kill()
            operator.process.wait(30)
        self.proxy.clear()
        if hit.is_set():
            call = self.proxy.writes()[-1] if len(self.proxy.calls()) > began else None
            self.kills.append(f"{'after' if after else 'before'} {call and call.method} {call and call.path}")
        self.check()
        return hit.is_set()

    def to_the_end(self, *, longest: int = 60) -> None:
        """Kill the operator at each write, alternately before and after it, until nothing is left to write."""
        for number in range(longest):
            if not self.life(after=bool(number % 2)):
                return
        raise AssertionError(f"after {longest} lives there is still something to write: {self.kills[-10:]}")

    def check(self) -> None:
        """Check what must hold at any time."""
        found = self.kube.get(path("secrets", self.namespace, "pywharf-session", "/api/v1"))
        if found is not None:
            assert self.session in {None, found["data"]["key"]}, "the session key was made anew"
            self.session = found["data"]["key"]
        else:
            assert self.session is None, "the session key was lost"
        text = config_text(self.kube, self.namespace)
        if text:
            config = tomllib.loads(text)
            for name, table in config.items():
                assert not isinstance(table, dict) or "type" in table, (name, table)
            assert self.kube.get(path("secrets", self.namespace, "pywharf-credentials", "/api/v1")) is not None

    def objects(self) -> dict[tuple[str, str], Json]:
        """Return everything that the operator has created or written a status to."""
        found = {
            (plural, one["metadata"]["name"]): one
            for plural, group in KINDS
            for one in self.kube.list(
                path(plural, self.namespace, group=group), labelSelector="pywharf.dev/server=pywharf"
            )
        }
        for plural in ("packagerepos", "packageservers"):
            found |= {(plural, one["metadata"]["name"]): one for one in self.kube.list(path(plural, self.namespace))}
        return found

    def versions(self) -> dict[tuple[str, str], str]:
        return {key: one["metadata"]["resourceVersion"] for key, one in self.objects().items()}

    def settle(self, repos: Sequence[str]) -> None:
        """Run an operator without killing it, then another one, which must write nothing."""
        with operating(self.folder, self.kubeconfig, self.namespace) as operator:
            for name in repos:
                where = path("packagerepos", self.namespace, name)
                wait_for_condition(self.kube, where, "Accepted", "True", longest_s=LONG_S)
            where = path("packageservers", self.namespace, "pywharf")
            wait_for_condition(self.kube, where, "Accepted", "True", longest_s=LONG_S)
            wait_for(lambda: operator_is_done(operator), "a reconcile", longest_s=LONG_S)
        before, self_written = self.versions(), len(self.proxy.writes())
        with operating(self.folder, self.kubeconfig, self.namespace) as operator:
            wait_for(lambda: operator_is_done(operator), "a reconcile", longest_s=LONG_S)
        assert not self.proxy.writes()[self_written:], "a start without anything to do wrote something"
        assert self.versions() == before

    def wholly(self, repos: Sequence[str], jobs: int) -> None:
        """Check that everything exists exactly once."""
        found = self.objects()
        names = {plural: {name for kind, name in found if kind == plural} for plural, _ in KINDS}
        for plural, wanted in NAMES.items():
            assert names[plural] == wanted, (plural, names[plural])
        assert names["cronjobs"] == {f"pywharf-index-{name}" for name in repos}
        assert len(names["jobs"]) == jobs, names["jobs"]
        config = tomllib.loads(config_text(self.kube, self.namespace))
        assert {name for name, table in config.items() if isinstance(table, dict)} == set(repos)
        counts = Counter(
            (one["involvedObject"]["kind"], one["involvedObject"]["name"], one["reason"], one["message"])
            for one in self.kube.list(path("events", self.namespace, group="/api/v1"))
            if one["source"].get("component") == "pywharf-operator"
        )
        assert all(count == 1 for count in counts.values()), counts

    def applied_once(self, since: int) -> None:
        """Check that no object was changed or deleted twice for one request. A status may be written in steps."""
        done = [
            call
            for call in self.proxy.writes()[since:]
            if reached(call) and "/pods/" not in call.path and not call.path.endswith("/status")
        ]
        counted = Counter((call.method, call.path) for call in done if call.method != "POST")
        twice = {key: count for key, count in counted.items() if count > 1}
        assert not twice, twice


def reached(call: Any) -> bool:
    """Return whether the API server carried out the call."""
    return call.fault is None or (isinstance(call.fault, Drop) and call.fault.after_forwarding)


def operator_is_done(operator: Operator) -> bool:
    """Return whether the operator has reconciled and is idle."""
    if operator.process.poll() is not None:
        return False
    with contextlib.suppress(AssertionError, OSError):
        return (
            operator.metric("pywharf_operator_reconciles_total", of="server", result="success") >= 1
            and operator.metric("pywharf_operator_queue_depth") == 0
        )
    return False


@contextlib.contextmanager
def chain_of(cluster: Cluster, kube: KubeClient, folder: Path) -> Iterator[Chain]:
    namespace = new_namespace(kube)
    try:
        with proxied(cluster.url, cluster.ca_file, folder / "proxy") as proxy:
            grant(cluster, namespace)
            kubeconfig = cluster.kubeconfig_for(ACCOUNT, namespace, url=proxy.url, ca_file=proxy.ca_file)
            yield Chain(cluster, kube, namespace, folder, proxy, kubeconfig)
    finally:
        kube.delete(f"/api/v1/namespaces/{namespace}")


def from_nothing(chain: Chain) -> None:
    """Create everything, with one write per start of the operator."""
    apply(chain.kube, chain.namespace, server(), secret_of("team-a"), repo("team-a"))
    chain.to_the_end()
    chain.applied_once(0)
    chain.settle(["team-a"])
    chain.wholly(["team-a"], jobs=1)


def edits(chain: Chain) -> None:
    """Add a repo, rotate a secret, request an update, remove a repo. A real server answers 200 throughout."""
    kube, namespace = chain.kube, chain.namespace
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    chain.settle(["team-a"])
    with kubelet_of(chain.cluster, chain.folder / "kubelet", namespace) as kubelet:
        (url,) = kubelet.wait_for_urls(namespace, "pywharf", 1)
        wait_for(lambda: index_status(url, "team-a", READ) == 200, "the server to serve", longest_s=LONG_S)
        chain.settle(["team-a"])
        with asked_all_the_time(url, "team-a", READ) as answers:
            edited(chain)
            wait_for(lambda: index_status(url, "team-a", "w-rotated") == 200, "the rotated secret", longest_s=LONG_S)
        assert set(answers) == {200}, Counter(answers)
        assert len(answers) > KILLS
        chain.settle(["team-a"])
    chain.wholly(["team-a"], jobs=2)


def edited(chain: Chain) -> None:
    kube, namespace = chain.kube, chain.namespace

    def remove() -> None:
        kube.delete(path("packagerepos", namespace, "team-b"))

    wishes: list[tuple[Callable[[], object], set[str]]] = [
        (lambda: apply(kube, namespace, secret_of("team-b"), repo("team-b")), {"serviceaccounts", "services"}),
        (
            lambda: apply(kube, namespace, secret("team-a", read=READ, write="w-rotated")),
            {"services", "serviceaccounts"},
        ),
        (lambda: annotate(kube, namespace, "team-a", "now"), {"configmaps", "secrets", "services"}),
        (remove, {"serviceaccounts", "services"}),
    ]
    for wish, untouched in wishes:
        wish()
        before, since = chain.versions(), len(chain.proxy.writes())
        chain.to_the_end()
        chain.applied_once(since)
        after = chain.versions()
        for key in before:
            if key[0] in untouched:
                assert after[key] == before[key], key


def a_broken_repo(chain: Chain) -> None:
    """Reconcile a repo without its Secret, then add the Secret. Statuses and Events are reported once."""
    kube, namespace = chain.kube, chain.namespace
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"), repo("team-b"))
    chain.to_the_end()
    apply(kube, namespace, secret_of("team-b"))
    chain.to_the_end()
    chain.settle(["team-a", "team-b"])
    chain.wholly(["team-a", "team-b"], jobs=2)


@pytest.mark.timeout(600)
def test_killed_at_each_write_it_converges(cluster, kube, tmp_path):
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        parts = (from_nothing, edits, a_broken_repo)
        chains = [stack.enter_context(chain_of(cluster, kube, tmp_path / part.__name__)) for part in parts]
        for done in [pool.submit(part, chain) for part, chain in zip(parts, chains, strict=True)]:
            done.result()
    kills = list(itertools.chain.from_iterable(chain.kills for chain in chains))
    print("\n".join(kills))
    assert len(kills) >= KILLS
    assert {one.split()[0] for one in kills} == {"before", "after"}
