"""Check that concurrent callers share one task: what each gets, what a cancelled one does, and what is forgotten."""

import asyncio
import gc

import pytest

from pywharf.index.single_flight import SingleFlight


class Work:
    """Work that waits for a signal, counts how often it begins, and returns its number or raises an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.begun = self.ended = 0
        self.task: asyncio.Task[object] | None = None
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.task = asyncio.current_task()
        self.began.set()
        await self.go_on.wait()
        self.ended += 1
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
def flight() -> SingleFlight[str, int]:
    return SingleFlight()


def callers(flight, work, count=5, **kwargs):
    return [asyncio.create_task(flight.run("key", work, **kwargs)) for _ in range(count)]


async def test_concurrent_callers_share_one_task(flight):
    work = Work()
    asking = callers(flight, work)
    await work.began.wait()
    asking += callers(flight, work)
    work.go_on.set()
    assert await asyncio.gather(*asking) == [1] * 10


async def test_other_keys_have_tasks_of_their_own(flight):
    work = Work()
    work.go_on.set()
    assert sorted(await asyncio.gather(*(flight.run(key, work) for key in "abc"))) == [1, 2, 3]


async def test_a_result_is_not_cached(flight):
    work = Work()
    work.go_on.set()
    assert [await flight.run("key", work) for _ in range(3)] == [1, 2, 3]


async def test_an_exception_reaches_every_caller_and_is_not_cached(flight):
    work = Work(ValueError("broken"))
    work.go_on.set()
    results = await asyncio.gather(*callers(flight, work), return_exceptions=True)
    assert results == [work.error] * 5
    work.error = None
    assert await flight.run("key", work) == 2


async def test_a_cancelled_caller_ends_nothing_for_the_others(flight):
    work = Work()
    asking = callers(flight, work)
    await work.began.wait()
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    work.go_on.set()
    assert await asyncio.gather(*asking[1:]) == [1] * 4
    assert asking[0].cancelled()


@pytest.mark.parametrize("error", [None, ValueError("broken")])
async def test_the_work_goes_on_without_callers_and_nothing_is_reported(flight, error):
    work, reported = Work(error), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    asking = callers(flight, work)
    await work.began.wait()
    for one in asking:
        one.cancel()
    await asyncio.wait(asking)
    joined = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0)
    joined.cancel()
    work.go_on.set()
    await asyncio.sleep(0.01)
    gc.collect()
    assert (work.begun, work.ended, reported) == (1, 1, [])


async def test_a_task_from_another_source_is_replaced_and_still_answers_its_callers(flight):
    old, new = Work(), Work(ValueError("new"))
    asking_old = callers(flight, old, source=[1])
    await old.began.wait()
    asking_new = callers(flight, new, source=[2])
    await new.began.wait()
    old.go_on.set()
    assert await asyncio.gather(*asking_old) == [1] * 5
    asking_new += callers(flight, new, source=[2])  # the old task's end has not removed the new one
    new.go_on.set()
    assert await asyncio.gather(*asking_new, return_exceptions=True) == [new.error] * 10
    assert (old.begun, new.begun) == (1, 1)


async def test_a_start_that_fails_leaves_nothing_behind(flight):
    work = Work()

    def refuse():
        raise ValueError("refused")

    for _ in range(2):
        with pytest.raises(ValueError, match="refused"):
            await flight.run("key", refuse)
    work.go_on.set()
    assert await flight.run("key", work) == 1


async def test_a_cancelled_task_cancels_its_callers_and_is_forgotten(flight):
    work = Work()
    asking = callers(flight, work)
    await work.began.wait()
    assert work.task is not None
    work.task.cancel()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError] * 5
    work.go_on.set()
    assert await flight.run("key", work) == 2
