"""The times of a schedule, as Kubernetes computes them.

The CronJob controller asks robfig/cron v3 for the next time, so `next_time` follows its steps exactly: also on the days
of a clock change, and where midnight does not exist. tests/golden/cron/times.tsv holds what robfig/cron
itself answers. cronsim, which follows Debian's cron, differs in both kinds of day field and in clock changes.
"""

import calendar
import datetime as dt
import functools
import itertools
import math
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from pywharf_operator.spec.schedule import Schedule, parse_schedule

DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_MINUTE_S: Final = 60
_LONGEST_WAIT_YEARS: Final = 8
"""29 February is missing in 1900, 2100 …; robfig/cron gives up after five years, in which one may not come."""
_NOON: Final = 12
_YEARS: Final = (2024, 2025)
"""A leap year and another: every two days that can follow each other."""


class NoTimeError(Exception):
    """A schedule that never comes."""


def next_time(schedule: str, time_zone: str, now: dt.datetime) -> dt.datetime:
    """Return the first time after `now`, which carries a zone, in UTC. Raises NoTimeError."""
    clock = _Clock(parsed(schedule), ZoneInfo(time_zone), math.floor(now.timestamp()) + 1)
    return dt.datetime.fromtimestamp(clock.next(), dt.UTC)


@functools.lru_cache(maxsize=4096)
def parsed(schedule: str) -> Schedule:
    """Parse a schedule that was checked already."""
    return parse_schedule(schedule)


@functools.lru_cache(maxsize=4096)
def shortest_interval_s(schedule: str) -> int:
    """Return the fewest seconds between two runs by the clock on the wall; a day at the most."""
    one = parsed(schedule)
    minutes, hours = sorted(one.minutes), sorted(one.hours)
    within_s = (minutes[-1] - minutes[0]) * _MINUTE_S
    gaps = [DAY_S]
    gaps += [(later - earlier) * _MINUTE_S for earlier, later in itertools.pairwise(minutes)]
    gaps += [(later - earlier) * _HOUR_S - within_s for earlier, later in itertools.pairwise(hours)]
    if _has_neighbours(one):
        gaps.append(DAY_S - (hours[-1] - hours[0]) * _HOUR_S - within_s)
    return min(gaps)


def _has_neighbours(schedule: Schedule) -> bool:
    """Return whether it may run on two days in a row. Any date falls on any day of the week in some year."""
    days = [
        (month, day)
        for year in _YEARS
        for month in range(1, 13)
        for day in range(1, calendar.monthrange(year, month)[1] + 1)
    ]
    following = [*days[1:], days[0]]
    return any(
        schedule.matches(*today, weekday) and schedule.matches(*tomorrow, (weekday + 1) % 7)
        for today, tomorrow in zip(days, following, strict=True)
        for weekday in range(7)
    )


class _Clock(msgspec.Struct):
    """robfig/cron's `SpecSchedule.Next`: a moment that is moved on, field by field, until all fields match."""

    schedule: Schedule
    zone: ZoneInfo
    at: int
    """Unix seconds."""
    moved: bool = False
    """Whether a field was moved on, so that the smaller ones begin at zero."""

    def next(self) -> int:
        """Return the first moment from `at` on that matches. Raises NoTimeError."""
        last = self._local().year + _LONGEST_WAIT_YEARS
        while self._local().year <= last:
            if self._month() and self._day() and self._hour() and self._minute() and self._second():
                return self.at
        raise NoTimeError

    def _month(self) -> bool:
        while (local := self._local()).month not in self.schedule.months:
            if not self.moved:
                self.moved = True
                local = self._set(local.replace(day=1, hour=0, minute=0, second=0))
            year, month = divmod(local.year * 12 + local.month, 12)
            # The 31st of a month that has none is a day of the one after it.
            first = local.replace(year=year, month=month + 1, day=1)
            if self._set(first + dt.timedelta(days=local.day - 1)).month == 1:
                return False
        return True

    def _day(self) -> bool:
        while not self.schedule.matches((local := self._local()).month, local.day, local.isoweekday() % 7):
            if not self.moved:
                self.moved = True
                local = self._set(local.replace(hour=0, minute=0, second=0))
            before = self.at
            local = self._set(local + dt.timedelta(days=1))
            if self.at <= before:  # a day that a zone left out: robfig/cron never gets past it
                self.at = before + DAY_S
                local = self._local()
            if local.hour > _NOON:  # where midnight does not exist, it came out as an hour before or after
                self.at += (24 - local.hour) * _HOUR_S
            else:
                self.at -= local.hour * _HOUR_S
            if self._local().day == 1:
                return False
        return True

    def _hour(self) -> bool:
        while (local := self._local()).hour not in self.schedule.hours:
            if not self.moved:
                self.moved = True
                self._set(local.replace(minute=0, second=0))
            self.at += _HOUR_S
            if self._local().hour == 0:
                return False
        return True

    def _minute(self) -> bool:
        while self._local().minute not in self.schedule.minutes:
            if not self.moved:
                self.moved = True
                self.at -= self.at % _MINUTE_S
            self.at += _MINUTE_S
            if self._local().minute == 0:
                return False
        return True

    def _second(self) -> bool:
        second = self._local().second
        if second:
            self.moved = True
            self.at += _MINUTE_S - second
        return not second

    def _local(self) -> dt.datetime:
        """Return the moment by the clock on the wall, without its zone."""
        return dt.datetime.fromtimestamp(self.at, self.zone).replace(tzinfo=None, fold=0)

    def _set(self, local: dt.datetime) -> dt.datetime:
        """Move to a local time as Go's `time.Date` does, and return what the clock then shows."""
        as_utc = int(local.replace(tzinfo=dt.UTC).timestamp())
        offset_s = self._offset_s(as_utc)
        if offset_s:
            offset_s = self._offset_s(as_utc - offset_s)
        self.at = as_utc - offset_s
        return self._local()

    def _offset_s(self, at: int) -> int:
        offset = dt.datetime.fromtimestamp(at, self.zone).utcoffset()
        assert offset is not None  # noqa: S101 - a time zone always has an offset
        return int(offset.total_seconds())
