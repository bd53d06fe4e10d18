"""Probe many storages for changes in few batches of a thread: nearly always none of them has changed."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from pywharf.index.threads import submit

_GATHERING_S = 0.02
_A_TURN = 100
"""Probes in one batch, each of microseconds, so that nobody waits long for the thread or the interpreter."""

_LONGEST_S = 10.0
"""Seconds after which a storage counts as changed. It is then read, so that a hang is reported as its own failure."""

_TURNS_AT_ONCE = 8
"""Batches that run concurrently. On a network volume each probe takes milliseconds."""

Glance = Callable[[], object]
_Asked = tuple[Glance, asyncio.Future[object]]


@runtime_checkable
class Glanceable(Protocol):
    """A backend with a cheap probe that shows whether anything has changed."""

    def glance(self) -> object:
        """Probe the state of journal and index. Blocks for a moment; may raise anything.

        Two equal results mean that a caller that read both after the first need not read them again.
        """


class Glances:
    """The probes of all repos. Use in one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Asked] = []
        self._gathering: asyncio.Task[None] | None = None
        self._turns: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_TURNS_AT_ONCE)

    async def take(self, glance: Glance) -> object:
        """Return the probe's result or, if it fails or takes too long, an object that equals nothing else."""
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
        if not future.done():  # its repo was closed in the meantime
            future.set_result(answer)


def _all(glances: Sequence[Glance]) -> list[object]:
    return [_answer(glance) for glance in glances]


def _answer(glance: Glance) -> object:
    try:
        return glance()
    except Exception:  # noqa: BLE001 - whoever then reads the storage itself gets it, too, and says so
        return object()
