"""The supervisor of the watches: kopf's, which are started again when it gives up, and the operator's own.

kopf runs in a thread with its own event loop, because it cancels every task of its loop when it ends, and in the main
thread it would take the signals.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import kopf

from pywharf_operator.cluster.kube import Kube
from pywharf_operator.cluster.login import connect
from pywharf_operator.spec.faults import error_location
from pywharf_operator.spec.names import MANAGER
from pywharf_operator.watching.object_watch import ObjectWatch
from pywharf_operator.watching.registry import Watch, WatchTimeouts, by_kopf, registry_of, settings_of
from pywharf_operator.watching.waking import Wakeup, Waking

_logger = logging.getLogger(__name__)
_STOPPING_S: Final = 3.0
_CLOSING_S: Final = 0.25
"""Seconds for closing the connections that kopf left open, before their event loop is closed."""
_LISTED_S: Final = 5.0
"""Seconds after its start by which kopf has listed everything."""
_HANGING_S: Final = 5.0
"""Seconds after which a cancelled task of kopf counts as stuck; normally it ends immediately."""
_UP_S: Final = 10.0
"""Seconds after which a run of kopf counts as started."""
_DOWN_S: Final = 300.0
"""Seconds without a started run after which a restart of the process may help."""


class KopfHungError(Exception):
    """kopf tried to end and could not."""


class _Run:
    """One run of kopf, in its own thread."""

    def __init__(
        self,
        watches: Sequence[Watch],
        namespaces: Sequence[str],
        timeouts: WatchTimeouts,
        waking: Waking,
        wake: Callable[[Wakeup], None],
    ) -> None:
        self._watches = watches
        self._waking = waking
        self._namespaces = namespaces
        self._timeouts = timeouts
        self._wake = wake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._fault: Exception | None = None
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    def start(self, name: str) -> None:
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def stop(self) -> None:
        """Ask kopf to end; may be called from any thread."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._stop.set)

    def _main(self) -> None:
        # Not asyncio.run, which waits for its tasks however long they take to end.
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._kopf())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting task
            self._fault = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
        with contextlib.suppress(Exception):
            loop.run_until_complete(_end_tasks())
            loop.close()
        if self._fault is not None:
            self.ended.set_exception(self._fault)
        else:
            self.ended.set_result(None)

    async def _kopf(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_unhandled)
        # Started before kopf's own tasks, because kopf leaves existing tasks alone.
        hanging = asyncio.create_task(_until_hanging(), name="see that kopf ends")
        running = asyncio.create_task(
            kopf.operator(
                registry=registry_of(self._watches, self._waking, self._wake, self._failed),
                settings=settings_of(self._watches, self._timeouts),
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                standalone=True,
                # Otherwise kopf asks for the user's name and fails, because a container's numeric user has none.
                identity=MANAGER,  # type: ignore[arg-type]  # a NewType of text, which kopf keeps to itself
                stop_flag=self._stop,
            ),
            name="kopf",
        )
        await asyncio.wait({hanging, running}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise KopfHungError
        await running
        await asyncio.sleep(_CLOSING_S)

    def _failed(self, error: Exception) -> None:
        self._fault = error
        self.stop()


async def _until_hanging() -> None:
    """Return when a cancelled task does not end. kopf would wait for it forever, with no watch open."""
    since: dict[asyncio.Task[Any], float] = {}
    while True:
        await asyncio.sleep(1.0)
        now = time.monotonic()
        since = {task: since.get(task, now) for task in asyncio.all_tasks() if task.cancelling()}
        if any(now - asked > _HANGING_S for asked in since.values()):
            return


async def _end_tasks() -> None:
    """Cancel the remaining tasks, repeatedly if they do not end, and wait at most _STOPPING_S for them."""
    own = asyncio.current_task()
    for _ in range(3):
        left = {task for task in asyncio.all_tasks() if task is not own}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_STOPPING_S / 3)


def _seen(future: asyncio.Future[None]) -> None:
    """Retrieve the error, which is reported elsewhere; otherwise asyncio would log all of it, with its traceback."""
    if not future.cancelled():
        future.exception()


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of kopf's callbacks: when kopf ends, they fail because objects are already gone."""
    _logger.debug("kopf: %s", type(context.get("exception")).__name__)


