"""Where a feed comes from, and when it is read again."""

import hashlib
import stat
from pathlib import Path
from typing import Final

import msgspec

from pywharf.core.backoff import backoff_s
from pywharf.core.urls import is_http

PATH_S: Final = 2.0
"""Seconds between two checks of a feed that is a file."""
_FIRST_RETRY_S: Final = 10.0

Mark = tuple[int, int, int]
"""Inode, time of the last change in nanoseconds, and size of a file."""


class FeedSource(msgspec.Struct, frozen=True):
    """Where a feed comes from: a URL, or the path of a file."""

    text: str

    @property
    def is_url(self) -> bool:
        """Return whether the feed is fetched from another host."""
        return is_http(self.text)

    @property
    def digest(self) -> str:
        """Return the identity by which a kept feed is known to be of this source."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogateescape")).hexdigest()


def pause_s(attempt: int, interval_s: float, *, is_url: bool) -> float:
    """Return the seconds until the next attempt, after so many that failed."""
    # A check of a path costs nothing, and an unchanged file is not read again.
    usual_s = interval_s if is_url else min(PATH_S, interval_s)
    if not attempt:
        return usual_s
    first_s = min(_FIRST_RETRY_S if is_url else PATH_S, interval_s)
    return backoff_s(attempt - 1, first_s=first_s, longest_s=interval_s, jitter=0.3)


def mark_of(path: Path) -> Mark | None:
    """Return what a file is known by, or None if there is no regular file. Blocks for a moment."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):  # reading a pipe may never end
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
