"""Check who is served what while one configuration replaces another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.config.repo_config import BackendSpec, MemorySpec
from pywharf.config.settings import ServerSettings
from pywharf.core.access import Credentials
from pywharf.core.errors import UnavailableError
from pywharf.core.names import RepoName
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.ports import JournalRead
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.serving.metrics import Metrics
from pywharf.serving.repos import LoadedConfig, RepoDefinition, ServedRepos

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
async def serving() -> AsyncIterator[ServedRepos]:
    metrics = Metrics()
    extra_index = ExtraIndex(UpstreamClient(metrics.count_upstream, "tests"))
    async with ServedRepos(ServerSettings(root="."), opened, extra_index, metrics) as instance:
        yield instance


def config(credentials: Credentials, size: int, **more: int) -> LoadedConfig:
    repos = {NAME: RepoDefinition(MemorySpec(max_file_bytes=size), credentials, None)}
    for name, other in more.items():
        repos[RepoName(name)] = RepoDefinition(MemorySpec(max_file_bytes=other), credentials, None)
    return LoadedConfig(repos, f"{size}{more}")


@pytest.mark.parametrize(("credentials", "is_served"), [(OLD, True), (NEW, False)])
async def test_new_credentials_never_open_what_was_there_before(credentials, is_served):
    """While the new storage is read, only clients who could already read the old one are served from it."""
    async with serving() as instance:
        await instance.apply(config(OLD, 1))
        before = instance.repository(NAME)
        applying = asyncio.create_task(instance.apply(config(credentials, 2)))
        await asyncio.sleep(0)
        assert instance.credentials(NAME) == credentials
        assert not applying.done()
        if is_served:
            assert instance.repository(NAME) is before
        else:
            with pytest.raises(UnavailableError, match="being replaced"):
                instance.repository(NAME)
        await applying
        assert instance.repository(NAME) is not before


async def test_a_backend_that_cannot_be_opened_takes_no_other_repo_down():
    """This holds for unexpected exceptions, too."""
    async with serving() as instance:
        await instance.apply(config(OLD, 3, other=1))
        assert instance.repository(RepoName("other")).name == "other"
        with pytest.raises(UnavailableError, match=r"internal error \(ZeroDivisionError\)"):
            instance.repository(NAME)
