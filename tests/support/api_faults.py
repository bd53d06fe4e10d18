"""What tests/support/api_proxy.py does to requests, and what it notes of them."""

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
    """No harm: for counting, or for what `on_hit` does."""


@dataclass(frozen=True)
class Drop:
    """Break the connection without an answer; the API server did what was asked only with `after_forwarding`."""

    after_forwarding: bool = False


@dataclass(frozen=True)
class Delay:
    """Pass it on after that long."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """Answer with a Status of that code, in the API server's place."""

    code: int
    retry_after_s: int | None = None


@dataclass(frozen=True)
class WatchError:
    """Accept a watch, and send nothing but an ERROR event with that code."""

    code: int


@dataclass(frozen=True)
class Silence:
    """Accept a watch, and send nothing ever; any other request gets no answer."""


Fault: TypeAlias = Pass | Drop | Delay | Answer | WatchError | Silence


@dataclass(frozen=True)
class Call:
    """A request that came in."""

    method: str
    path: str
    """Without the query."""
    query: dict[str, str]
    watch: bool
    agent: str
    content_type: str
    at: float
    """Monotonic time at which it came."""
    status: int | None
    """None where the connection was broken instead. A watch is noted when it is accepted."""
    fault: Fault | None

    @property
    def is_write(self) -> bool:
        return self.method not in {"GET", "HEAD", "OPTIONS"}


@dataclass
class Rule:
    """A fault for the requests that match: method (None: any), path (searched for), being a watch (None: either)."""

    fault: Fault
    method: str | None
    path: re.Pattern[str]
    watch: bool | None
    left: int | None
    """How many times more; None: without end."""
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
    """As the API server answers."""
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
    """A line of a watch."""
    return json.dumps({"type": "ERROR", "object": status_object(code)}).encode() + b"\n"
