"""Slots that holders share fairly: who gets one, in which order, and that none is lost."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from pywharf.index.fair_slots import FairSlots


class Work:
    """Pieces of work of several holders, each of which lasts until it is ended."""

    def __init__(self, count: int) -> None:
        self.slots = FairSlots(count)
        self.begun: list[str] = []
        self.running: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, *names: str) -> None:
        """Begin pieces of work, each named by its holder's letter and a number."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._work(name))
            await settled()

    async def _work(self, name: str) -> None:
        async with self.slots.one(name[0]):
            self.begun.append(name)
            ends = self.running[name] = asyncio.Event()
            try:
                await ends.wait()
            finally:
                del self.running[name]

    async def end(self, name: str) -> None:
        self.running[name].set()
        await settled()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await settled()


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("count", "asked", "begun"),
    [
        (2, "a1 a2 b1", "a1 b1"),
        (2, "a1 b1 c1", "a1 b1"),
        (3, "a1 a2 a3 b1", "a1 a2 b1"),
        (3, "a1 b1 c1 d1", "a1 b1 c1"),
        (1, "a1 b1", "a1"),
    ],
)
async def test_a_slot_is_left_for_a_holder_that_has_none(count: int, asked: str, begun: str) -> None:
    work = Work(count)
    await work.begin(*asked.split())
    assert work.begun == begun.split()


async def test_who_holds_fewest_comes_first_and_of_these_who_waits_longest() -> None:
    work = Work(3)
    await work.begin("a1", "a2", "b1", "a3", "a4", "a5", "c1", "c2", "d1")
    assert work.begun == ["a1", "a2", "b1"]
    for name in ("a1", "a2", "b1", "c1", "d1", "a3"):
        await work.end(name)
    assert work.begun[3:] == ["c1", "a3", "d1", "c2", "a4"]
    await work.end("c2")
    assert work.begun[8:] == ["a5"]


async def test_every_piece_of_work_is_done_once() -> None:
    work = Work(2)
    names = [f"{holder}{number}" for holder in "abc" for number in range(5)]
    await work.begin(*names)
    while work.running:
        assert len(work.running) <= 2
        await work.end(next(iter(work.running)))
    assert sorted(work.begun) == names


async def test_who_goes_away_while_waiting_takes_no_slot() -> None:
    work = Work(2)
    await work.begin("a1", "b1", "a2", "c1", "c2")
    await work.cancel("c1", "a2")
    await work.end("a1")
    await work.end("b1")
    await work.begin("a3")
    assert work.begun == ["a1", "b1", "c2", "a3"]


async def test_who_goes_away_in_the_moment_of_a_grant_gives_it_back() -> None:
    work = Work(1)
    held = work.slots.one("a")
    await held.__aenter__()
    await work.begin("b1", "c1")
    await held.__aexit__(None, None, None)  # it grants the slot without a pause, so that no other task runs meanwhile
    await work.cancel("b1")
    assert work.begun == ["c1"]
    await work.end("c1")
    await work.begin("b2")
    assert work.begun == ["c1", "b2"]


async def test_an_error_frees_the_slot() -> None:
    slots = FairSlots(1)
    for _ in range(3):
        with contextlib.suppress(ZeroDivisionError):
            async with slots.one("a"):
                raise ZeroDivisionError
    free: Callable[[], Awaitable[object]] = slots.one("b").__aenter__
    await asyncio.wait_for(free(), 20)
