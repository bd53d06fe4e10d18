"""When an index is updated: what cron, Kubernetes' CronJobs and `up` all read the same way.

Five fields, as crontab(5) has them. Left out is what only some readers know: `@hourly`, `?`, `L`, `#`, seven for
Sunday, a time zone inside the text, and Jenkins' `H`.
"""

import re
import zoneinfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _field(values: str) -> str:
    item = rf"(\*|({values})(-({values}))?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_FIELDS = (
    ("minute", "[0-5]?[0-9]", 0, 59),
    ("hour", "[01]?[0-9]|2[0-3]", 0, 23),
    ("day of the month", "0?[1-9]|[12][0-9]|3[01]", 1, 31),
    ("month", f"0?[1-9]|1[0-2]|(?i:{'|'.join(_MONTHS)})", 1, 12),
    ("day of the week", f"0?[0-6]|(?i:{'|'.join(_WEEKDAYS)})", 0, 6),
)
SCHEDULE_PATTERN = "^" + " +".join(_field(values) for _, values, _, _ in _FIELDS) + "$"
TIME_ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+){0,2}$"


def check_schedule(text: str) -> None:
    """Raise ValueError where a range runs backwards or no day is ever meant. `text` matches SCHEDULE_PATTERN."""
    values = [
        _values(part, name, first, last) for part, (name, _, first, last) in zip(text.split(), _FIELDS, strict=True)
    ]
    days, months = values[2], values[3]
    # With a day of the week given too, either of the two is enough, so some day always comes.
    if text.split()[4].startswith("*") and min(days) > max(_LONGEST_MONTH[month - 1] for month in months):
        msg = f"no month that it names has a day {min(days)}, so it would never come"
        raise ValueError(msg)


def check_time_zone(name: str) -> None:
    """Raise ValueError for a name that the IANA time zone database does not hold."""
    if name in {"UTC", "Etc/UTC"}:
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        msg = "the IANA time zone database has no such name; write for example Europe/Paris or Etc/UTC"
        raise ValueError(msg) from None


def _values(part: str, name: str, first: int, last: int) -> set[int]:
    found: set[int] = set()
    for item in part.split(","):
        span, _, step = item.partition("/")
        low, dash, high = span.partition("-")
        if low == "*":
            start, end = first, last
        else:
            start = _number(low)
            end = _number(high) if dash else last if step else start
        if start > end:
            msg = f"its {name} has the range {span}, which runs backwards"
            raise ValueError(msg)
        found.update(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str) -> int:
    if re.fullmatch("[0-9]+", text):
        return int(text)
    name = text.lower()
    return _MONTHS.index(name) + 1 if name in _MONTHS else _WEEKDAYS.index(name)
