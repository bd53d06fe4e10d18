"""Check that a braked answer waits, and that the waiting ones are bounded."""

import asyncio

import pytest

from pywharf.serving.brake import Brake
from pywharf.serving.wrong_secrets import WrongSecrets


@pytest.fixture
def slept():
    """Return the waits, the event that ends them all, and what waits."""
    waiting: list[float] = []
    end = asyncio.Event()

    async def sleep(seconds):
        waiting.append(seconds)
        await end.wait()

    return waiting, end, sleep


async def test_only_answers_past_the_limit_wait(slept):
    waiting, end, sleep = slept
    braking = Brake(WrongSecrets(lambda: 1000.0), sleep)
    for _ in range(60):
        assert await braking.wrong("192.0.2.1", "demo") == 0
    assert waiting == []
    late = asyncio.create_task(braking.wrong("192.0.2.1", "demo"))
    assert await braking.wrong("192.0.2.2", "demo") == 0  # another address meanwhile
    end.set()
    assert (await late, waiting) == (1, [1.0])


async def test_an_address_holds_few_connections(slept):
    waiting, end, sleep = slept
    table = WrongSecrets(lambda: 1000.0)
    for number in range(12):
        for _ in range(61):
            table.note(f"192.0.2.{number}", "demo")
    braking = Brake(table, sleep)
    calls = [braking.wrong(f"192.0.2.{number}", "demo") for number in range(12) for _ in range(20)]
    tasks = [asyncio.create_task(call) for call in calls]
    done, _ = await asyncio.wait(tasks[:20], return_when=asyncio.FIRST_COMPLETED)
    assert done
    assert len(waiting) == 64
    end.set()
    assert all(await asyncio.gather(*tasks))
    # Their slots are free again.
    assert await braking.wrong("192.0.2.1", "demo") > 0
    assert len(waiting) == 65
