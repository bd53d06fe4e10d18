"""When a call is repeated, and how long a rate limit holds it up."""

import asyncio
import time

import pytest

from pywharf.core.errors import NotFoundError, RateLimitedError, UnavailableError, UpstreamTimeoutError
from pywharf.index.copying.retrying import Retrying


def failing(*errors: Exception):
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.mark.parametrize("errors", [[], [UnavailableError("away")] * 3, [UpstreamTimeoutError("slow")]])
async def test_what_may_succeed_later_is_repeated(errors):
    assert await Retrying(first_s=0.001).run(failing(*errors)) == "done"


@pytest.mark.parametrize("errors", [[NotFoundError("gone")], [UnavailableError("away")] * 4])
async def test_the_last_error_is_raised(errors):
    with pytest.raises(type(errors[0])):
        await Retrying(first_s=0.001).run(failing(*errors))


async def test_a_rate_limit_holds_up_all_calls_and_is_no_failure(monkeypatch):
    slept: list[float] = []
    now = time.monotonic()

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    calls = Retrying(first_s=0.001)
    assert await calls.run(failing(*[RateLimitedError("slow down", 60)] * 10)) == "done"
    assert [round(s) for s in slept if s > 1] == [60] * 10
    with pytest.raises(RateLimitedError):
        await calls.run(failing(*[RateLimitedError("slow down", 3600)] * 10))


async def test_a_call_waits_while_another_is_limited(monkeypatch):
    calls = Retrying()
    monkeypatch.setattr(calls, "_resume_at", time.monotonic() + 0.05)
    began = time.monotonic()
    assert await calls.run(failing()) == "done"
    assert time.monotonic() - began >= 0.04
