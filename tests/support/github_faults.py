"""Faults of GitHub at chosen calls, and an account of all calls."""

import re
from dataclasses import dataclass, field
from typing import Literal

SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}
PRIMARY = {"message": "API rate limit exceeded."}


@dataclass
class Fault:
    """What happens to the next `times` calls of that verb and path (a regular expression, of all of it).

    `when`: before the call takes effect, or after it. Without a status the connection ends.
    """

    verb: str
    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, str] = field(default_factory=dict)
    times: int = 1
    when: Literal["before", "after"] = "before"
    delay_s: float = 0.0
    """With neither status nor cut: late, but answered."""
    is_only_late: bool = False

    def fits(self, verb: str, path: str) -> bool:
        return self.times > 0 and self.verb == verb and re.fullmatch(self.path, path) is not None


@dataclass(frozen=True)
class Call:
    """One that came in."""

    verb: str
    path: str
    """Numbers and tags left out."""
    status: int
    is_conditional: bool
    token: str

    @property
    def costs(self) -> bool:
        """Whether GitHub counts it against the rate limit."""
        return self.status != 304 and not self.path.startswith("/signed/")


def template(path: str) -> str:
    """A path without what differs from call to call."""
    for found, shown in (
        (r"/releases/tags/.+", "/releases/tags/TAG"),
        (r"/git/blobs/.+", "/git/blobs/SHA"),
        (r"/signed/.+", "/signed/ASSET"),
        (r"/\d+\b", "/N"),
    ):
        path = re.sub(found, shown, path)
    return path


def secondary_limit(verb: str, path: str, wait_s: int, times: int = 1) -> Fault:
    """A refusal for asking too much at a time, or for making too much content."""
    return Fault(verb, path, 403, {"Retry-After": str(wait_s)}, SECONDARY, times)
