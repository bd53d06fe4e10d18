"""Several processes on one listening socket, and one that starts and ends them."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pywharf.serving import metrics
from pywharf.serving.worker_digests import forget_worker

_logger = logging.getLogger(__name__)
_RESTART_PAUSE_S = 1.0


def stop_signals() -> set[signal.Signals]:
    """The signals that end a server: also a closed terminal's, unless it was started under nohup."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM} | ({signal.SIGHUP} if hangs_up else set())


def supervise(count: int, run: Callable[[], None], folder: Path, on_stop: Callable[[], None]) -> None:
    """Keep `count` processes that do `run`, until a signal to stop; then call `on_stop` and wait for each to end.

    One that dies is started again; all end when this process does. `folder` is where they share their metrics.
    """
    shared_metrics = folder / "metrics"
    shared_metrics.mkdir()
    metrics.share(shared_metrics)
    stopping = False
    workers: dict[int, float] = {}
    signals = stop_signals()
    alive = os.pipe()

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        del number, frame
        stopping = True
        on_stop()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):  # ended, and not noted yet
                os.kill(pid, signal.SIGTERM)

    for number in signals:
        signal.signal(number, stop)
    while not stopping or workers:
        while not stopping and len(workers) < count:
            # A signal between fork and note would miss the new worker.
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            workers[_start(run, signals, alive)] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        pid, status = os.wait()
        lived = time.monotonic() - workers.pop(pid)
        forget_worker(folder, pid)
        metrics.forget(pid)
        if not stopping:
            _logger.error("Worker %d ended with %d; another is started.", pid, os.waitstatus_to_exitcode(status))
            if lived < _RESTART_PAUSE_S:
                time.sleep(_RESTART_PAUSE_S)


def _start(run: Callable[[], None], signals: set[signal.Signals], alive: tuple[int, int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        os.close(alive[1])
        threading.Thread(target=_end_with_parent, args=alive[:1], daemon=True).start()
        run()
        status = 0
    except BaseException:
        _logger.exception("Worker %d failed.", os.getpid())
    finally:
        sys.stderr.flush()
        # Without the parent's clean-up, which is the parent's to do.
        os._exit(status)


def _end_with_parent(alive: int) -> None:
    """The parent alone holds the other end, so this end closes when it dies, however it does.

    A worker that went on would keep the port from the next server.
    """
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
