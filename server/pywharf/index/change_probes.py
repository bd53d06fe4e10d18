"""Glances at many storages in few turns of a thread: nearly always nothing has changed in any of them."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from pywharf.index.threads import submit

_GATHERING_S = 0.02
_A_TURN = 100
"""Glances in a row, each of microseconds, so that nobody waits long for the thread or the interpreter."""

_LONGEST_S = 10.0
"""After which a storage counts as changed, so that it is read, and what hangs is reported as its own failure."""

_TURNS_AT_ONCE = 8
"""On a volume that answers over a network each glance takes milliseconds."""

Glance = Callable[[], object]
_Asked = tuple[Glance, asyncio.Future[object]]


@runtime_checkable
class Glanceable(Protocol):
    """A backend that can tell cheaply that nothing has changed."""

    def glance(self) -> object:
        """What journal and index look like now. Blocking, for a moment; may raise anything.

        Two equal answers mean that whoever read both after the first need not read them again.
        """


class Glances:
    """All repos' glances. Use in one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Asked] = []
        self._gathering: asyncio.Task[None] | None = None
        self._turns: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_TURNS_AT_ONCE)

    async def take(self, glance: Glance) -> object:
        """What it says; where it fails, something that equals nothing else."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((glance, future))
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await future
        except TimeoutError:
            with contextlib.suppress(ValueError):
                self._waiting.remove((glance, future))
            return object()

    async def _gather(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHERING_S)
            await self._places.acquire()
            some, self._waiting = self._waiting[:_A_TURN], self._waiting[_A_TURN:]
            turn = asyncio.create_task(_turn(some))
            self._turns.add(turn)
            turn.add_done_callback(self._end_turn)

    def _end_turn(self, turn: asyncio.Task[None]) -> None:
        self._turns.discard(turn)
        self._places.release()


async def _turn(asked: Sequence[_Asked]) -> None:
    answers = await asyncio.wrap_future(submit(_all, [glance for glance, _ in asked]))
    for (_, future), answer in zip(asked, answers, strict=True):
        if not future.done():  # its repo is closed meanwhile
            future.set_result(answer)


def _all(glances: Sequence[Glance]) -> list[object]:
    return [_answer(glance) for glance in glances]


def _answer(glance: Glance) -> object:
    try:
        return glance()
    except Exception:  # noqa: BLE001 - whoever then reads the storage itself gets it, too, and says so
        return object()
