"""Backend calls of several tasks, in an order that the test chooses."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pywharf.index.ports import Backend, Progress, ScannedProject

T = TypeVar("T")
LONGEST_S = 30.0


class Steps:
    """A scheduler of tasks: each call on a task's backend waits until it is chosen."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        """The calls with their callers in order, to explain a failure."""
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running = 0
        self._settled = asyncio.Event()

    def backend(self, backend: Backend, who: str) -> Any:
        """Wrap the backend so that each call by `who` waits until it is chosen."""
        return _Gated(backend, who, self)

    async def run(self, choose: Callable[[list[str]], str], *tasks: Coroutine[Any, Any, None]) -> None:
        """Run the tasks until all are done; `choose` picks the next of the waiting callers."""
        self._running = len(tasks)
        running = [asyncio.create_task(self._counted(task)) for task in tasks]
        try:
            while not all(task.done() for task in running):
                async with asyncio.timeout(LONGEST_S):
                    await self._settled.wait()
                self._settled.clear()
                if self._running == 0 and self._waiting:
                    self._running += 1
                    self._waiting.pop(choose(sorted(self._waiting))).set_result(None)
        finally:
            for task in running:
                task.cancel()
            results = await asyncio.gather(*running, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def step(self, who: str, what: str) -> None:
        """Wait until `who` is chosen, then record the call."""
        chosen = asyncio.get_running_loop().create_future()
        self._waiting[who] = chosen
        self._stop()
        await chosen
        self.trace.append(f"{who}: {what}")

    async def aside(self, waited_for: Awaitable[T]) -> T:
        """Wait for another task without blocking the choice of the next caller."""
        self._stop()
        try:
            return await waited_for
        finally:
            self._running += 1

    async def _counted(self, task: Coroutine[Any, Any, None]) -> None:
        try:
            await task
        finally:
            self._stop()

    def _stop(self) -> None:
        self._running -= 1
        if self._running == 0:
            self._settled.set()


class _Gated:
    def __init__(self, backend: Backend, who: str, steps: Steps) -> None:
        self._backend = backend
        self._who = who
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._steps.step(self._who, name)
            return await found(*args, **kwargs)

        return call

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        await self._steps.step(self._who, "scan")
        async for one in self._backend.scan(progress):
            yield one
