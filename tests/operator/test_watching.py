"""kopf's watches on a real API server behind a proxy that injects faults: the right servers are woken regardless."""

import asyncio
import contextlib
import gc
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from pywharf_operator.spec import ObjectKey
from pywharf_operator.watching.registry import OWNED_SECRETS, RESOURCES, Watch, WatchTimeouts, reduce_kopf_logs
from pywharf_operator.watching.waking import Wakeup
from pywharf_operator.watching.watcher import Watcher
from support.cluster.api_faults import Answer, Silence, WatchError
from support.waiting import until

pytestmark = [
    # kopf does not close all its connections when it ends with an error.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
QUICK = WatchTimeouts(stream_s=3, connect_s=2.0, request_s=5.0, error_backoffs_s=(0.1, 0.2))
SOON_S = 60.0
KINDS = {
    "packagerepos": "/apis/pywharf.dev/v1alpha1",
    "packageservers": "/apis/pywharf.dev/v1alpha1",
    "secrets": "/api/v1",
    "configmaps": "/api/v1",
    "services": "/api/v1",
    "pods": "/api/v1",
    "deployments": "/apis/apps/v1",
    "cronjobs": "/apis/batch/v1",
}
OWNED = {"pywharf.dev/server": "pywharf"}


@dataclass
class Woke:
    """What the watches requested since the last `clear`."""

    keys: set[ObjectKey] = field(default_factory=set)
    everything: int = 0
    restarts: int = 0

    def take(self, woken: Wakeup) -> None:
        self.keys |= woken.keys
        self.everything += woken.everything

    def restarted(self) -> None:
        self.restarts += 1

    def clear(self) -> None:
        self.keys, self.everything, self.restarts = set(), 0, 0


@pytest.fixture(autouse=True)
def quiet():
    before = logging.getLogger("kopf").level
    reduce_kopf_logs(debug=False)
    yield
    logging.getLogger("kopf").setLevel(before)
    # A run of kopf that was stopped leaves its connections to the garbage collector: collect here, not in another test.
    for thread in threading.enumerate():
        if thread.name == "watches":
            thread.join(10)
    gc.collect()


@pytest.fixture
def through(cluster, api_proxy, monkeypatch) -> Any:
    kubeconfig = cluster.kubeconfig_through(api_proxy.url, api_proxy.ca_file)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    return api_proxy


def there(watches: tuple[Watch, ...]) -> int:
    """Count the watches of kinds that every cluster has."""
    return sum(not one.kind.optional for one in watches)


@contextlib.asynccontextmanager
async def watching(proxy, namespace, watches: tuple[Watch, ...] = RESOURCES, **options):
    woke = Woke()
    watcher = Watcher(watches, [namespace], woke.take, restarted=woke.restarted, timeouts=QUICK, **options)
    task = asyncio.create_task(watcher.run())
    try:
        await until(lambda: proxy.watches() >= there(watches), "open watches", longest_s=SOON_S)
        woke.clear()
        yield woke
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not proxy.writes()


def path(kind, namespace, name=None):
    return f"{KINDS[kind]}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def repo(name, namespace, **spec):
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageRepo",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backend": {"fileSystem": {}}} | spec,
    }


def core(kind, name, labels, **fields):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}} | fields


async def woken_by(woke, key, change):
    """Make the change and check that it soon wakes the key."""
    await asyncio.to_thread(change)
    await until(lambda: key in woke.keys, f"{key} to be woken", longest_s=SOON_S)
    woke.clear()


async def test_each_kind_of_object_wakes_its_server(through, kube, namespace):
    own, other = ObjectKey(namespace, "pywharf"), ObjectKey(namespace, "other")
    async with watching(through, namespace) as woke:
        await woken_by(woke, own, lambda: kube.create(path("packagerepos", namespace), repo("a", namespace)))
        server = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageServer", "metadata": {"name": "other"}}
        await woken_by(woke, other, lambda: kube.create(path("packageservers", namespace), server | {"spec": {}}))
        credentials = core("Secret", "c", {"pywharf.dev/credentials": "true"}, stringData={"read": "x"})
        await woken_by(woke, own, lambda: kube.create(path("secrets", namespace), credentials))
        await woken_by(woke, own, lambda: kube.create(path("configmaps", namespace), core("ConfigMap", "m", OWNED)))
        await woken_by(
            woke, own, lambda: kube.patch(path("configmaps", namespace, "m"), {"data": {"edited": "by somebody"}})
        )
        await woken_by(woke, own, lambda: kube.delete(path("configmaps", namespace, "m")))
        moved = {"spec": {"serverRef": {"name": "other"}}}
        await woken_by(woke, own, lambda: kube.patch(path("packagerepos", namespace, "a"), moved))
        await woken_by(woke, other, lambda: kube.patch(path("secrets", namespace, "c"), {"stringData": {"read": "y"}}))
        await woken_by(woke, other, lambda: kube.delete(path("packagerepos", namespace, "a")))


async def test_a_status_and_what_has_no_label_wake_nobody(through, kube, namespace):
    kube.create(path("packagerepos", namespace), repo("a", namespace))
    async with watching(through, namespace) as woke:
        await until(lambda: not woke.keys or not woke.clear())
        kube.patch_status(path("packagerepos", namespace, "a"), {"observedGeneration": 7})
        kube.create(path("secrets", namespace), core("Secret", "c", {}, stringData={"read": "x"}))
        kube.create(path("secrets", namespace), core("Secret", "d", OWNED, stringData={"read": "x"}))
        kube.create(path("configmaps", namespace), core("ConfigMap", "m", {}))
        marker = ObjectKey(namespace, "marker")
        await woken_by_only(woke, marker, lambda: kube.create(path("packagerepos", namespace), marker_repo(namespace)))
    assert not woke.keys


