"""Faults of GitHub at chosen calls, and records of all calls."""

import re
from dataclasses import dataclass, field
from typing import Literal

SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}
PRIMARY = {"message": "API rate limit exceeded."}


@dataclass
class Fault:
    """A fault of the next `times` calls with this verb and path (a regular expression that matches the whole path).

    `when` says whether it happens before or after the call takes effect. Without a status the connection is cut.
    """

    verb: str
    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, str] = field(default_factory=dict)
    times: int = 1
    when: Literal["before", "after"] = "before"
    delay_s: float = 0.0
    """Seconds that the call is delayed."""
    is_only_late: bool = False
    """Whether the call is only delayed and then answered normally, without a status or a cut."""

    def fits(self, verb: str, path: str) -> bool:
        return self.times > 0 and self.verb == verb and re.fullmatch(self.path, path) is not None


@dataclass(frozen=True)
class Call:
    """A call that was received."""

    verb: str
    path: str
    """The path with placeholders for numbers and tags."""
    status: int
    is_conditional: bool
    token: str

    @property
    def costs(self) -> bool:
        """Whether GitHub counts it against the rate limit."""
        return self.status != 304 and not self.path.startswith("/signed/")


def template(path: str) -> str:
    """Replace the parts of a path that differ from call to call with placeholders."""
    for found, shown in (
        (r"/releases/tags/.+", "/releases/tags/TAG"),
        (r"/git/blobs/.+", "/git/blobs/SHA"),
        (r"/signed/.+", "/signed/ASSET"),
        (r"/\d+\b", "/N"),
    ):
        path = re.sub(found, shown, path)
    return path


def secondary_limit(verb: str, path: str, wait_s: int, times: int = 1) -> Fault:
    """Return a 403 for too many requests in a short time or for creating too much content."""
    return Fault(verb, path, 403, {"Retry-After": str(wait_s)}, SECONDARY, times)
