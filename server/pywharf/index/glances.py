"""Glances at many storages in few turns of a thread: nearly always nothing has changed in any of them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

_GATHERING_S = 0.02
_A_TURN = 100
"""Glances in a row, each of microseconds, so that nobody waits long for the thread or the interpreter."""

Glance = Callable[[], object]


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
        self._waiting: list[tuple[Glance, asyncio.Future[object]]] = []
        self._turns: asyncio.Task[None] | None = None

    async def take(self, glance: Glance) -> object:
        """What it says; where it fails, something that equals nothing else."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((glance, future))
        if self._turns is None or self._turns.done():
            self._turns = asyncio.create_task(self._take_turns())
        return await future

    async def _take_turns(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHERING_S)
            some, self._waiting = self._waiting[:_A_TURN], self._waiting[_A_TURN:]
            answers = await asyncio.to_thread(_all, [glance for glance, _ in some])
            for (_, future), answer in zip(some, answers, strict=True):
                if not future.done():  # its repo is closed meanwhile
                    future.set_result(answer)


def _all(glances: Sequence[Glance]) -> list[object]:
    return [_answer(glance) for glance in glances]


def _answer(glance: Glance) -> object:
    try:
        return glance()
    except Exception:  # noqa: BLE001 - whoever then reads the storage itself gets it, too, and says so
        return object()
