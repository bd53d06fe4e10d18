"""The access log: one line per request, with no query, no secret and no header but User-Agent.

It names the client's address (`pywharf.web.client_address`), its subject and the access entries that let it in.
"""

import logging
from datetime import UTC, datetime
from typing import Literal

import msgspec
from aiohttp import web

from pywharf.core.forwarded import TrustedProxies
from pywharf.core.log_text import log_text
from pywharf.web.client_address import address_behind
from pywharf.web.keys import GRANT, REQUEST_ID

LOGGER_NAME = "pywharf.access"
_logger = logging.getLogger(LOGGER_NAME)
_MAX_FIELD = 300

Format = Literal["off", "text", "json"]


class AccessLog:
    """The writer of the access log, in the configured format."""

    def __init__(self, log_format: Format, proxies: TrustedProxies | None = None) -> None:
        self._format = log_format
        self._proxies = proxies or TrustedProxies()

    def write(self, request: web.BaseRequest, repo: str | None, status: int, size: int, seconds: float) -> None:
        """Log one answer; `size` is the length of its body in bytes."""
        if self._format == "off":
            return
        path = log_text(request.rel_url.raw_path, _MAX_FIELD)
        agent = log_text(request.headers.get("User-Agent", ""), _MAX_FIELD)
        remote = address_behind(self._proxies, request) or None
        grant = request.get(GRANT)
        subject, entry = (None, None) if grant is None else (log_text(grant.subject, _MAX_FIELD), grant.entry or None)
        if self._format == "text":
            _logger.info(
                "%s %s %s %s %s %.3fs repo=%s subject=%s entry=%s agent=%r",
                remote, request.method[:20], path, status, size, seconds, repo or "-",
                "-" if subject is None else repr(subject), entry or "-", agent,
            )  # fmt: skip
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "remote": remote,
            "method": request.method[:20],
            "path": path,
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 4),
            "repo": repo,
            "subject": subject,
            "entry": entry,
            "request_id": request.get(REQUEST_ID),
            "agent": agent,
        }
        _logger.info("%s", msgspec.json.encode(line).decode())
