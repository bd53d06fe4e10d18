"""Check the wait before a retry: it doubles, has a limit, and is shortened at random by no more than its jitter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.backoff import backoff_s


@pytest.mark.parametrize(
    ("first_s", "longest_s", "waits"),
    [
        (0.5, 30.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (2.0, 300.0, [2, 4, 8, 16, 32, 64, 128, 256, 300]),
        (0.5, 0.5, [0.5, 0.5]),
        (5.0, 1.0, [1, 1]),
    ],
)
def test_the_wait_doubles_up_to_its_limit(first_s, longest_s, waits):
    assert [backoff_s(n, first_s=first_s, longest_s=longest_s) for n in range(len(waits))] == waits


@pytest.mark.parametrize(
    ("jitter", "chance", "wait"),
    [(0.0, 0.0, 4.0), (0.25, 0.0, 3.0), (0.25, 1.0, 4.0), (0.5, 0.0, 2.0), (0.5, 0.5, 3.0), (1.0, 0.0, 0.0)],
)
def test_jitter_shortens_the_wait(jitter, chance, wait):
    assert backoff_s(3, first_s=0.5, longest_s=10, jitter=jitter, chance=lambda: chance) == wait
    assert backoff_s(99, first_s=0.5, longest_s=4, jitter=jitter, chance=lambda: chance) == wait


@given(st.integers(0, 10**9), st.floats(0.001, 60), st.floats(0.001, 3600), st.floats(0, 1))
def test_no_number_of_failures_leaves_the_bounds(attempt, first_s, longest_s, jitter):
    wait = backoff_s(attempt, first_s=first_s, longest_s=longest_s, jitter=jitter)
    assert min(first_s, longest_s) * (1 - jitter) * 0.999 <= wait <= longest_s
