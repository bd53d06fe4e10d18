"""Share one task between all concurrent callers that want the same."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """The running tasks by key. A task is forgotten when it ends, so neither results nor errors are cached.

    A caller that is cancelled leaves the task running, for the other callers and for whatever the task itself caches.
    """

    def __init__(self) -> None:
        self._running: dict[K, tuple[object, asyncio.Task[T]]] = {}

    async def run(self, key: K, start: Callable[[], Coroutine[Any, Any, T]], source: object = None) -> T:
        """Return the result of the key's running task, or of a new one. Raises what the task or `start` raises.

        `source` is what the task works from. A task that was started from an unequal one is not joined but replaced.
        """
        running = self._running.get(key)
        if running is None or running[0] != source:
            running = self._running[key] = (source, asyncio.create_task(start()))
            running[1].add_done_callback(lambda task: self._forget(key, task))
        # Not asyncio.shield: where a caller was cancelled, newer versions of Python log the task's exception.
        await asyncio.wait([running[1]])
        return running[1].result()

    def _forget(self, key: K, task: asyncio.Task[T]) -> None:
        if self._running.get(key, (None, None))[1] is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # retrieved here, or asyncio would report it if every caller was cancelled
