"""The scheduled updates of each repo's index, in this process."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec

from pywharf.cli.repo_target import RepoTarget
from pywharf.cli.update_index import run_update
from pywharf.config.repo_config import BackendSpec
from pywharf.core.errors import PywharfError
from pywharf.core.names import RepoName
from pywharf.core.secret_text import secret_text
from pywharf.egress.policy import Egress
from pywharf_operator.render import RepoVerdict, schedule_of
from pywharf_operator.spec.cron import next_time

_logger = logging.getLogger(__name__)
_LONGEST_SLEEP_S = 30.0
"""Most seconds to sleep before the clock is read again. The clock may be set, or the machine may sleep, in the
meantime."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An index update, and its schedule."""

    name: RepoName
    spec: BackendSpec
    secret: str | None
    schedule: str
    time_zone: str
    suspend: bool

    def __repr__(self) -> str:
        """Hide the secret."""
        return f"Job({self.name})"


def jobs_of(repos: tuple[RepoVerdict, ...]) -> dict[RepoName, Job]:
    """Return a job for each served repo."""
    return {
        verdict.name: Job(
            name=verdict.name,
            spec=verdict.spec,
            secret=None if verdict.secrets.backend is None else secret_text(verdict.secrets.backend),
            schedule=schedule_of(verdict.repo),
            time_zone=verdict.repo.spec.index.time_zone,
            suspend=verdict.repo.spec.index.suspend,
        )
        for verdict in repos
        if verdict.spec is not None
    }


def _now() -> datetime:
    return datetime.now(UTC)


class Schedules:
    """The runner of jobs, never two of one repo concurrently. Use it as an async context manager."""

    def __init__(self, root: Path, now: Callable[[], datetime] = _now) -> None:
        self._root = root
        self._now = now
        self._jobs: dict[RepoName, Job] = {}
        self._changed: dict[RepoName, asyncio.Event] = {}
        self.egress = Egress()
        """The hosts that the updates may connect to."""
        self._tasks: dict[RepoName, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end(list(self._tasks))

    async def update(self, jobs: Mapping[RepoName, Job]) -> None:
        """Run these jobs from now on. A new repo is updated immediately, so that it has an index."""
        await self._end([name for name in self._tasks if name not in jobs])
        for name, job in jobs.items():
            if self._jobs.get(name) == job:
                continue
            self._jobs[name] = job
            if name in self._tasks:
                self._changed[name].set()
                continue
            self._changed[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._follow(name), name=f"schedule {name}")

    async def _end(self, names: list[RepoName]) -> None:
        """Cancel these repos' jobs. An update that is interrupted at any point leaves the old index intact."""
        ended = [self._tasks.pop(name) for name in names]
        for name in names:
            del self._jobs[name], self._changed[name]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _follow(self, name: RepoName) -> None:
        changed = self._changed[name]
        due = self._now()
        while True:
            job = self._jobs[name]
            if not job.suspend and self._now() >= due:
                await self._run(job)
                job = self._jobs[name]
                changed.clear()
            due = next_time(job.schedule, job.time_zone, self._now())
            while self._now() < due and not changed.is_set():
                wait = min((due - self._now()).total_seconds(), _LONGEST_SLEEP_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), max(wait, 0))
            changed.clear()

    async def _run(self, job: Job) -> None:
        try:
            summary = await run_update(RepoTarget(job.name, job.spec, self._root, job.secret, self.egress))
        except PywharfError as error:
            _logger.error("Index of %s: not updated: %s It is tried again at its next time.", job.name, error)  # noqa: TRY400
            return
        except Exception:
            _logger.exception("Index of %s: not updated. It is tried again at its next time.", job.name)
            return
        _logger.info(
            "Index of %s: %s; %d projects, %d files, %d bytes, %d problems.",
            job.name,
            "updated" if summary.changed else "unchanged",
            summary.projects,
            summary.files,
            summary.bytes,
            len(summary.problems),
        )
        for problem in summary.problems:
            _logger.warning("Index of %s: %s", job.name, problem)
