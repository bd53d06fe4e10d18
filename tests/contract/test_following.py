"""Servers that follow a storage: a file accepted by one server shows on all, whatever happens in between."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pywharf.core.errors import BackendUnavailableError, IndexNotLoadedError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index import follower as follower_module
from pywharf.index.change_probes import ChangeProbes
from pywharf.index.codecs import decode_index, encode_index
from pywharf.index.follower import Follower
from pywharf.index.ports import Backend, JournalEntry, Probeable, StoredIndex
from pywharf.index.update import update_index
from support.distributions.wheels import wheel
from support.examples import examples
from support.storage.steps import Steps
from support.storage.storages import FOLDING, MADE
from support.storage.uploads import publish

FOO = ProjectName("foo")


async def update(backend: Backend) -> None:
    await update_index(backend, backend_type="test", index_name="index.json", progress=lambda _n, _what: None)


def files_of(follower: Follower) -> set[str]:
    catalog = follower.catalog
    projects = (catalog.project(name) for name in catalog.names())
    return {f.filename for project in projects if project for f in project.files}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.01)


async def test_nothing_is_reported_before_the_first_read(backend):
    follower = Follower("team-a", backend)
    with pytest.raises(IndexNotLoadedError, match="The index of this repo is not loaded: it is being read for the"):
        follower.catalog  # noqa: B018 - reading it is what is tested
    await follower.refresh()
    assert follower.catalog.names() == ()


async def test_an_upload_shows_with_the_next_poll_and_stays_when_it_is_folded(backend, other, made, folds):
    follower = Follower("team-a", other)
    shown: set[str] = set()
    for version in ("1.0", "2.0", "3.0"):
        shown.add((await publish(backend, wheel(made, "foo", version))).filename)
        await follower.refresh()
        assert files_of(follower) == shown
        await update(backend)
        await follower.refresh()
        assert files_of(follower) == shown
        assert folds is (follower.catalog.entries() == [])


class Reads:
    """A storage that counts the reads of its journal."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.journals = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    async def read_journal(self, cursor: str | None) -> object:
        self.journals += 1
        return await self._backend.read_journal(cursor)


@pytest.mark.parametrize("opened", FOLDING, indirect=True)
async def test_a_storage_is_read_only_if_a_change_probe_finds_a_change(backend, other, made):
    """Changes by another server still show, at the latest one poll later."""
    reads = Reads(other)
    follower = Follower("team-a", cast("Backend", reads), change_probes=ChangeProbes())
    several_polls_s = 3 * other.poll_interval_s
    following = asyncio.create_task(follower.run())
    try:
        await follower.first_read()
        if isinstance(other, Probeable):
            await until(lambda: reads.journals == 2)  # the first probe has no earlier one to compare with
            await asyncio.sleep(several_polls_s)
            assert reads.journals == 2
        for version in ("1.0", "2.0"):
            name = (await publish(backend, wheel(made, "foo", version))).filename
            await until(lambda: name in files_of(follower))  # noqa: B023
            await update(backend)
            await until(lambda: not follower.catalog.entries())
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_an_index_change_costs_one_parse_and_it_is_done_off_the_event_loop(backend, other, made, monkeypatch):
    threads: list[int] = []

    def decode(content: bytes, filename: str) -> object:
        threads.append(threading.get_ident())
        return decode_index(content, filename)

    monkeypatch.setattr(follower_module, "decode_index", decode)
    parses: list[int] = []
    followers = [Follower("team-a", other, lambda: parses.append(1)) for _ in range(2)]
    for round_ in range(1, 4):
        await publish(backend, wheel(made, "foo", f"{round_}.0"))
        await update(backend)
        for follower in followers:
            for _ in range(5):
                await asyncio.gather(*(follower.refresh() for _ in range(3)))
                assert len(files_of(follower)) == round_
        assert len(parses) == len(threads) == round_ * len(followers)
    assert threading.get_ident() not in threads


async def test_the_event_loop_goes_on_while_a_large_index_is_read(backend, other):
    projects = [
        Project(
            name=ProjectName(f"project-{i:05}"),
            files=tuple(File(filename=f"project_{i:05}-{v}.0.tar.gz", sha256=f"{i:064x}", size=v) for v in range(10)),
        )
        for i in range(5_000)
    ]
    content = encode_index("index.json", 1, projects, backend_type="test", location=lambda _n, _f: None)
    await backend.write_index(content, expected=None)
    follower = Follower("team-a", other)
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await follower.refresh()
    ticking.cancel()
    assert len(follower.catalog.names()) == 5_000
    assert max(gaps, default=0) < 0.5, f"the loop stood still for {max(gaps):.2f} s"


async def test_without_an_index_nothing_is_made_anew_at_each_read(backend, other, made):
    await publish(backend, wheel(made, "foo"))
    follower = Follower("team-a", other)
    await follower.refresh()
    names, source = follower.catalog.names(), follower.catalog.source(FOO)
    for _ in range(3):
        await follower.refresh()
        assert follower.catalog.names() is names
        assert follower.catalog.source(FOO) is source


async def test_an_index_that_is_gone_is_no_longer_shown(backend, made, folds):
    await publish(backend, wheel(made, "foo"))
    await update(backend)
    faults = Faults(backend)
    follower = Follower("team-a", cast("Backend", faults))
    await follower.refresh()
    assert files_of(follower)
    faults.gone = True
    await follower.refresh()
    assert follower.catalog.names() == (() if folds else (FOO,))  # the source of the journal still exists
    faults.gone = False
    await follower.refresh()
    assert files_of(follower)


