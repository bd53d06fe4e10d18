"""The access log: one line per request, with no query, no secret and no header but User-Agent."""

import logging
from datetime import UTC, datetime
from typing import Literal

import msgspec
from aiohttp import web

from pywharf.core.addresses import plain

LOGGER_NAME = "pywharf.access"
_logger = logging.getLogger(LOGGER_NAME)
_MAX_FIELD = 300

Format = Literal["off", "text", "json"]


class AccessLog:
    """The writer of the access log, in the configured format."""

    def __init__(self, log_format: Format) -> None:
        self._format = log_format

    def write(self, request: web.BaseRequest, repo: str | None, status: int, size: int, seconds: float) -> None:
        """Log one answer; `size` is the length of its body in bytes."""
        if self._format == "off":
            return
        path = _printable(request.rel_url.raw_path[:_MAX_FIELD])
        agent = _printable(request.headers.get("User-Agent", "")[:_MAX_FIELD])
        remote = plain(request.remote or "") or None
        if self._format == "text":
            _logger.info(
                "%s %s %s %s %s %.3fs repo=%s agent=%r",
                remote, request.method[:20], path, status, size, seconds, repo or "-", agent,
            )  # fmt: skip
            return
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "remote": remote,
            "method": request.method[:20],
            "path": path,
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 4),
            "repo": repo,
            "agent": agent,
        }
        _logger.info("%s", msgspec.json.encode(entry).decode())


def _printable(text: str) -> str:
    """Replace with "?" each character that could end the line, control a terminal or fail to be encoded."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
