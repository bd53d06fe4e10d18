"""Readiness waits for the first feed of advisories, but not long."""

import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.serving import repos as served_repos
from pywharf.serving.definitions import LoadedConfig
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.metrics import Metrics
from pywharf.serving.opened_repo import RepoOpener
from pywharf.serving.repos import ServedRepos


@pytest.mark.parametrize(("longest_s", "is_ready"), [(1000.0, False), (0.0, True)])
async def test_readiness_waits_for_a_bounded_time(longest_s, is_ready, monkeypatch):
    monkeypatch.setattr(served_repos, "_READINESS_WAIT_S", longest_s)
    metrics, gatekeeper, waits = Metrics(), Gatekeeper(3600, 300), [True]
    shared = SharedResources(ExtraIndex(UpstreamClient(metrics.count_upstream, "tests")))
    opener = RepoOpener(lambda *_: MemoryBackend("index.json"), gatekeeper, shared, metrics, extra_index_url="")
    async with ServedRepos(opener, gatekeeper, metrics, lambda: waits[0]) as repos:
        assert not repos.is_ready(), "there is no configuration yet"
        await repos.apply(LoadedConfig({}, "digest"))
        assert repos.is_ready() is is_ready
        waits[0] = False
        assert repos.is_ready()
        waits[0] = True
        assert repos.is_ready(), "a server that was ready stays ready"
