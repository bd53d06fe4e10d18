"""Following a feed: which one is taken, which is ignored, and what is kept."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pywharf.core.advisories.feed import BadFeedError
from pywharf.core.errors import AdvisoriesNotLoadedError
from pywharf.core.names import ProjectName, RepoName
from pywharf.egress.advisory_feed import FeedClient
from pywharf.egress.policy import Egress
from pywharf.index.advisories import CurrentAdvisories
from pywharf.serving.advisories import follower as following
from pywharf.serving.advisories import reader as reading
from pywharf.serving.advisories import source as sources
from pywharf.serving.advisories.compiling import CompilingFailedError, compiled
from pywharf.serving.advisories.follower import FeedFollower
from pywharf.serving.advisories.opening import open_store
from pywharf.serving.advisories.served_files import ServedFiles
from pywharf.serving.advisories.source import FeedSource
from pywharf.serving.metrics import Metrics
from support.advisories import affected, entry, lines, malware, zipped
from support.advisories import compiled as compiled_bytes
from support.server.feed_host import FeedHost, hosting
from support.waiting import until

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Check often, and compile in this process: another one takes half a second to start."""
    for module in (following, reading):
        monkeypatch.setattr(module, "_WATCH_S", 0.01)
    for module in (sources, reading):
        monkeypatch.setattr(module, "PATH_S", 0.01)
    monkeypatch.setattr(sources, "_FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(reading, "_SETTLED_S", 0.0)

    async def compiled_here(feed: Path, store: Path, *, source: str, etag: str, last_modified: str):
        content, meta = await asyncio.to_thread(
            compiled_bytes, feed.read_bytes(), source=source, validators=(etag, last_modified)
        )
        store.write_bytes(content)
        return meta

    monkeypatch.setattr(reading, "compiled", compiled_here)


@pytest.fixture
def host():
    with hosting() as running:
        yield running


class Followed:
    """A server's follower, its advisories and its metrics."""

    def __init__(self, source: str, folder: Path) -> None:
        self.folder, self.root = folder / "private", folder / "root"
        for one in (self.folder, self.root):
            one.mkdir(exist_ok=True)
        self.advisories = CurrentAdvisories(has_feed=True)
        self.metrics = Metrics()
        self.served = ServedFiles(self.metrics.count_advisory_hit)
        self.source = FeedSource(source)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Followed"]:
        client = FeedClient(self.source.text, "tests", Egress()) if self.source.is_url else None
        follower = FeedFollower(
            self.source,
            0.05,
            client=client,
            folder=self.folder,
            root=self.root,
            advisories=self.advisories,
            served=self.served,
            metrics=self.metrics,
        )
        task = asyncio.create_task(follower.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if client is not None:
                await client.aclose()

    def knows(self, name: str) -> bool:
        store = self.advisories.current()
        return store is not None and store.concerns(ProjectName(name))

    def reads(self, result: str) -> int:
        text = self.metrics.render().decode()
        sample = f'pywharf_advisory_reads_total{{result="{result}"}} '
        return next((int(float(line.removeprefix(sample))) for line in text.splitlines() if line.startswith(sample)), 0)

    async def knowing(self, name: str) -> None:
        await until(lambda: self.knows(name), f"{name} to be known")

    async def read(self, result: str, more: int = 1) -> None:
        """Wait until so many more reads have ended so."""
        wanted = self.reads(result) + more
        await until(lambda: self.reads(result) >= wanted, f"another read that is {result}")


async def test_a_newer_feed_is_taken_and_a_bad_one_is_not(host: FeedHost, tmp_path, caplog):
    host.content = zipped([malware("first", modified=LATE)])
    followed = Followed(host.url, tmp_path)
    with pytest.raises(AdvisoriesNotLoadedError, match="not been read yet"):
        followed.advisories.required()
    async with followed.running():
        await followed.knowing("first")
        assert not followed.advisories.is_loading()
        await followed.read("unchanged")
        host.content = host.content[:-5]
        await followed.read("broken")
        host.content = zipped([malware("older", modified=EARLY)])
        await followed.read("older")
        seen = len(host.answers)
        await followed.read("older", 2)
        assert set(host.answers[seen:]) == {304}, "what was refused is not fetched again"
        host.status = 500
        await followed.read("unreachable", 2)
        host.status = 200
        host.content = zipped([malware("second", modified=LATE)])
        await followed.knowing("second")
        assert not followed.knows("first")
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert ["damaged" in messages[0], "2026-01-01" in messages[1], "500" in messages[2]] == [True] * 3
    assert len(messages) == 3, "a fault that lasts is logged once"


async def test_a_feed_that_lost_much_of_its_malware_is_refused(tmp_path, caplog):
    reports = [malware(f"evil-{number}") for number in range(100)]
    path = tmp_path / "feed.jsonl"
    path.write_bytes(lines(reports))
    async with (followed := Followed(str(path), tmp_path)).running():
        await followed.knowing("evil-99")
        path.write_bytes(lines([*reports[:89], malware("new")]))
        await followed.knowing("new")
        path.write_bytes(lines([*reports[:50], malware("newest")]))
        await followed.read("shrunk", 2)
        assert followed.knows("evil-88")
        assert not followed.knows("newest")
    assert "delete the folder advisories" in caplog.records[-1].getMessage()
    followed.folder = tmp_path / "another"
    followed.folder.mkdir()
    async with followed.running():
        await followed.read("shrunk", 1)
        assert followed.knows("evil-88"), "the kept feed is compared as well"
    (followed.root / "advisories" / "feed").unlink()
    followed.folder = tmp_path / "third"
    followed.folder.mkdir()
    followed.advisories = CurrentAdvisories(has_feed=True)
    async with followed.running():
        await followed.knowing("newest")


@pytest.mark.parametrize("is_url", [True, False])
def test_each_failure_makes_the_next_attempt_later(is_url):
    pauses = [sources.pause_s(attempt, 3600.0, is_url=is_url) for attempt in (1, 6, 60)]
    assert pauses == sorted(pauses)
    assert pauses[1] > pauses[0] * 8
    assert 2500 < pauses[2] <= 3600


async def test_a_file_that_cannot_be_compiled_is_tried_seldom_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "feed.jsonl"
    path.write_bytes(b"1")
    compiling, tried = vars(reading)["compiled"], list[bytes]()

    async def failing(feed: Path, store: Path, **more: str):
        tried.append(feed.read_bytes())
        if len(tried[-1]) == 1:
            raise CompilingFailedError("the process that read it failed")
        return await compiling(feed, store, **more)

    monkeypatch.setattr(reading, "compiled", failing)
    monkeypatch.setattr(reading, "pause_s", lambda attempt, *_, **__: 3600.0 if attempt else 0.01)
    async with (followed := Followed(str(path), tmp_path)).running():
        await followed.read("failed")
        path.write_bytes(lines([malware("first")]))
        await followed.knowing("first")
    assert tried.count(b"1") == 1


async def test_the_last_good_feed_outlives_a_restart(host: FeedHost, tmp_path):
    host.content = zipped([malware("first", modified=LATE)])
    async with (before := Followed(host.url, tmp_path)).running():
        await until((before.root / "advisories" / "feed").exists)
        await before.knowing("first")
    host.status = 503
    (tmp_path / "another").mkdir()
    after = Followed(host.url, tmp_path)
    after.folder = tmp_path / "another"
    async with after.running():
        await after.knowing("first")
        host.status, host.content = 200, zipped([malware("older", modified=EARLY)])
        await after.read("older")
    other = Followed(f"{host.url}/another", tmp_path)
    other.folder = tmp_path / "third"
    other.folder.mkdir()
    async with other.running():
        await other.knowing("older")


async def test_a_feed_on_disk_that_is_damaged_is_read_again(host: FeedHost, tmp_path):
    host.content = zipped([malware("first")])
    kept = tmp_path / "root" / "advisories" / "feed"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x" * 1000)
    async with (followed := Followed(host.url, tmp_path)).running():
        await followed.knowing("first")


async def test_a_disk_that_takes_nothing_is_no_obstacle(host: FeedHost, tmp_path):
    host.content = zipped([malware("first")])
    followed = Followed(host.url, tmp_path)
    (followed.root / "advisories").write_text("a file where the folder should be")
    async with followed.running():
        await followed.knowing("first")


async def test_one_worker_reads_for_all(host: FeedHost, tmp_path):
    host.content = zipped([malware("first")])
    one, other = Followed(host.url, tmp_path), Followed(host.url, tmp_path)
    async with other.running():
        async with one.running():
            await one.knowing("first")
            await other.knowing("first")
            assert host.answers.count(200) == 1
        host.content = zipped([malware("second")])
        await other.knowing("second")
    assert host.answers.count(200) == 2


async def test_a_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "feed.jsonl"
    async with (followed := Followed(str(path), tmp_path)).running():
        await followed.read("unreachable")
        path.write_bytes(lines([malware("first")]))
        await followed.knowing("first")
        taken = followed.advisories.current()
        await followed.read("unchanged")
        assert followed.advisories.current() is taken
        another = tmp_path / "another"
        another.write_bytes(lines([malware("second")]))
        os.replace(another, path)  # noqa: PTH105 - as a mounted volume does it
        await followed.knowing("second")
        path.unlink()
        await followed.read("unreachable")
        assert followed.knows("second")
        assert followed.reads("taken") == 2


async def test_other_texts_of_the_same_advisories_are_another_feed_with_the_same_answers(tmp_path):
    path = tmp_path / "feed.jsonl"
    path.write_bytes(lines([malware("first")]))
    async with (followed := Followed(str(path), tmp_path)).running():
        await followed.knowing("first")
        taken = followed.advisories.required()
        path.write_bytes(lines([malware("first") | {"details": "more is known"}]))
        await until(lambda: b"more is known" in (followed.advisories.entries().entry("MAL-2026-first") or b""))
        assert followed.advisories.required() is taken


async def test_a_new_entry_that_is_no_malware_is_reported_but_makes_no_page_anew(tmp_path, caplog):
    path = tmp_path / "feed.jsonl"
    path.write_bytes(lines([malware("first")]))
    followed = Followed(str(path), tmp_path)
    followed.served.note(RepoName("team-a"), ProjectName("acme"), "acme-1.0.tar.gz")
    async with followed.running():
        await followed.knowing("first")
        taken = followed.advisories.required()
        path.write_bytes(lines([malware("first"), entry("GHSA-1", affected("acme", ["1.0"]))]))
        await until(lambda: "New advisory GHSA-1: repo team-a served acme-1.0.tar.gz" in caplog.text, "the line")
        assert followed.advisories.required() is taken


async def test_the_real_process_compiles_and_refuses(tmp_path):
    feed, store = tmp_path / "feed", tmp_path / "store"
    feed.write_bytes(zipped([malware("first")]))
    meta = await compiled(feed, store, source="s", etag='"é"', last_modified="m")
    assert (meta.entries, meta.source, meta.etag) == (1, "s", '"é"')
    assert open_store(store).meta == meta
    feed.write_bytes(b"PK")
    with pytest.raises(BadFeedError, match="damaged"):
        await compiled(feed, store, source="s")
    with pytest.raises(CompilingFailedError, match="cannot be read"):
        await compiled(tmp_path / "missing", store, source="s")
