"""Several processes on one listening socket, and one that starts and ends them."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pywharf.web import metrics
from pywharf.web.initialize import forget_worker

_logger = logging.getLogger(__name__)
_RESTART_PAUSE_S = 1.0


def supervise(count: int, run: Callable[[], None], folder: Path) -> None:
    """Keep `count` processes that do `run`, until SIGINT or SIGTERM; then wait for each to end.

    One that dies is started again. `folder` is where they share their metrics.
    """
    shared_metrics = folder / "metrics"
    shared_metrics.mkdir()
    metrics.share(shared_metrics)
    stopping = False
    workers: dict[int, float] = {}

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        del number, frame
        stopping = True
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    blocked = {signal.SIGINT, signal.SIGTERM}
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    while not stopping or workers:
        while not stopping and len(workers) < count:
            # A signal between fork and note would miss the new worker.
            signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
            workers[_start(run, blocked)] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        pid, status = os.wait()
        lived = time.monotonic() - workers.pop(pid)
        forget_worker(folder, pid)
        metrics.forget(pid)
        if not stopping:
            _logger.error("Worker %d ended with %d; another is started.", pid, os.waitstatus_to_exitcode(status))
            if lived < _RESTART_PAUSE_S:
                time.sleep(_RESTART_PAUSE_S)


def _start(run: Callable[[], None], blocked: set[signal.Signals]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        run()
        status = 0
    except BaseException:
        _logger.exception("Worker %d failed.", os.getpid())
    finally:
        sys.stderr.flush()
        # Without the parent's clean-up, which is the parent's to do.
        os._exit(status)