def marker_repo(namespace):
    return repo("marker", namespace, serverRef={"name": "marker"})


async def woken_by_only(woke, key, change):
    woke.clear()
    await asyncio.to_thread(change)
    await until(lambda: key in woke.keys, f"{key} to be woken", longest_s=SOON_S)
    assert woke.keys == {key}
    woke.clear()


async def test_the_servers_own_secrets_have_a_watch_of_their_own(through, kube, namespace):
    async with watching(through, namespace, OWNED_SECRETS) as woke:
        secret = core("Secret", "pywharf-credentials", OWNED, stringData={"a": "b"})
        key = ObjectKey(namespace, "pywharf")
        await woken_by(woke, key, lambda: kube.create(path("secrets", namespace), secret))
        await woken_by(woke, key, lambda: kube.delete(path("secrets", namespace, "pywharf-credentials")))


REPOS = r"/packagerepos$"


def gone(proxy):
    rule = proxy.add(Answer(410), path=REPOS, watch=True, times=1)
    proxy.cut(REPOS)
    return rule


def error_event(code):
    return lambda proxy: proxy.inject(code, REPOS)


def refused(code, times):
    def begin(proxy):
        rule = proxy.add(Answer(code), path=REPOS, times=times)
        proxy.cut(REPOS)
        return rule

    return begin


def watch_error(code):
    def begin(proxy):
        rule = proxy.add(WatchError(code), path=REPOS, watch=True, times=1)
        proxy.cut(REPOS)
        return rule

    return begin


def everything_refused(code):
    def begin(proxy):
        rule = proxy.add(Answer(code))
        proxy.cut()
        asyncio.get_running_loop().call_later(8.0, proxy.remove, rule)
        return rule

    return begin


def silent(proxy):
    rule = proxy.add(Silence(), path=REPOS, watch=True, times=1)
    proxy.cut(REPOS)
    return rule


FAULTS = {
    "410 on a watch": gone,
    "an ERROR event 410": error_event(410),
    "an ERROR event 410 at once": watch_error(410),
    "an ERROR event 500": error_event(500),
    "an ERROR event 504": error_event(504),
    "an ERROR event 429": error_event(429),
    "a watch that breaks": lambda proxy: proxy.cut(),
    "a watch that falls silent": lambda proxy: proxy.hush(REPOS),
    "a watch that is silent from the start": silent,
    "401 once": refused(401, 1),
    "401 for everything": everything_refused(401),
    "403 for a while": refused(403, 12),
    "404 once": refused(404, 1),
    "429 for a while": refused(429, 12),
    "503 for everything, for a while": everything_refused(503),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_the_right_servers_are_woken(through, kube, namespace, fault):
    """A change that the watches miss is picked up later, by an event or by reconciling everything."""
    kube.create(path("packagerepos", namespace), repo("a", namespace))
    async with watching(through, namespace) as woke:
        FAULTS[fault](through)
        await asyncio.to_thread(kube.create, path("packagerepos", namespace), marker_repo(namespace))
        marker = ObjectKey(namespace, "marker")
        await until(lambda: marker in woke.keys, "the change to be seen", longest_s=SOON_S)
        if woke.restarts:
            assert woke.everything
        # The watches are open again, so a later change is seen immediately.
        await until(lambda: through.watches() >= there(RESOURCES), "open watches", longest_s=SOON_S)
        await asyncio.to_thread(kube.delete, path("packagerepos", namespace, "a"))
        key = ObjectKey(namespace, "pywharf")
        await until(lambda: key in woke.keys or woke.everything, "the deletion to be seen", longest_s=SOON_S)


async def test_a_deletion_without_an_event_asks_for_everything(through, kube, namespace):
    for name in ("a", "b"):
        kube.create(path("packagerepos", namespace), repo(name, namespace))
    async with watching(through, namespace) as woke:
        through.hush(REPOS)
        kube.delete(path("packagerepos", namespace, "a"))
        rule = through.add(WatchError(410), path=REPOS, watch=True, times=1)
        through.cut(REPOS)
        await until(lambda: rule.hits and woke.everything, "a look at everything", longest_s=SOON_S)


async def test_kinds_that_are_missing_are_waited_for_and_named(through, namespace, caplog):
    answers = ["The kind is not there.", "The kind is not there.", None]

    async def missing():
        return answers.pop(0) if answers else None

    async with watching(through, namespace, missing=missing):
        assert not answers
    assert [record.getMessage() for record in caplog.records] == ["The kind is not there. Waiting for it."]


async def test_an_unreachable_api_server_is_logged_in_one_line_per_attempt(through, namespace, caplog):
    woke = Woke()
    with through.down():
        watcher = Watcher(RESOURCES, [namespace], woke.take, restarted=woke.restarted, timeouts=QUICK)
        task = asyncio.create_task(watcher.run())
        await until(lambda: woke.restarts >= 2, "two tries", longest_s=SOON_S)
        assert watcher.fault() is None
    await until(lambda: through.watches() >= there(RESOURCES), "open watches", longest_s=SOON_S)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pattern = r"The watches ended \([\w, ]+\) and start again in \d+\.\d s\."
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == woke.restarts
    assert all(re.fullmatch(pattern, line) for line in lines), lines


async def test_it_stops_within_seconds_and_leaves_no_thread(through, namespace):
    async with watching(through, namespace, name="to be stopped"):
        began = time.monotonic()
    assert time.monotonic() - began < 10
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "to be stopped"])
