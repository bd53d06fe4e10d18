"""When each key is due."""

import pytest

from pywharf_operator.process.work_queue import Agenda, Timing
from pywharf_operator.spec import ObjectKey

A, B = ObjectKey("ns", "a"), ObjectKey("ns", "b")
TIMING = Timing()


def agenda() -> Agenda:
    return Agenda(TIMING, chance=lambda: 1.0)


def test_events_are_coalesced_for_a_moment():
    queue = agenda()
    queue.add(A, 0.0)
    assert queue.take(0.05) is None
    assert queue.take(0.1) == A
    assert queue.take(10.0) is None


def test_a_stream_of_events_puts_a_key_off_for_a_bounded_time():
    queue = agenda()
    now = 0.0
    while queue.take(now) is None:
        queue.add(A, now)
        now += 0.05
    assert now == pytest.approx(TIMING.longest_delay_s, abs=0.051)


def test_a_key_is_never_taken_twice_concurrently_and_reruns_for_later_events():
    queue = agenda()
    queue.add(A, 0.0)
    assert queue.take(1.0) == A
    assert not queue.has_news(A)
    queue.add(A, 1.1)
    assert queue.has_news(A)
    assert queue.take(5.0) is None
    assert queue.next_due() is None
    queue.done(A, 5.0, failed=False)
    assert queue.take(5.0) == A
    queue.done(A, 6.0, failed=False)
    assert queue.take(1000.0) is None
    assert queue.keys() == set()


def test_the_one_that_waits_longest_goes_first():
    queue = agenda()
    queue.add(B, 0.0)
    queue.add(A, 0.01)
    assert [queue.take(1.0), queue.take(1.0)] == [B, A]


def test_failures_put_a_key_off_longer_and_longer_and_success_ends_it():
    queue = agenda()
    queue.add(A, 0.0)
    now, waits = 1.0, []
    for _ in range(10):
        assert queue.take(now) == A
        queue.done(A, now, failed=True)
        due = queue.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert queue.take(now) == A
    queue.done(A, now, failed=False)
    queue.add(A, now)
    assert queue.take(now + 0.1) == A
    queue.done(A, now + 0.1, failed=True)
    assert queue.next_due() == pytest.approx(now + 0.6)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_backoff_is_jittered_downwards(chance):
    queue = Agenda(TIMING, chance=lambda: chance)
    queue.add(A, 0.0)
    queue.take(1.0)
    queue.done(A, 1.0, failed=True)
    assert queue.next_due() == pytest.approx(1.0 + 0.25 + chance / 4)


def test_an_event_shortens_a_long_backoff_but_makes_no_loop():
    queue = agenda()
    queue.add(A, 0.0)
    now = 1.0
    for _ in range(8):
        assert queue.take(now) == A
        queue.add(A, now)  # the reconcile's own write
        queue.done(A, now, failed=True)
        due = queue.next_due()
        assert due is not None
        assert due - now >= 0.5
        now = due
    queue.take(now)
    queue.done(A, now, failed=True)
    queue.add(A, now + 10)
    assert queue.next_due() == now + 10.1


def test_a_later_run_is_moved_only_by_an_earlier_one():
    queue = agenda()
    queue.add(A, 0.0)
    queue.take(1.0)
    queue.done(A, 1.0, failed=False, next_s=30.0)
    assert len(queue) == 0
    assert queue.next_due() == 31.0
    queue.add_after(A, 60.0, 1.0)
    assert queue.next_due() == 31.0
    queue.add_after(A, 5.0, 1.0)
    assert queue.next_due() == 6.0
    assert queue.take(6.0) == A
    queue.done(A, 6.0, failed=False)
    assert queue.next_due() is None


def test_what_is_stuck():
    queue = agenda()
    queue.add(A, 0.0)
    queue.take(1.0)
    queue.add(B, 200.0)
    assert queue.stalled(300.0) == []
    assert queue.stalled(302.0) == ["ns/a is worked on for 301 s."]
    assert queue.stalled(321.0) == ["ns/a is worked on for 320 s.", "ns/b waits for 121 s."]
    queue.add(A, 310.0)  # waits only because it is being processed
    assert len(queue.stalled(1000.0)) == 2
    assert len(queue) == 2
