"""Check who is served what while one configuration replaces another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.config.repo_config import BackendSpec, MemorySpec
from pywharf.core.access import Credentials
from pywharf.core.errors import UnavailableError
from pywharf.core.names import RepoName
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.ports import JournalRead
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.serving.definitions import LoadedConfig, RepoDefinition
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.metrics import Metrics
from pywharf.serving.opened_repo import RepoOpener
from pywharf.serving.repos import ServedRepos

NAME = RepoName("demo")
OLD = Credentials(read="old-read", write="old-write")
NEW = Credentials(read="new-read", write="new-write")


class SlowBackend(MemoryBackend):
    """A backend whose storage does not answer."""

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        await asyncio.Event().wait()
        return await super().read_journal(cursor)


def opened(spec: BackendSpec, name: RepoName, secret: str | None) -> MemoryBackend:
    del name, secret
    if spec.max_file_bytes == 3:
        msg = "a third party's mistake"
        raise ZeroDivisionError(msg)
    return SlowBackend("index.json") if spec.max_file_bytes == 2 else MemoryBackend("index.json")


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[ServedRepos, Gatekeeper]]:
    metrics = Metrics()
    gatekeeper = Gatekeeper(3600, 300)
    shared = SharedResources(ExtraIndex(UpstreamClient(metrics.count_upstream, "tests")))
    opener = RepoOpener(opened, gatekeeper, shared, metrics, extra_index_url="")
    async with ServedRepos(opener, gatekeeper, metrics) as repos:
        yield repos, gatekeeper


def config(credentials: Credentials, size: int, **more: int) -> LoadedConfig:
    repos = {NAME: RepoDefinition(MemorySpec(max_file_bytes=size), credentials, None)}
    for name, other in more.items():
        repos[RepoName(name)] = RepoDefinition(MemorySpec(max_file_bytes=other), credentials, None)
    return LoadedConfig(repos, f"{size}{more}")


@pytest.mark.parametrize(("credentials", "is_served"), [(OLD, True), (NEW, False)])
async def test_new_credentials_never_open_what_was_there_before(credentials, is_served, monkeypatch):
    """While the new storage is read, only clients who could already read the old one are served from it."""
    monkeypatch.setattr("pywharf.serving.repos._FIRST_READ_S", 0.2)
    async with serving() as (repos, gatekeeper):
        await repos.apply(config(OLD, 1))
        before = repos.repository(NAME)
        applying = asyncio.create_task(repos.apply(config(credentials, 2)))
        await asyncio.sleep(0)
        assert gatekeeper.credentials(NAME) == credentials
        assert not applying.done()
        if is_served:
            assert repos.repository(NAME) is before
        else:
            with pytest.raises(UnavailableError, match="being replaced"):
                repos.repository(NAME)
        await applying
        assert repos.repository(NAME) is not before


async def test_a_backend_that_cannot_be_opened_takes_no_other_repo_down():
    """This holds for unexpected exceptions, too."""
    async with serving() as (repos, _):
        await repos.apply(config(OLD, 3, other=1))
        assert repos.repository(RepoName("other")).name == "other"
        with pytest.raises(UnavailableError, match=r"internal error \(ZeroDivisionError\)"):
            repos.repository(NAME)