class Watcher:
    """The supervisor of the watches. After each start of kopf it wakes all servers, as events may have been missed."""

    def __init__(  # noqa: PLR0913 - all but the first three are options
        self,
        watches: Sequence[Watch],
        namespaces: Sequence[str],
        wake: Callable[[Wakeup], None],
        *,
        name: str = "watches",
        missing: Callable[[], Awaitable[str | None]] | None = None,
        restarted: Callable[[], None] = lambda: None,
        kube: Kube | None = None,
        timeouts: WatchTimeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the supervisor; without namespaces it watches the whole cluster.

        `missing` returns what must exist first and does not. `kube` is for the watches that are not kopf's and has no
        limit of connections; None: the supervisor opens its own.
        """
        self._watches = by_kopf(watches)
        self._others = [one for one in watches if one not in self._watches]
        self._kube = kube
        self._waking = Waking()
        self._namespaces = namespaces
        self._wake = wake
        self._name = name
        self._missing = missing
        self._restarted = restarted
        self._timeouts = timeouts or WatchTimeouts()
        self._clock = clock
        self._started_at: float | None = None
        self._up_at: float | None = None
        """When kopf last ran, or was last held back for a reason that no restart fixes."""
        self._last_message = ""

    def fault(self) -> str | None:
        """Return the fault that a restart of the process may fix, or None."""
        now = self._clock()
        if self._up_at is None or (self._started_at is not None and now - self._started_at >= _UP_S):
            return None
        down = now - self._up_at
        return f"The {self._name} could not be started for {down:.0f} s." if down > _DOWN_S else None

    async def run(self) -> None:
        """Run the watches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._watches:
                tasks.create_task(self._keep_kopf_running(), name=self._name)
            if self._others:
                tasks.create_task(self._watch_others(), name=f"{self._name} of other kinds")

    async def _watch_others(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            kube = self._kube
            if kube is None:
                kube = await stack.enter_async_context(await self._own_kube())
            async with asyncio.TaskGroup() as tasks:
                for watch in self._others:
                    for namespace in self._namespaces or (None,):
                        one = ObjectWatch(kube, watch, namespace, self._waking, self._wake)
                        tasks.create_task(one.run(self._timeouts), name=f"watch of {watch.kind.plural}")

    async def _own_kube(self) -> Kube:
        failures = 0
        while True:
            try:
                return Kube(await connect(connections=0))
            except Exception as error:  # noqa: BLE001 - any failure is retried
                _logger.warning("The watches cannot log in: %s", error_location(error))
            failures += 1
            await asyncio.sleep(self._timeouts.retry_s(failures))

    async def _keep_kopf_running(self) -> None:
        loop = asyncio.get_running_loop()

        def wake(woken: Wakeup) -> None:
            with contextlib.suppress(RuntimeError):  # the main loop is closed: the process ends
                loop.call_soon_threadsafe(self._wake, woken)

        failures = 0
        self._up_at = self._clock()
        while True:
            if not await self._is_complete():
                failures += 1
                await asyncio.sleep(self._timeouts.retry_s(failures))
                continue
            reason, lasted_s = await self._run_once(wake)
            failures = 1 if lasted_s >= _UP_S else failures + 1
            wait = self._timeouts.retry_s(failures)
            _logger.warning("The %s ended (%s) and start again in %.1f s.", self._name, reason, wait)
            self._restarted()
            await asyncio.sleep(wait)

    async def _run_once(self, wake: Callable[[Wakeup], None]) -> tuple[str, float]:
        run = _Run(self._watches, self._namespaces, self._timeouts, self._waking, wake)
        self._started_at = began = self._clock()
        run.start(self._name)
        self._wake(Wakeup(everything=True))
        # And again later: what is deleted between that listing and kopf's own has no event.
        again = asyncio.get_running_loop().call_later(_LISTED_S, self._wake, Wakeup(everything=True))
        ended = asyncio.wrap_future(run.ended)
        ended.add_done_callback(_seen)  # even if nobody waits for it any longer
        try:
            await asyncio.shield(ended)  # otherwise it would be cancelled, too, and kopf's thread could not complete it
            reason = "without a reason"
        except asyncio.CancelledError:
            run.stop()
            await asyncio.to_thread(concurrent.futures.wait, [run.ended], _STOPPING_S)
            raise
        except Exception as error:  # noqa: BLE001 - kopf is restarted after any failure
            reason = _reason(error)
        finally:
            again.cancel()
            lasted_s = self._clock() - began
            self._started_at = None
            if lasted_s >= _UP_S:
                self._up_at = self._clock()
        return reason, lasted_s

    async def _is_complete(self) -> bool:
        if self._missing is None:
            return True
        try:
            lacking = await self._missing()
        except Exception as error:  # noqa: BLE001 - the API server cannot be asked
            lacking = f"The API server cannot be asked what it has ({error_location(error)})."
        else:
            if lacking:
                self._up_at = self._clock()
        if lacking and lacking != self._last_message:
            _logger.warning("%s Waiting for it.", lacking)
        self._last_message = lacking or ""
        return not lacking


def _reason(error: BaseException) -> str:
    """Return the error's type and the HTTP status of its cause in one line, without the error's text."""
    name = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(status := getattr(cause, "status", None), int):
            return f"{name}, HTTP {status}"
        cause = cause.__cause__
    return name
