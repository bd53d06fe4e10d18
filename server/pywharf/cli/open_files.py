"""The limit of open files of this process, and how many connections it allows."""

import logging
import resource

_logger = logging.getLogger(__name__)
_RESERVE = 128
"""Open files for the internal port (32), storage threads, requests to other servers, and logs."""
_FILES_PER_CONNECTION = 2
"""Open files per connection: one that sends or receives a file has the file open too."""
_DEFAULT_CONNECTIONS = 2048
"""Most connections by default. Each may hold 64 KiB of a request's head."""
_MIN_CONNECTIONS = 8


def connections(asked_for: int) -> int:
    """Return how many connections a worker may have open.

    `asked_for` is --max_connections; 0 means as many as fit, up to 2048. If the limit of open files is too low for
    them, it is increased as far as the system allows.
    """
    wanted = asked_for or _DEFAULT_CONNECTIONS
    fitting = max(
        _MIN_CONNECTIONS, (_raised(wanted * _FILES_PER_CONNECTION + _RESERVE) - _RESERVE) // _FILES_PER_CONNECTION
    )
    if asked_for > fitting:
        _logger.warning(
            "--max_connections is %d, but the limit of open files allows %d, which is used; raise it (ulimit -Hn).",
            asked_for,
            fitting,
        )
    return min(wanted, fitting)


def _raised(wanted: int) -> int:
    """Increase the limit of open files to `wanted` if possible. Returns how many files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # a sandbox may refuse it
            return soft
    return max(soft, most)
