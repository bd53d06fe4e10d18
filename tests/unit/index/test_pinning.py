"""The pins of one repo: what is kept before it is pinned, what is refused, and how long a caller waits."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pywharf.backends.file_system.cache_store import FileSystemCacheStore
from pywharf.core.errors import (
    BusyError,
    DigestDiffersError,
    NotFoundError,
    PinsFullError,
    UnavailableError,
    UpstreamTimeoutError,
    WithheldError,
)
from pywharf.core.model import File
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.cache_store import CacheStore, Pin
from pywharf.index.upstream import pinning as module
from pywharf.index.upstream.pinned_bytes import PinnedBytes
from pywharf.index.upstream.pinning import FoundFile, Outcome, Pinned, Pinning
from support.storage.caches import keep

REPO, OTHER = RepoName("team-a"), RepoName("team-b")
SIX = ProjectName("six")
NAME = "six-1.0.tar.gz"
CONTENT = b"six, once"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" * 64


class Offered:
    """What a repo offers, and how long it takes to fetch."""

    def __init__(self, store: CacheStore) -> None:
        self.store = store
        self.own = False
        self.failure: Exception | None = None
        self.says = DIGEST
        self.size: int | None = len(CONTENT)
        self.metadata: str | None = None
        self.fetched = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def find(self, project: ProjectName, filename: str) -> FoundFile:
        if self.failure is not None:
            raise self.failure
        file = File(filename=filename, sha256=self.says, size=self.size, metadata_sha256=self.metadata)
        return FoundFile(file, self.own)

    async def keep(self, project: ProjectName, file: File) -> str:
        await self.go_on.wait()
        if await self.store.open(DIGEST) is None:
            self.fetched += 1
            await keep(self.store, CONTENT)
        return DIGEST


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CacheStore]:
    made = FileSystemCacheStore(tmp_path / "cache")
    yield made
    await made.aclose()


@pytest.fixture
async def offered(store: CacheStore) -> Offered:
    return Offered(store)


@pytest.fixture
async def pinning(store: CacheStore, offered: Offered) -> AsyncIterator[Pinning]:
    made = Pinning(REPO, store, offered, max_bytes=1000)
    yield made
    await made.aclose()


PINNED = Pinned(SIX, NAME, DIGEST, len(CONTENT))


async def test_a_file_is_kept_and_then_pinned(pinning: Pinning, store: CacheStore, offered: Offered) -> None:
    assert await pinning.pin(SIX, NAME, DIGEST) == Outcome(PINNED, is_new=True)
    assert await store.pins(REPO) == (Pin(SIX, NAME, DIGEST, len(CONTENT)),) == await pinning.pins()
    assert await pinning.pin(SIX, NAME, DIGEST) == Outcome(PINNED, is_new=False)
    assert offered.fetched == 1


async def test_a_lost_file_is_fetched_again(pinning: Pinning, store: CacheStore, offered: Offered) -> None:
    await pinning.pin(SIX, NAME, DIGEST)
    await store.remove([DIGEST])
    assert await pinning.pin(SIX, NAME, DIGEST) == Outcome(PINNED, is_new=False)
    assert offered.fetched == 2


async def test_an_own_file_needs_no_pin(pinning: Pinning, store: CacheStore, offered: Offered) -> None:
    offered.own = True
    own = Pinned(SIX, NAME, DIGEST, len(CONTENT), own=True)
    assert await pinning.pin(SIX, NAME, DIGEST) == Outcome(own, is_new=False)
    assert await store.pins(REPO) == ()
    with pytest.raises(DigestDiffersError):
        await pinning.pin(SIX, NAME, WRONG)


@pytest.mark.parametrize("says", [DIGEST, ""], ids=["digest-on-page", "no-digest-on-page"])
async def test_another_digest_is_refused(pinning: Pinning, store: CacheStore, offered: Offered, says: str) -> None:
    offered.says = says
    with pytest.raises(DigestDiffersError, match=f"has the SHA-256 {DIGEST} here, not {WRONG}"):
        await pinning.pin(SIX, NAME, WRONG)
    assert await store.pins(REPO) == ()


@pytest.mark.parametrize(
    "failure",
    [
        NotFoundError.no_file(NAME, SIX),
        WithheldError(policy="p", rule="Deny", reason="", until=None),
        UpstreamTimeoutError("away"),
    ],
)
async def test_what_the_repo_does_not_give_is_not_pinned(
    pinning: Pinning, store: CacheStore, offered: Offered, failure: Exception
) -> None:
    offered.failure = failure
    with pytest.raises(type(failure)):
        await pinning.pin(SIX, NAME, DIGEST)
    assert await store.pins(REPO) == ()


async def test_what_is_pinned_is_confirmed_while_the_index_is_away(
    pinning: Pinning, store: CacheStore, offered: Offered
) -> None:
    await pinning.pin(SIX, NAME, DIGEST)
    offered.failure = UpstreamTimeoutError("away")
    assert await pinning.pin(SIX, NAME, DIGEST) == Outcome(PINNED, is_new=False)
    await store.remove([DIGEST])
    with pytest.raises(UpstreamTimeoutError):
        await pinning.pin(SIX, NAME, DIGEST)


@pytest.mark.parametrize("size", [501, None], ids=["size-on-page", "no-size"])
async def test_one_repo_pins_half_of_the_cache_at_most(store: CacheStore, offered: Offered, size: int | None) -> None:
    pinning = Pinning(REPO, store, offered, max_bytes=1000 if size else 2 * len(CONTENT) - 1)
    offered.size = size
    with pytest.raises(PinsFullError, match="one repo may pin half"):
        await pinning.pin(SIX, NAME, DIGEST)
    assert await store.pins(REPO) == ()
    assert offered.fetched == (0 if size else 1)


async def test_all_repos_together_pin_three_quarters_of_the_cache_at_most(store: CacheStore, offered: Offered) -> None:
    most, clock = 40, Clock()
    of_all = PinnedBytes(store, most, clock)
    pinning = Pinning(REPO, store, offered, max_bytes=most, of_all=of_all, clock=clock)
    await store.pin(OTHER, Pin(SIX, "other-1.0.zip", "a" * 64, 12))
    await store.pin(RepoName("gone"), Pin(SIX, "gone-1.0.zip", "b" * 64, 10))
    with pytest.raises(PinsFullError, match=r"together have pinned 22 bytes, and this file has 9; .* 30\."):
        await pinning.pin(SIX, NAME, DIGEST)
    assert await store.pins(REPO) == ()
    assert not offered.fetched, "it is refused before it is fetched"
    await store.unpin(RepoName("gone"), SIX, "gone-1.0.zip")
    clock.now += 2
    await pinning.pin(SIX, NAME, DIGEST)
    await pinning.pin(SIX, "six-1.1.tar.gz", DIGEST)  # the same content takes no more room
    assert len(await store.pins(REPO)) == 2


async def test_the_number_of_pins_is_bounded(
    pinning: Pinning, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PINS", 2)
    for number in (1, 2):
        await pinning.pin(SIX, f"six-{number}.tar.gz", DIGEST)
    with pytest.raises(PinsFullError, match="has 2 pins"):
        await pinning.pin(SIX, "six-3.tar.gz", DIGEST)
    assert (await pinning.pin(SIX, "six-1.tar.gz", DIGEST)) is not None
    assert await pinning.unpin(SIX, "six-2.tar.gz")
    assert (await pinning.pin(SIX, "six-3.tar.gz", DIGEST)) is not None
    assert len(await store.pins(REPO)) == 2


async def test_core_metadata_is_pinned_with_its_file(pinning: Pinning, store: CacheStore, offered: Offered) -> None:
    offered.metadata = await keep(store, b"Metadata-Version: 2.1")
    await pinning.pin(SIX, NAME, DIGEST)
    assert {(pin.filename, pin.sha256) for pin in await store.pins(REPO)} == {
        (NAME, DIGEST),
        (f"{NAME}.metadata", offered.metadata),
    }
    assert [pin.filename for pin in await pinning.pins()] == [NAME]
    assert await pinning.unpin(SIX, NAME)
    assert await store.pins(REPO) == ()


async def test_what_is_unpinned_while_it_is_fetched_is_not_pinned(store: CacheStore, offered: Offered) -> None:
    pinning = Pinning(REPO, store, offered, max_bytes=1000)
    offered.go_on.clear()
    waiting = asyncio.create_task(pinning.pin(SIX, NAME, DIGEST))
    await asyncio.sleep(0)
    assert not await pinning.unpin(SIX, NAME)
    with pytest.raises(UnavailableError, match="unpinned meanwhile"):
        await waiting
    offered.go_on.set()
    assert await store.pins(REPO) == ()


async def test_an_outcome_that_nobody_asked_for_does_not_outlive_its_pin(store: CacheStore, offered: Offered) -> None:
    pinning = Pinning(REPO, store, offered, max_bytes=1000)
    offered.go_on.clear()
    assert await pinning.pin(SIX, NAME, DIGEST, 0) is None
    offered.go_on.set()
    async with asyncio.timeout(30):
        while not await store.pins(REPO):
            pass
    await pinning.unpin(SIX, NAME)
    assert await pinning.pin(SIX, NAME, DIGEST) == Outcome(PINNED, is_new=True)
    assert len(await store.pins(REPO)) == 1


async def asked_until_answered(pinning: Pinning, digest: str) -> Outcome:
    async with asyncio.timeout(30):
        while (outcome := await pinning.pin(SIX, NAME, digest, 0)) is None:
            pass
        return outcome


async def test_a_slow_fetch_is_asked_for_again(store: CacheStore, offered: Offered) -> None:
    pinning = Pinning(REPO, store, offered, max_bytes=1000)
    offered.go_on.clear()
    assert await pinning.pin(SIX, NAME, DIGEST, 0) is None
    assert await pinning.pin(SIX, NAME, DIGEST, 0) is None
    with pytest.raises(BusyError, match="with another digest"):
        await pinning.pin(SIX, NAME, WRONG, 0)
    offered.go_on.set()
    assert await asked_until_answered(pinning, DIGEST) == Outcome(PINNED, is_new=True)
    assert offered.fetched == 1
    await pinning.aclose()


async def test_a_failure_waits_for_who_asks_again(store: CacheStore, offered: Offered) -> None:
    pinning = Pinning(REPO, store, offered, max_bytes=1000)
    offered.go_on.clear()
    offered.says = ""
    assert await pinning.pin(SIX, NAME, WRONG, 0) is None
    offered.go_on.set()
    with pytest.raises(DigestDiffersError):
        await asked_until_answered(pinning, WRONG)
    await pinning.aclose()


async def test_the_fetches_of_a_repo_are_bounded(
    store: CacheStore, offered: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_RUNNING", 2)
    pinning = Pinning(REPO, store, offered, max_bytes=1000)
    offered.go_on.clear()
    for number in (1, 2):
        assert await pinning.pin(SIX, f"six-{number}.tar.gz", DIGEST, 0) is None
    with pytest.raises(BusyError):
        await pinning.pin(SIX, "six-3.tar.gz", DIGEST, 0)
    await pinning.aclose()
    assert await store.pins(REPO) == ()


async def test_pins_of_another_server_are_seen(pinning: Pinning, store: CacheStore) -> None:
    await store.pin(REPO, Pin(SIX, "six-9.tar.gz", DIGEST, 3))
    await store.pin(OTHER, Pin(SIX, "six-8.tar.gz", DIGEST, 3))
    assert [pin.filename for pin in await pinning.pins()] == ["six-9.tar.gz"]
    assert await pinning.unpin(SIX, "six-9.tar.gz")
    assert not await pinning.unpin(SIX, "six-9.tar.gz")
    assert await pinning.pins() == ()


async def test_concurrent_callers_share_one_fetch(pinning: Pinning, store: CacheStore, offered: Offered) -> None:
    outcomes = await asyncio.gather(*(pinning.pin(SIX, NAME, DIGEST) for _ in range(20)))
    assert {outcome.pinned for outcome in outcomes if outcome is not None} == {PINNED}
    assert offered.fetched == 1
    assert len(await store.pins(REPO)) == 1
