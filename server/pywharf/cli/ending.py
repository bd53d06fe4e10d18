"""Ways to end a process whose threads hang: a thread that calls a dead storage cannot be interrupted."""

import logging
import os
import sys
import threading
import time

from pywharf.index import evaluations, threads

_logger = logging.getLogger(__name__)
_GRACE_S = 3.0
"""Seconds for threads that are about to end by themselves."""
LATE_S = 8.0
"""Seconds after the time that the flags allow a stop; fewer than a pod has left at that point."""


def leave_hanging_threads(status: int) -> None:
    """End the process with this status, without Python's clean-up, if threads still run after `_GRACE_S`."""
    threads.close()
    evaluations.close()
    deadline = time.monotonic() + _GRACE_S
    alive = [thread for thread in _others() if not _ends_by(thread, deadline)]
    if alive:
        _logger.warning("%d threads still wait for a storage; the process ends without them.", len(alive))
        _end(status)


def end_within(seconds: float) -> None:
    """End the process with status 1 after that many seconds, whatever it is doing."""

    def late() -> None:
        _logger.error("The process did not stop within %.0f s; it ends now.", seconds)
        _end(1)

    timer = threading.Timer(seconds, late)
    timer.daemon = True
    timer.start()


def _others() -> list[threading.Thread]:
    own = {threading.current_thread(), threading.main_thread()}
    return [thread for thread in threading.enumerate() if thread not in own and not thread.daemon]


def _ends_by(thread: threading.Thread, deadline: float) -> bool:
    thread.join(max(deadline - time.monotonic(), 0))
    return not thread.is_alive()


def _end(status: int) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
