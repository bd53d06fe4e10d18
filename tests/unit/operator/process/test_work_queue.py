"""The work queue, which processes several keys concurrently."""

import asyncio
import contextlib
import logging

import pytest

from pywharf_operator.process.work_queue import Timing, WorkQueue
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.faults import error_location
from support.waiting import until

KEYS = [ObjectKey("ns", name) for name in "abcdef"]
A, B = KEYS[:2]
QUICK = Timing(delay_s=0.01, longest_delay_s=0.05, first_backoff_s=0.01, longest_backoff_s=0.04, resync_retry_s=0.02)
LONG_S = 20.0


@contextlib.asynccontextmanager
async def running(queue: WorkQueue):
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await queue.stop(0.0)


async def test_keys_are_worked_on_together_but_never_one_twice():
    active: set[ObjectKey] = set()
    most, done = 0, []

    async def work(key, _superseded):
        nonlocal most
        assert key not in active
        active.add(key)
        most = max(most, len(active))
        await asyncio.sleep(0.02)
        active.remove(key)
        done.append(key)

    queue = WorkQueue(work, workers=3, timing=QUICK)
    async with running(queue):
        for _ in range(5):
            for key in KEYS:
                queue.add(key)
            await asyncio.sleep(0.01)
        await until(lambda: set(done) == set(KEYS) and not active and not queue.depth)
    assert most == 3
    assert len(done) < 5 * len(KEYS)


async def test_work_can_ask_whether_it_is_superseded():
    answers = []
    listed = asyncio.Event()
    queue: WorkQueue

    async def listing():
        listed.set()
        return ()

    async def work(key, superseded):
        answers.append(superseded())
        if len(answers) == 1:
            queue.add(key)
            answers.append(superseded())

    queue = WorkQueue(work, listing=listing, timing=QUICK)
    async with running(queue):
        await listed.wait()  # the first resync, which queues every known key
        queue.add(A)
        await until(lambda: len(answers) == 3)
    assert answers == [False, True, False]


async def test_a_failure_is_logged_once_per_message_and_retried(caplog):
    caplog.set_level(logging.INFO)
    results, tries = [], 0

    async def work(_key, _superseded):
        nonlocal tries
        tries += 1
        if tries < 6:
            raise RuntimeError("first" if tries < 4 else "second")

    queue = WorkQueue(work, finished=lambda _key, result, _seconds: results.append(result), describe=str, timing=QUICK)
    async with running(queue):
        queue.add(A)
        await until(lambda: "success" in results)
    assert results == ["error"] * 5 + ["success"]
    assert [record.getMessage() for record in caplog.records] == [
        "ns/a: failed and is tried again: first",
        "ns/a: failed and is tried again: second",
        "ns/a: works again.",
    ]


async def test_an_error_is_named_without_its_text(caplog):
    async def work(_key, _superseded):
        raise ValueError("hunter2")

    queue = WorkQueue(work, timing=QUICK)
    caplog.set_level(logging.DEBUG)
    async with running(queue):
        queue.add(A)
        await until(lambda: "failed" in caplog.text)
    assert "ValueError at test_work_queue.py:" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_error_that_was_never_raised_has_a_name():
    assert error_location(KeyError("x")) == "KeyError"


async def test_it_runs_again_after_the_returned_delay():
    done = []

    async def work(key, _superseded):
        done.append(key)
        return 0.01 if len(done) < 3 else None

    queue = WorkQueue(work, timing=QUICK)
    async with running(queue):
        queue.add(A)
        await until(lambda: len(done) == 3)
        queue.add_after(A, 0.01)
        await until(lambda: len(done) == 4)


async def test_a_resync_adds_the_listed_keys_and_the_gone_ones_once_more():
    done: list[ObjectKey] = []
    listed = {A, B}

    async def work(key, _superseded):
        done.append(key)

    async def listing():
        return set(listed)

    queue = WorkQueue(work, listing=listing, timing=QUICK)
    async with running(queue):
        await until(lambda: sorted(done) == [A, B])
        listed.remove(A)
        queue.resync()
        await until(lambda: sorted(done) == [A, A, B, B])
        queue.resync()
        await until(lambda: len(done) == 5)
    assert done[-1] == B


async def test_a_resync_comes_by_itself_and_a_failed_listing_loses_nothing(caplog):
    listings, done = 0, []

    async def work(key, _superseded):
        done.append(key)

    async def listing():
        nonlocal listings
        listings += 1
        if 2 <= listings <= 4:
            raise RuntimeError("no answer")
        return {A}

    timing = Timing(delay_s=0.01, resync_s=(0.01, 0.02), resync_retry_s=0.01)
    queue = WorkQueue(work, listing=listing, describe=str, timing=timing)
    caplog.set_level(logging.INFO)
    async with running(queue):
        await until(lambda: listings > 6 and len(done) > 3)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "The objects cannot be listed, which is tried again: no answer",
        "The objects can be listed again.",
    ]


@pytest.mark.parametrize(("grace_s", "finished"), [(LONG_S, True), (0.01, False)])
async def test_stopping_lets_running_work_finish_for_a_while(caplog, grace_s, finished):
    began, done = asyncio.Event(), False

    async def work(_key, _superseded):
        nonlocal done
        began.set()
        await asyncio.sleep(0.1 if finished else 60)
        done = True

    queue = WorkQueue(work, timing=QUICK)
    task = asyncio.create_task(queue.run())
    queue.add(A)
    await began.wait()
    queue.add(B)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await queue.stop(grace_s)
    assert done is finished
    assert ("cut off" in caplog.text) is not finished


async def test_stalled_work_is_reported_once_it_was_started():
    now = 0.0
    began = asyncio.Event()

    async def work(_key, _superseded):
        began.set()
        await asyncio.Event().wait()

    queue = WorkQueue(work, workers=1, timing=Timing(delay_s=0.0), clock=lambda: now)
    queue.add(A)
    now = 1000.0
    assert queue.stalled() == []
    async with running(queue):
        await began.wait()
        assert queue.stalled() == []
        now = 2000.0
        assert queue.stalled() == ["ns/a is worked on for 1000 s."]
