"""When an index is updated: what Kubernetes' CronJobs and `up` read the same way.

Five fields, as robfig/cron has them. Left out is what only some readers know: `@hourly`, `?`, `L`, `#`, seven for
Sunday, a time zone inside the text, and Jenkins' `H`.
"""

import re
import zoneinfo

import msgspec

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


class Schedule(msgspec.Struct, frozen=True):
    """When a schedule runs, in the local time of its zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    """Days of the month."""
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    both_days: bool
    """Whether a day must match `days` and `weekdays`; otherwise one of them is enough.

    As robfig/cron v3 has it, and so Kubernetes: both where one of the fields holds a plain `*`, which `*/2` is not.
    """

    def matches(self, month: int, day: int, weekday: int) -> bool:
        """Return whether the schedule runs on such a day."""
        if month not in self.months:
            return False
        if self.both_days:
            return day in self.days and weekday in self.weekdays
        return day in self.days or weekday in self.weekdays


def parse_schedule(text: str) -> Schedule:
    """Parse a text that matches SCHEDULE_PATTERN. Raises ValueError where a range runs backwards."""
    fields = text.split()
    minutes, hours, days, months, weekdays = (
        _values(part, name, first, last) for part, (name, _, first, last) in zip(fields, _FIELDS, strict=True)
    )
    return Schedule(minutes, hours, days, months, weekdays, both_days=_is_open(fields[2]) or _is_open(fields[4]))


def check_schedule(text: str) -> None:
    """Raise ValueError where a range runs backwards or no day is ever meant. `text` matches SCHEDULE_PATTERN."""
    schedule = parse_schedule(text)
    # With both fields restricted either of them is enough, so some day always comes.
    if schedule.both_days and min(schedule.days) > max(_LONGEST_MONTH[month - 1] for month in schedule.months):
        raise ValueError(f"no month that it names has a day {min(schedule.days)}, so it would never come")


def check_time_zone(name: str) -> None:
    """Raise ValueError for a name that the IANA time zone database does not hold."""
    if name in {"UTC", "Etc/UTC"}:
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "the IANA time zone database has no such name; write for example Europe/Paris or Etc/UTC"
        ) from None


def _is_open(field: str) -> bool:
    """Return whether the field holds a plain `*`. One with a step restricts it, unless the step is 1."""
    return any(item in {"*", "*/1"} for item in field.split(","))


def _values(part: str, name: str, first: int, last: int) -> frozenset[int]:
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
            raise ValueError(f"its {name} has the range {span}, which runs backwards")
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str) -> int:
    if re.fullmatch("[0-9]+", text):
        return int(text)
    name = text.lower()
    return _MONTHS.index(name) + 1 if name in _MONTHS else _WEEKDAYS.index(name)
