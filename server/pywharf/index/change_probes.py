"""Probe many storages for changes in few batches of a thread: nearly always none of them has changed."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from pywharf.index.threads import submit

_GATHERING_S = 0.02
_BATCH_SIZE = 100
"""Probes in one batch, each of microseconds, so that nobody waits long for the thread or the interpreter."""

_LONGEST_S = 10.0
"""Seconds after which a storage counts as changed. It is then read, so that a hang is reported as its own failure."""

_MAX_CONCURRENT_BATCHES = 8
"""Batches that run concurrently. On a network volume each probe takes milliseconds."""

Probe = Callable[[], object]
_Pending = tuple[Probe, asyncio.Future[object]]


class ChangeProbes:
    """The probes of all repos. Use in one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Pending] = []
        self._gathering: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT_BATCHES)

    async def take(self, probe: Probe) -> object:
        """Return the probe's result or, if it fails or takes too long, an object that equals nothing else."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((probe, future))
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await future
        except TimeoutError:
            with contextlib.suppress(ValueError):
                self._waiting.remove((probe, future))
            return object()

    async def _gather(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHERING_S)
            await self._slots.acquire()
            some, self._waiting = self._waiting[:_BATCH_SIZE], self._waiting[_BATCH_SIZE:]
            batch = asyncio.create_task(_run_batch(some))
            self._batches.add(batch)
            batch.add_done_callback(self._end_batch)

    def _end_batch(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._slots.release()


async def _run_batch(pending: Sequence[_Pending]) -> None:
    answers = await asyncio.wrap_future(submit(_all, [probe for probe, _ in pending]))
    for (_, future), answer in zip(pending, answers, strict=True):
        if not future.done():  # its repo was closed in the meantime
            future.set_result(answer)


def _all(change_probes: Sequence[Probe]) -> list[object]:
    return [_answer(probe) for probe in change_probes]


def _answer(probe: Probe) -> object:
    try:
        return probe()
    except Exception:  # noqa: BLE001 - the read that follows fails the same way and reports it
        return object()
