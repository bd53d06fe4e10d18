"""Check who is served what while one configuration replaces another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.config.repo_config import BackendSpec, MemorySpec
from pywharf.core.access.secrets import Credentials
from pywharf.core.errors import UnavailableError
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.evaluation import RepoPolicies, Withheld, compile_policies
from pywharf.core.policy.model import Deny, Policy, PolicyDocument
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.ports import JournalRead
from pywharf.index.repository import Repository
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.serving.definitions import LoadedConfig, RepoDefinition, ServedPolicies
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


def enforces(repository: Repository, policies: RepoPolicies | None) -> bool:
    """Return whether a repo applies these policies; of two equal ones no answer to a client tells which."""
    return repository._policies.are(policies)  # noqa: SLF001


def denying(project: str) -> ServedPolicies:
    document = PolicyDocument(policies=(Policy(name=f"ns/{project}", deny=(Deny(project=project),)),))
    return ServedPolicies(document, project, {NAME: compile_policies(document, NAME)})


async def test_a_policy_applies_before_a_storage_of_another_repo_is_read_and_reopens_nothing(monkeypatch):
    monkeypatch.setattr("pywharf.serving.repos._FIRST_READ_S", 0.2)
    async with serving() as (repos, _):
        await repos.apply(config(OLD, 1))
        served = repos.repository(NAME)
        slow = msgspec.structs.replace(config(OLD, 1, other=2), policies=denying("foo"))
        applying = asyncio.create_task(repos.apply(slow))
        await asyncio.sleep(0)
        assert not applying.done()
        assert enforces(served, slow.policies.by_repo[NAME])
        await applying
        assert repos.repository(NAME) is served
        await repos.apply(config(OLD, 1, other=2))
        assert repos.repository(NAME) is served
        assert enforces(served, None)


async def test_a_policy_applies_to_a_repo_that_is_being_replaced_and_to_its_replacement(monkeypatch):
    monkeypatch.setattr("pywharf.serving.repos._FIRST_READ_S", 0.2)
    async with serving() as (repos, _):
        await repos.apply(config(OLD, 1))
        before = repos.repository(NAME)
        changed = msgspec.structs.replace(config(OLD, 2), policies=denying("foo"))
        applying = asyncio.create_task(repos.apply(changed))
        await asyncio.sleep(0)
        assert repos.repository(NAME) is before
        assert enforces(before, changed.policies.by_repo[NAME])
        await applying
        assert repos.repository(NAME) is not before
        assert enforces(repos.repository(NAME), changed.policies.by_repo[NAME])


async def test_a_policy_applies_to_requests_that_a_replaced_repo_still_answers():
    async with serving() as (repos, _):
        await repos.apply(config(OLD, 1))
        before = repos.repository(NAME)
        await repos.apply(config(OLD, 4))
        assert repos.repository(NAME) is not before
        changed = msgspec.structs.replace(config(OLD, 4), policies=denying("foo"))
        await repos.apply(changed)
        assert enforces(before, changed.policies.by_repo[NAME])


async def test_what_is_replaced_in_the_last_moment_is_closed_too(monkeypatch):
    closed: list[object] = []
    real = MemoryBackend.aclose

    async def aclose(backend: MemoryBackend) -> None:
        closed.append(backend)
        await real(backend)

    monkeypatch.setattr(MemoryBackend, "aclose", aclose)
    async with serving() as (repos, _):
        await repos.apply(config(OLD, 1))
        await repos.apply(config(OLD, 4))
        assert closed == []
    assert len(set(map(id, closed))) == 2


async def test_counts_of_a_policy_are_dropped_with_it():
    withheld = [Withheld("x", name, "Deny", "", None) for name in ("ns/foo", "ns/bar")]
    async with serving() as (repos, _):
        for project, expected in (("foo", {"ns/foo"}), ("bar", {"ns/bar"})):
            await repos.apply(msgspec.structs.replace(config(OLD, 1), policies=denying(project)))
            repos.tally.note(NAME, ProjectName("x"), withheld)
            assert repos.withheld().keys() == expected
        await repos.apply(config(OLD, 1))
        assert repos.withheld() == {}
        assert repos.tally.by_policy() == {}
