"""How many files and connections this process may have open, and how many connections that leaves room for."""

import logging
import resource

_logger = logging.getLogger(__name__)
_RESERVE = 128
"""For the internal port (32), threads at a storage, other servers that are asked, logs."""
_EACH = 2
"""A connection that sends or takes a file has that open, too."""
_MOST = 2048
"""Connections by default: each may hold 64 KiB of a request's head."""
_LEAST = 8


def connections(asked_for: int) -> int:
    """The connections that a worker may have open; `asked_for` is --max_connections, 0: as many as fit, up to 2048.

    Raises the limit of open files as far as the system lets it, if it is lower than what they need.
    """
    wanted = asked_for or _MOST
    fitting = max(_LEAST, (_raised(wanted * _EACH + _RESERVE) - _RESERVE) // _EACH)
    if asked_for > fitting:
        _logger.warning(
            "--max_connections is %d, but the limit of open files allows %d, which is used; raise it (ulimit -Hn).",
            asked_for,
            fitting,
        )
    return min(wanted, fitting)


def _raised(wanted: int) -> int:
    """The limit of open files, raised to `wanted` if it can be."""
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
