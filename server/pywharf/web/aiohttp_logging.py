"""The framework's log of requests that are no HTTP: a line each, without what was sent, which may hold a secret."""

import logging
import warnings

import aiohttp

from pywharf.web.forms import UNREADABLE_BODY

_FRAMEWORK = "aiohttp.server"


class _ClientFaults(logging.Filter):
    """Turns the tracebacks of clients' mistakes into one line each."""

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, UNREADABLE_BODY):
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
            record.msg, record.args = "A request that cannot be read was refused (%s).", (type(fault).__name__,)
        return True


def quieten() -> None:
    """Log clients' mistakes as such. Doing it twice changes nothing."""
    logger = logging.getLogger(_FRAMEWORK)
    if not any(isinstance(known, _ClientFaults) for known in logger.filters):
        logger.addFilter(_ClientFaults())
    for category in (aiohttp.BadContentDispositionHeader, aiohttp.BadContentDispositionParam):
        warnings.filterwarnings("ignore", category=category)
