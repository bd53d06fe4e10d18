"""The times of schedules, equal to those of robfig/cron, which Kubernetes' CronJob controller uses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywharf_operator.spec.cron import DAY_S, next_time, parsed, shortest_interval_s
from pywharf_operator.spec.forms import SCHEDULE
from support.examples import examples

GOLDEN = Path(__file__).parents[3] / "golden" / "cron" / "times.tsv"
ROWS = [tuple(line.split("\t")) for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
"""Their clock changes lie in the past, so a newer time zone database has the same."""


def times(schedule, zone, after, count):
    found = []
    for _ in range(count):
        after = next_time(schedule, zone, after)
        found.append(after)
    return found


def test_as_kubernetes_computes_them():
    wrong = []
    for zone, schedule, after, expected in ROWS:
        wanted = [datetime.fromisoformat(one) for one in expected.split()]
        found = times(schedule, zone, datetime.fromisoformat(after), len(wanted))
        if found != wanted:
            wrong.append((zone, schedule, after, found))
    assert not wrong
    assert len(ROWS) > 200


@pytest.mark.parametrize(
    ("schedule", "days"),
    [
        ("0 0 */2 * 1", ["01-03", "01-04", "01-05", "01-07"]),  # a step restricts the field: either field suffices
        ("0 0 1-31/2 * 1", ["01-03", "01-04", "01-05", "01-07"]),
        ("0 0 * * 1", ["01-04", "01-11", "01-18", "01-25"]),
        ("0 0 */1 * 1", ["01-04", "01-11", "01-18", "01-25"]),  # a step that skips nothing does not
        ("0 0 *,15 * 1", ["01-04", "01-11", "01-18", "01-25"]),
    ],
)
def test_both_kinds_of_day(schedule, days):
    found = times(schedule, "Etc/UTC", datetime(2027, 1, 1, 1, tzinfo=UTC), 4)
    assert [one.strftime("%m-%d") for one in found] == days


def test_a_leap_day_is_waited_for():
    assert next_time("0 0 29 2 *", "Etc/UTC", datetime(2096, 3, 1, tzinfo=UTC)) == datetime(2104, 2, 29, tzinfo=UTC)


def test_a_day_that_a_zone_left_out_ends():
    """Samoa skipped 30 December 2011. robfig/cron 3.0.1 never returns in this case."""
    found = next_time("9 4 31 * *", "Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC))
    assert found.astimezone(UTC) < datetime(2012, 2, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("*/15 * * * MON-FRI", 900),
        ("17 * * * *", 3600),
        ("0,3 * * * *", 180),
        ("0,58 * * * *", 120),
        ("0,58 3 * * *", 58 * 60),
        ("0,58 */2 * * *", 58 * 60),
        ("1,59 3,5 * * *", 58 * 60),
        ("5,50 3,4 * * *", 15 * 60),
        ("0,59 0,23 * * *", 60),
        ("0,59 0,23 1 * *", 59 * 60),
        ("0,59 0,23 */2 * *", 60),  # the 31st and the 1st
        ("0,59 0,23 */2 2,4 *", 59 * 60),
        ("0,59 0,23 1,28 2,3 *", 60),
        ("0,59 0,23 29 2 *", 59 * 60),
        ("0,59 0,23 * * 1,3", 59 * 60),
        ("0,59 0,23 * * 0,6", 60),
        ("0,59 0,23 10 * 3", 60),
        ("30 3 * * *", DAY_S),
        ("30 3 1 1 *", DAY_S),
        ("0 1,23 * * *", 2 * 3600),
    ],
)
def test_the_shortest_interval(schedule, seconds):
    assert shortest_interval_s(schedule) == seconds


NUMBERS = st.tuples(*(st.integers(*bounds) for bounds in [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]))
LISTS = st.lists(NUMBERS, min_size=1, max_size=3).map(
    lambda rows: [",".join(map(str, field)) for field in zip(*rows, strict=True)]
)


def is_taken(schedule):
    try:
        SCHEDULE.verify("schedule", schedule)
    except ValueError:
        return False
    return True


@settings(max_examples=examples(20), deadline=None)
@given(LISTS, st.sets(st.sampled_from([1, 2, 3, 4])))
def test_the_shortest_interval_is_met_and_never_undercut(fields, opened):
    schedule = " ".join("*" if number in opened else field for number, field in enumerate(fields))
    if not is_taken(schedule):
        return
    one = parsed(schedule)
    # 28 years contain every date on every day of the week. Only days on which something runs are visited.
    start, gaps, before = datetime(2001, 1, 1, tzinfo=UTC), [DAY_S], None
    for day in (start + timedelta(days=number) for number in range(28 * 366)):
        if one.matches(day.month, day.day, day.isoweekday() % 7):
            for hour in sorted(one.hours):
                for minute in sorted(one.minutes):
                    moment = day + timedelta(hours=hour, minutes=minute)
                    if before is not None:
                        gaps.append(int((moment - before).total_seconds()))
                    before = moment
    assert shortest_interval_s(schedule) == min(gaps)
