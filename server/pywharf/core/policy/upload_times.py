"""Read the upload times of files (PEP 700)."""

import functools
import re
from datetime import datetime, timedelta

_MAX_CHARACTERS = 40
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:)([0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_LEAP_SECOND = "60"
LAST_SECOND = 253_402_300_799
"""Unix seconds of 9999-12-31T23:59:59Z. No later time can be written."""


def unix_seconds(upload_time: str) -> float | None:
    """Return the Unix seconds of an RFC 3339 time, or None if it is not one.

    A time without an offset is not one: it may be of any time zone. A leap second counts as the second after it.
    """
    # A longer text is not kept in the cache: an index of anybody may send it.
    return _unix_seconds(upload_time) if len(upload_time) <= _MAX_CHARACTERS else None


@functools.lru_cache(maxsize=65_536)
def _unix_seconds(upload_time: str) -> float | None:
    match = _TIME.match(upload_time)
    if match is None:
        return None
    date, time, second, fraction, offset = match.groups()
    is_leap = second == _LEAP_SECOND
    try:
        offset = "+00:00" if offset in "Zz" else offset
        read = datetime.fromisoformat(f"{date}T{time}{'59' if is_leap else second}{fraction or ''}{offset}")
        return (read + timedelta(seconds=1)).timestamp() if is_leap else read.timestamp()
    except (ValueError, OverflowError):
        return None
