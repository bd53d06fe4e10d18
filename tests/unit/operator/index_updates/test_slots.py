"""The order of updates: namespaces share the slots; within a namespace the repo that has waited longest is next."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf_operator.index_updates.slots import (
    MAX_CONCURRENT,
    RESERVED_SLOTS,
    Waiting,
    granted,
    waits_for_job,
    waits_for_slot,
)
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.spec import ObjectKey
from pywharf_operator.status.conditions import events_of


def waiting(namespace, name, *, updated=float("-inf"), created=0.0):
    return Waiting(updated, created, ObjectKey(namespace, name))


def many(namespace, count, **fields):
    return [waiting(namespace, f"r{number:04}", **fields) for number in range(count)]


def by_namespace(keys):
    return dict(Counter(key.namespace for key in keys))


@pytest.mark.parametrize(
    ("wait", "running", "expected"),
    [
        ([], {}, {}),
        (many("a", 100), {}, {"a": MAX_CONCURRENT}),
        (many("a", 100) + many("b", 3), {}, {"a": MAX_CONCURRENT - 3, "b": 3}),
        (many("a", 100) + many("b", 100), {}, {"a": MAX_CONCURRENT // 2, "b": MAX_CONCURRENT // 2}),
        (many("a", 100) + many("b", 100), {"a": 15}, {"b": 5}),
        (many("a", 100), {"a": MAX_CONCURRENT}, {}),
        (many("a", 100) + many("b", 9), {"a": MAX_CONCURRENT}, {"b": 1}),  # a slot for namespaces without a Job
        (many("b", 9), {"a": MAX_CONCURRENT, "b": 1}, {}),
        (many("b", 9), {"a": MAX_CONCURRENT + RESERVED_SLOTS}, {}),
        ([one for n in range(60) for one in many(f"n{n}", 2)], {"a": MAX_CONCURRENT}, {"b": RESERVED_SLOTS}),
    ],
)
def test_slots(wait, running, expected):
    random.Random(1).shuffle(wait)
    found = granted(wait, running)
    assert sum(by_namespace(found).values()) == sum(expected.values())
    if "b" not in expected or "b" in by_namespace(found):
        assert by_namespace(found) == expected


def test_within_a_namespace_the_longest_wait_counts():
    wait = [
        waiting("a", "updated-late", updated=20.0),
        waiting("a", "updated", updated=10.0, created=5.0),
        waiting("a", "young", created=9.0),
        waiting("a", "old", created=1.0),
    ]
    order = []
    while wait:
        (key,) = granted(wait, {"x": MAX_CONCURRENT - 1})
        order.append(key.name)
        wait = [one for one in wait if one.repo != key]
    assert order == ["old", "young", "updated", "updated-late"]


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 50)), unique=True),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 25)),
)
def test_nobody_waits_for_another_s_updates(rows, running):
    wait = [waiting(namespace, f"r{number}", created=float(number)) for namespace, number in rows]
    found = granted(wait, running)
    counts = Counter(running)
    counts.update(by_namespace(found))
    assert not found or counts.total() <= max(MAX_CONCURRENT + RESERVED_SLOTS, sum(running.values()))
    assert granted(wait[::-1], running) == found
    left = {one.repo.namespace for one in wait if one.repo not in found}
    if sum(running.values()) < MAX_CONCURRENT + RESERVED_SLOTS - 5:
        assert all(counts[namespace] for namespace in left), "each namespace has at least one"
    for namespace in left:
        # A namespace that got a slot had no more Jobs than any namespace that still waits.
        assert all(counts[key.namespace] - 1 <= counts[namespace] for key in found)
        assert counts.total() >= MAX_CONCURRENT


def test_the_condition_names_what_is_waited_for_and_seldom_changes():
    wait = many("a", 1500)
    found = waits_for_slot(wait, granted(wait, {}))
    assert len(found) == 1500 - MAX_CONCURRENT
    assert {one.reason for one in found.values()} == {"WaitingForSlot"} <= set(REASONS["PackageRepo IndexUpToDate"])
    assert found[ObjectKey("a", "r0020")].message == (
        "An update waits for a free slot: 20 run at once on the server, shared between namespaces; it is the next one "
        "of its namespace."
    )
    assert "fewer than 10 repos of its namespace are before it" in found[ObjectKey("a", "r0025")].message
    assert "fewer than 1000 repos" in found[ObjectKey("a", "r0200")].message
    assert "more than 1000 repos" in found[ObjectKey("a", "r1499")].message
    later = waits_for_slot(wait[20:], granted(wait[20:], {}))
    changed = [key for key, one in later.items() if found[key] != one]
    assert len(changed) < 100


def test_waiting_is_no_event():
    for finding in (waits_for_job("a"), waits_for_slot(many("a", 30), frozenset())[ObjectKey("a", "r0000")]):
        condition = {"type": "IndexUpToDate", "status": "Unknown", "reason": finding.reason, "message": finding.message}
        assert events_of(None, {"conditions": [condition]}) == ()
