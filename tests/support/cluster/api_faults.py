"""The faults that tests/support/cluster/api_proxy.py applies to requests, and its records of requests."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Pass:
    """No fault: the request is only counted, or `on_hit` is called."""


@dataclass(frozen=True)
class Drop:
    """A broken connection without a response. The API server sees the request only with `after_forwarding`."""

    after_forwarding: bool = False


@dataclass(frozen=True)
class Delay:
    """A delay before the request is forwarded."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """A response with a Status of that code; the request is not forwarded."""

    code: int
    retry_after_s: int | None = None


@dataclass(frozen=True)
class WatchError:
    """An accepted watch that sends only an ERROR event with that code."""

    code: int


@dataclass(frozen=True)
class Silence:
    """An accepted watch that never sends anything; other requests get no response."""


Fault: TypeAlias = Pass | Drop | Delay | Answer | WatchError | Silence


@dataclass(frozen=True)
class Call:
    """A request that the proxy received."""

    method: str
    path: str
    """The path without the query."""
    query: dict[str, str]
    watch: bool
    agent: str
    content_type: str
    at: float
    """Monotonic time of its arrival in seconds."""
    status: int | None
    """Status of the response; None if the connection was broken. A watch is recorded when it is accepted."""
    fault: Fault | None

    @property
    def is_write(self) -> bool:
        return self.method not in {"GET", "HEAD", "OPTIONS"}


@dataclass
class Rule:
    """A fault for requests that match by method (None: any), path (searched) and being a watch (None: either)."""

    fault: Fault
    method: str | None
    path: re.Pattern[str]
    watch: bool | None
    left: int | None
    """Remaining number of hits; None for no limit."""
    on_hit: Callable[[], None]
    hits: int = 0

    def takes(self, method: str, path: str, *, watch: bool) -> bool:
        return (
            self.left != 0
            and self.method in {None, method}
            and self.watch in {None, watch}
            and self.path.search(path) is not None
        )


def status_object(code: int) -> dict[str, Any]:
    """Return a Status object like the API server's."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "injected by the tests",
        "reason": _REASONS.get(code, "Unknown"),
        "code": code,
    }


def error_event(code: int) -> bytes:
    """Return the line of an ERROR event in a watch."""
    return json.dumps({"type": "ERROR", "object": status_object(code)}).encode() + b"\n"
