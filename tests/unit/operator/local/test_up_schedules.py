"""Index updates of `up`: they run on schedule, one at a time for each repo, and a failed one is retried."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.names import RepoName
from pywharf.index.update import Summary
from pywharf_operator.local.up import schedules
from pywharf_operator.local.up.schedules import Job, Schedules
from pywharf_operator.spec.cron import next_time

START = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


class Clock:
    """A clock that starts at START and runs six hundred times as fast as the event loop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    def __call__(self) -> datetime:
        return START + timedelta(seconds=600 * (self._loop.time() - self._began))


class Runs:
    """A double of `run_update` that records its calls and whether two runs of one repo overlapped."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.overlapped = False
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.secrets: set[str | None] = set()
        self._running: set[str] = set()

    async def __call__(self, target):
        name, secret = target.name, target.secret
        self.overlapped |= name in self._running
        self._running.add(name)
        self.names.append(name)
        self.secrets.add(secret)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self._running.discard(name)
        if self.error is not None:
            raise self.error
        return Summary(projects=1, files=2, bytes=3, changed=True, problems=("a.whl is no wheel.",))


@pytest.fixture
def runs(monkeypatch):
    made = Runs()
    monkeypatch.setattr(schedules, "run_update", made)
    monkeypatch.setattr(schedules, "_LONGEST_SLEEP_S", 0.02)
    return made


def job(name="a", schedule="* * * * *", **fields):
    given: dict[str, Any] = {"time_zone": "Etc/UTC", "suspend": False, "secret": None} | fields
    return Job(name=RepoName(name), spec=FileSystemSpec(), schedule=schedule, **given)


@contextlib.asynccontextmanager
async def running(tmp_path, *jobs):
    async with Schedules(tmp_path, Clock()) as made:
        await made.update({one.name: one for one in jobs})
        yield made


async def until(condition, timeout_s=5.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of several kinds
            await asyncio.sleep(0.005)


async def test_immediately_and_then_at_the_scheduled_time(tmp_path, runs):
    async with running(tmp_path, job(), job("b", "0 0 1 1 *", secret="hunter2hunter2")):
        await until(lambda: runs.names.count("a") >= 3)
        assert runs.names.count("b") == 1
        assert "hunter2hunter2" in runs.secrets


async def test_one_run_at_a_time(tmp_path, runs):
    runs.takes_s = 0.3  # three minutes on the clock
    async with running(tmp_path, job()) as made:
        await until(lambda: len(runs.names) >= 1)
        await made.update({RepoName("a"): job(schedule="*/2 * * * *")})
        await until(lambda: len(runs.names) >= 3)
    assert not runs.overlapped


async def test_suspended(tmp_path, runs):
    async with running(tmp_path, job(suspend=True)) as made:
        await asyncio.sleep(0.3)
        assert runs.names == []
        await made.update({RepoName("a"): job()})
        await until(lambda: runs.names)


async def test_a_changed_schedule_counts_immediately(tmp_path, runs):
    async with running(tmp_path, job(schedule="0 0 1 1 *")) as made:
        await until(lambda: runs.names == ["a"])
        await made.update({RepoName("a"): job()})
        await until(lambda: len(runs.names) >= 2)


async def test_a_repo_that_is_gone_is_not_run(tmp_path, runs):
    async with running(tmp_path, job()) as made:
        await until(lambda: runs.names)
        await made.update({})
        count = len(runs.names)
        await asyncio.sleep(0.3)
        assert len(runs.names) == count


async def test_the_end_does_not_wait_for_a_run(tmp_path, runs):
    runs.takes_s = 3600
    async with asyncio.timeout(5), running(tmp_path, job()):
        await until(lambda: runs.names)


async def test_a_failure_is_reported_and_retried(tmp_path, runs, caplog):
    caplog.set_level(logging.INFO)
    runs.error = BackendUnavailableError("The volume is away.")
    async with running(tmp_path, job()):
        await until(lambda: len(runs.names) >= 2)
        runs.error = RuntimeError("a mistake")
        await until(lambda: any(record.exc_info for record in caplog.records))
        runs.error = None
        await until(lambda: "Index of a: updated; 1 projects, 2 files, 3 bytes, 1 problems." in caplog.text)
    assert "Index of a: not updated: The volume is away. It is tried again at its next time." in caplog.text
    assert "Index of a: a.whl is no wheel." in caplog.text


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "expected"),
    [
        ("30 3 * * *", "Europe/Paris", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 2, 30, tzinfo=UTC)),
        ("30 3 * * *", "Europe/Paris", datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 1, 1, 30, tzinfo=UTC)),
        ("0 * * * *", "Etc/UTC", datetime(2026, 1, 1, 5, 0, 0, 1, tzinfo=UTC), datetime(2026, 1, 1, 6, tzinfo=UTC)),
        ("0 * * * *", "Etc/UTC", datetime(2026, 1, 1, 5, tzinfo=UTC), datetime(2026, 1, 1, 6, tzinfo=UTC)),
        ("0 9 * * MON", "Asia/Tokyo", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)),
    ],
    ids=["winter", "summer", "after the minute", "on the minute", "day of the week"],
)
def test_next_time(schedule, zone, now, expected):
    assert next_time(schedule, zone, now) == expected


def test_no_repr_of_the_secret():
    assert "hunter2" not in repr(job(secret="hunter2hunter2"))
