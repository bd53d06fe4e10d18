"""The operator's own watches: which kinds, and what happens while the cluster lacks one."""

import asyncio
from typing import Any

import pytest

from pywharf_operator.spec.kinds import HTTP_ROUTE, OWNED
from pywharf_operator.spec.names import SERVER_LABEL
from pywharf_operator.watching import object_watch
from pywharf_operator.watching.object_watch import ObjectWatch
from pywharf_operator.watching.registry import OWNED_SECRETS, RESOURCES, Watch, WatchTimeouts
from pywharf_operator.watching.waking import Wakeup, Waking


@pytest.mark.parametrize(("failures", "longest_s"), [(1, 0.5), (2, 1), (3, 2), (5, 8), (6, 10), (1000, 10)])
def test_the_wait_before_a_watch_starts_again_grows(failures, longest_s):
    assert 0.75 * longest_s <= WatchTimeouts().retry_s(failures) <= longest_s


class Missing:
    """What the watches call. The kind is missing for the first `missing` lists; then one object changes."""

    def __init__(self, missing: int) -> None:
        self.lists, self.streams = 0, 0
        self._missing = missing

    async def listed(self, *_args, **_options):
        self.lists += 1
        return ([], "") if self.lists <= self._missing else ([], "5")

    async def watch(self, *_args, **_options):
        self.streams += 1
        if self.streams == 1:
            labels = {SERVER_LABEL: "pywharf"}
            metadata = {"name": "pywharf", "namespace": "team", "uid": "u", "resourceVersion": "6", "labels": labels}
            yield "MODIFIED", {"metadata": metadata, "spec": {"hostnames": ["other"]}}
        await asyncio.Event().wait()


async def test_a_kind_that_the_cluster_lacks_is_watched_once_it_is_there(monkeypatch):
    monkeypatch.setattr(object_watch, "_MISSING_AGAIN_S", 0.001)
    events = asyncio.Queue[Wakeup]()
    kube: Any = Missing(missing=3)
    watch = ObjectWatch(kube, Watch(HTTP_ROUTE, SERVER_LABEL), "team", Waking(), events.put_nowait)
    running = asyncio.create_task(watch.run(WatchTimeouts()))
    try:
        async with asyncio.timeout(20):
            everything = await events.get()
            changed = await events.get()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (kube.lists, kube.streams) == (4, 1)
    assert everything.everything, "what was applied before the watch was open has no event"
    assert [str(key) for key in changed.keys] == ["team/pywharf"]


@pytest.mark.parametrize("kind", OWNED, ids=lambda kind: kind.name)
def test_each_kind_that_is_applied_is_watched(kind):
    assert [one for one in (*RESOURCES, *OWNED_SECRETS) if one == Watch(kind, SERVER_LABEL)]
