"""Accepted schedules are exactly those that Kubernetes and `up` interpret the same way."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf_operator.spec.cron import next_time
from pywharf_operator.spec.forms import SCHEDULE, TIME_ZONE
from pywharf_operator.spec.schedule import check_time_zone

NAMES = st.sampled_from(
    ["MON", "fri", "Sun", "jan", "DEC", "*", "7", "0", "60", "59", "24", "23", "32", "31", "13", "12"]
)
ITEMS = st.one_of(
    NAMES,
    st.tuples(NAMES, NAMES).map("-".join),
    st.tuples(NAMES, st.sampled_from(["1", "5", "0", "99", "100"])).map("/".join),
)
FIELDS = st.lists(ITEMS, min_size=1, max_size=2).map(",".join)


def accepted(text):
    try:
        SCHEDULE.verify("schedule", text)
    except ValueError:
        return False
    return True


@given(st.lists(FIELDS, min_size=5, max_size=5).map(" ".join))
def test_what_is_taken_has_a_next_time(text):
    if accepted(text):
        assert next_time(text, "Etc/UTC", datetime(2026, 1, 1, tzinfo=UTC)) > datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("17 * * * *", True),
        ("*/5 0-6/2 1,15 1-3 MON-FRI", True),
        ("0  3 * * *", True),
        ("5/10 * * * *", True),
        ("0 0 31 4,5 *", True),
        ("0 0 31 4 *", False),
        ("0 0 29 2 *", True),
        ("0 0 31 4 */2", True),  # a step restricts the field, so any Tuesday suffices
        ("0 0 31 4 */1", False),
        ("0 0 31 4 1,*", False),
        ("60 * * * *", False),
        ("* 24 * * *", False),
        ("* * 0 * *", False),
        ("* * * 13 *", False),
        ("* * * * 7", False),
        ("* * * * SUN", True),
        ("* * * * FRI-MON", False),
        ("* * * *", False),
        ("* * * * * *", False),
        ("? * * * *", False),
        ("* * L * *", False),
        ("* * * * MON#1", False),
        ("*/0 * * * *", False),
        ("H/30 * * * *", False),
        ("CRON_TZ=UTC 0 * * * *", False),
        ("@daily", False),
        (" 0 * * * *", False),
        ("0 * * * *\n", False),
        ("", False),
    ],
)
def test_table(text, taken):
    assert accepted(text) == taken


@pytest.mark.parametrize("name", ["Etc/UTC", "UTC", "Europe/Paris", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_time_zones(name):
    TIME_ZONE.verify("timeZone", name)


@pytest.mark.parametrize(
    "name", ["", "Local", "/etc/localtime", "Europe", "Europe/Nowhere", "Europe/Paris ", "posixrules/x"]
)
def test_no_time_zones(name):
    with pytest.raises(ValueError, match=r"timeZone is .*: (it must be|the IANA)"):
        TIME_ZONE.verify("timeZone", name)


def test_the_usual_zone_needs_no_database(monkeypatch):
    monkeypatch.setattr("zoneinfo.ZoneInfo", lambda name: pytest.fail(f"asked for {name}"))
    check_time_zone("Etc/UTC")
