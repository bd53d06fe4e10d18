"""The framework's log of requests that are not HTTP: one line each, without the bytes sent, which may hold a secret."""

import logging
import warnings

import aiohttp

from pywharf.web.forms import UNREADABLE_BODY

_FRAMEWORK = "aiohttp.server"


class _ClientFaults(logging.Filter):
    """A logging filter that reduces the traceback of a client's mistake to one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, UNREADABLE_BODY):
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
            record.msg, record.args = "A request that cannot be read was refused (%s).", (type(fault).__name__,)
        return True


def quiet_client_faults() -> None:
    """Log each mistake of a client as one line, without warnings. Idempotent."""
    logger = logging.getLogger(_FRAMEWORK)
    if not any(isinstance(known, _ClientFaults) for known in logger.filters):
        logger.addFilter(_ClientFaults())
    for category in (aiohttp.BadContentDispositionHeader, aiohttp.BadContentDispositionParam):
        warnings.filterwarnings("ignore", category=category)