class Faults:
    """A storage whose index fails or seems to be missing, for as long as a test wants."""

    def __init__(self, backend: Backend, *, fails: bool = False) -> None:
        self._backend = backend
        self.fails = fails
        self.gone = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    async def read_index(self, known: str | None = None) -> object:
        if self.fails:
            raise BackendUnavailableError("the volume is gone")
        return None if self.gone else await self._backend.read_index(known)


async def test_what_was_known_stays_while_the_storage_fails(backend, other, made):
    faults = Faults(other)
    follower = Follower("team-a", cast("Backend", faults))
    first = await publish(backend, wheel(made, "foo"))
    await follower.refresh()
    faults.fails = True
    second = await publish(backend, wheel(made, "foo", "2.0"))
    with pytest.raises(BackendUnavailableError):
        await follower.refresh()
    assert files_of(follower) == {first.filename}
    faults.fails = False
    await follower.refresh()
    assert files_of(follower) == {first.filename, second.filename}, "what came while it failed was ignored"


async def test_a_broken_index_changes_nothing_until_it_is_mended(backend, other, made):
    first = await publish(backend, wheel(made, "foo"))
    await update(backend)
    follower = Follower("team-a", other)
    await follower.refresh()
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex)
    await backend.write_index(b"broken", expected=stored.version)
    for _ in range(2):
        with pytest.raises(BackendUnavailableError, match="run update_index to write it again"):
            await follower.refresh()
        assert files_of(follower) == {first.filename}
    await update(backend)
    await follower.refresh()
    assert files_of(follower) == {first.filename}


async def test_an_upload_of_this_server_shows_immediately(backend, made):
    follower = Follower("team-a", backend)
    await follower.refresh()
    file = await publish(backend, wheel(made, "foo"))
    await follower.note(JournalEntry(FOO, file))
    assert files_of(follower) == {file.filename}
    for _ in range(2):
        await follower.refresh()
        assert files_of(follower) == {file.filename}


async def test_running_says_once_that_it_fails_and_once_that_it_is_over(backend, made, caplog):
    caplog.set_level("INFO")
    faults = Faults(backend, fails=True)
    follower = Follower("team-a", cast("Backend", faults))
    task = asyncio.create_task(follower.run())
    await follower.first_read()
    assert isinstance(follower.failure, BackendUnavailableError)
    with pytest.raises(IndexNotLoadedError, match="is not loaded: the volume is gone"):
        follower.catalog  # noqa: B018 - reading it is what is tested
    faults.fails = False
    await until(lambda: follower.failure is None)
    task.cancel()
    await asyncio.wait([task])
    said = [r.getMessage() for r in caplog.records if r.name == follower_module.__name__]
    assert said == [
        "Repo team-a: its index cannot be synchronised: the volume is gone",
        "Repo team-a: its index is synchronised again.",
    ]


# --- interleavings -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return [wheel(folder, name, version) for version in ("1.0", "2.0") for name in ("foo", "bar")]


class World:
    """A server that publishes, one that follows, and two runs of update_index, on one storage."""

    def __init__(self, backend: Backend, other: Backend, wheels: list[Path]) -> None:
        self.steps = Steps()
        self._wheels = wheels
        self._publishing = self.steps.backend(backend, "publish")
        self._updating = [self.steps.backend(b, f"update {i}") for i, b in enumerate((backend, other))]
        self._here = Follower("here", self.steps.backend(backend, "here"))
        self._there = Follower("there", self.steps.backend(other, "there"))
        self._acknowledged: set[str] = set()

    async def run(self, choose) -> None:
        await self.steps.run(
            choose,
            self._publish(),
            self._update(0),
            self._update(1),
            self._follow(self._here, shows_own=True),
            self._follow(self._there, shows_own=False),
        )

    async def _publish(self) -> None:
        for path in self._wheels:
            file = await publish(self._publishing, path)
            project = ProjectName(path.name.partition("-")[0])
            await self.steps.aside(self._here.note(JournalEntry(project, file)))
            self._acknowledged.add(file.filename)

    async def _update(self, number: int) -> None:
        for _ in range(2):
            await update(self._updating[number])

    async def _follow(self, follower: Follower, *, shows_own: bool) -> None:
        shown: set[str] = set()
        for _ in range(4):
            before = set(self._acknowledged)
            await follower.refresh()
            after = files_of(follower)
            trace = "\n".join(self.steps.trace)
            assert before <= after, f"{before - after} was acknowledged and is not shown:\n{trace}"
            assert shown <= after, f"{shown - after} was shown and no longer is:\n{trace}"
            if shows_own:
                assert self._acknowledged <= after, f"{self._acknowledged - after} is this server's own:\n{trace}"
            shown = after


@pytest.mark.parametrize("kind", MADE)
@settings(max_examples=examples(150), deadline=None, phases=[Phase.reuse, Phase.generate])
@given(order=st.lists(st.integers(0, 4), min_size=20, max_size=40))
def test_no_upload_is_lost_between_a_fold_and_a_read(tmp_path_factory, wheels, kind, order):
    async def play() -> None:
        open_storage = MADE[kind].make(tmp_path_factory.mktemp("storage"))
        backend, other = open_storage("index.json"), open_storage("index.json")
        choices = iter(order)
        try:
            await World(backend, other, wheels).run(lambda names: names[next(choices, 0) % len(names)])
        finally:
            await backend.aclose()
            await other.aclose()

    asyncio.run(play())
