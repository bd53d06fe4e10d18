"""Worker processes on one listening socket, and the parent that starts and stops them."""

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
    """Return the signals that stop a server, including a closed terminal's unless it was started under nohup."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM} | ({signal.SIGHUP} if hangs_up else set())


def supervise(count: int, run: Callable[[], None], folder: Path, on_stop: Callable[[], None]) -> None:
    """Keep `count` processes running `run` until a stop signal; then call `on_stop` and wait for each to end.

    A process that dies is replaced. All end when this process does. They share their metrics in `folder`.
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
            with contextlib.suppress(ProcessLookupError):  # it has ended, but is still listed
                os.kill(pid, signal.SIGTERM)

    for number in signals:
        signal.signal(number, stop)
    while not stopping or workers:
        while not stopping and len(workers) < count:
            # A signal between the fork and its entry in `workers` would miss the new worker.
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
        # Skip the parent's clean-up, which only the parent must do.
        os._exit(status)


def _end_with_parent(alive: int) -> None:
    """Stop this worker when the parent dies for any reason: then the pipe closes, as only the parent has its other end.

    A worker that kept running would keep the port from the next server.
    """
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
