"""Copy packages into a repo: plan what it lacks, then publish each missing file with its state.

What the target has already is not read again, so a run that was interrupted is completed by another one.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from pywharf.core.errors import (
    FileExistsInRepoError,
    ForbiddenError,
    IndexConflictError,
    InvalidInputError,
    NotFoundError,
    PywharfError,
    StorageFullError,
    TooLargeError,
)
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.copying.planning import Plan, plan_project
from pywharf.index.copying.receiving import Received, Receiver, is_unverified
from pywharf.index.copying.retrying import TRANSIENT, Retrying
from pywharf.index.copying.source import Source, SourceProject
from pywharf.index.copying.summary import CopySummary, Sentences
from pywharf.index.ports import Action, Change, Packages, Progress, ScannedProject, Upload

_logger = logging.getLogger(__name__)
MAX_FILES = 1_000_000
"""Files of one run that are missing at the target. Further projects are left for the next run."""
CHECKPOINT_FILES = 50_000
"""Copied files after which the target's index is written, so that its journal never gets too long."""
_MAX_LOST = 10
"""Files in a row that a source could not give, after which it counts as gone."""
_REFUSED = (FileExistsInRepoError, InvalidInputError, NotFoundError, TooLargeError)
"""Errors of a target that concern one file only."""


class Shown(Protocol):
    """How the run is shown while it works."""

    def scanning(self, files: int, what: str) -> None:
        """Show what is being read. Called often."""

    def begin(self, files: int) -> None:
        """Show the number of files to copy."""

    def copied(self) -> None:
        """Show that one more file is done, with or without success."""


class Copier:
    """One run from a source into a target. Use it once."""

    def __init__(  # noqa: PLR0913 - all by name
        self,
        source: Source,
        target: Packages,
        *,
        wanted: Callable[[ProjectName], bool] = lambda _name: True,
        parallel: int,
        max_file_bytes: int,
        shown: Shown,
        checkpoint: Callable[[], Awaitable[object]] | None = None,
        reading: Retrying | None = None,
        writing: Retrying | None = None,
    ) -> None:
        self._source, self._target = source, target
        self._receiver = Receiver(source, target, max_file_bytes)
        self._wanted = wanted
        self._parallel, self._max_file_bytes = parallel, max_file_bytes
        self._shown = shown
        self._checkpoint = checkpoint
        """Writes the target's index."""
        self._reading, self._writing = reading or Retrying(), writing or Retrying()
        self._problems, self._notes = Sentences("problems"), Sentences("notes")
        self._projects = self._files = self._present = self._unverified = self._ignored = 0
        self._copied = self._bytes = self._changed = 0
        self._lost_in_a_row = 0

    async def run(self, *, dry_run: bool) -> CopySummary:
        """Copy what the target lacks, and bring over the state of what it has.

        What concerns one file or project alone becomes a problem of the summary. Raises PywharfError if the source or
        the target fails as a whole; what was copied until then stays.
        """
        plans = await self._plans()
        if dry_run:
            copies = [file for plan in plans for file in plan.copies]
            self._copied, self._bytes = len(copies), sum(file.size or 0 for file in copies)
            self._unverified += sum(is_unverified(self._source, file) for file in copies)
            self._changed = sum(len(plan.reserves) + len(plan.yanks) + (plan.status is not None) for plan in plans)
        else:
            self._shown.begin(sum(len(plan.copies) for plan in plans))
            await self._carry_out(plans)
        return CopySummary(
            projects=self._projects,
            files=self._files,
            copied=self._copied,
            bytes=self._bytes,
            present=self._present,
            unverified=self._unverified,
            changed=self._changed,
            ignored=self._ignored,
            dry_run=dry_run,
            notes=self._notes.all(),
            problems=self._problems.all(),
        )

    async def _plans(self) -> list[Plan]:
        """Read target and source. Return what is to be done, for projects with anything to do."""
        held = await self._held()
        plans: list[Plan] = []
        files = 0
        async for found in self._source.scan(self._shown.scanning):
            if found.project is not None and not self._wanted(found.project.name):
                continue
            self._problems.add(*found.problems)
            self._ignored += found.ignored
            if found.project is None:
                continue
            there = held.pop(found.project.name, None)
            plan = plan_project(
                await self._with_digests(found, there),
                there,
                is_repo=self._source.is_repo,
                max_file_bytes=self._max_file_bytes,
            )
            files += len(plan.copies)
            if files > MAX_FILES:
                self._problems.add(
                    f"More than {MAX_FILES} files are missing at the target; {plan.project} and what follows is left "
                    "for another run."
                )
                break
            self._projects += 1
            self._files += len(found.project.files)
            self._present += plan.present
            self._unverified += plan.unverified
            self._problems.add(*plan.problems)
            self._notes.add(*plan.notes)
            if plan.copies or plan.reserves or plan.yanks or plan.status:
                plans.append(plan)
        if not self._files:
            self._problems.add("The source holds no distribution; check FROM, and --projects if it is given.")
        return plans

    async def _held(self) -> dict[ProjectName, ScannedProject]:
        """Read the whole target. Its own problems are update_index's to report."""
        progress: Progress = self._shown.scanning
        return {found.project.name: found async for found in self._target.scan(progress) if found.project is not None}

    async def _with_digests(self, found: SourceProject, there: ScannedProject | None) -> SourceProject:
        """Complete the digests of the files whose names the target has; those of others are not needed to compare."""
        project = found.project
        known = there.project if there is not None else None
        if project is None or known is None:
            return found
        files = [
            msgspec.structs.replace(file, sha256=await self._source.sha256(project.name, file))
            if not file.sha256 and known.file(file.filename) is not None
            else file
            for file in project.files
        ]
        return msgspec.structs.replace(found, project=msgspec.structs.replace(project, files=tuple(files)))

    async def _carry_out(self, plans: Iterable[Plan]) -> None:
        steps = self._steps(plans)

        async def work() -> None:
            for step in steps:
                await step()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._parallel):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            first = next((e for e in failed.exceptions if isinstance(e, PywharfError)), failed.exceptions[0])
            _logger.warning("%d files were copied before that; run the same command again to go on.", self._copied)
            raise first from None

    def _steps(self, plans: Iterable[Plan]) -> Iterator[Callable[[], Awaitable[object]]]:
        """Yield what may be done concurrently. A project whose status is to be set is one step."""
        for plan in plans:
            if plan.status is not None:
                yield functools.partial(self._project_with_status, plan)
                continue
            actions: tuple[Action, ...] = (*plan.reserves, *plan.yanks)
            for action in actions:
                yield functools.partial(self._change, plan, action)
            for file in plan.copies:
                yield functools.partial(self._copy, plan, file)

    async def _project_with_status(self, plan: Plan) -> None:
        """Set the status before more than one file can be seen: a quarantined project's must never be offered."""
        copies = list(plan.copies)
        for reserve in plan.reserves:
            await self._change(plan, reserve)
        is_known = plan.known is not None or bool(plan.reserves)
        while copies and not is_known:
            is_known = await self._copy(plan, copies.pop(0))
        assert plan.status is not None  # noqa: S101 - that is why it is one step
        if is_known:
            await self._change(plan, plan.status)
        else:
            self._problems.add(f"{plan.project} has no file at the target, so its status is not copied.")
        for yank in plan.yanks:
            await self._change(plan, yank)
        for file in copies:
            await self._copy(plan, file)

    async def _change(self, plan: Plan, action: Action) -> None:
        change = Change(plan.project, action, known=plan.known)
        try:
            await self._writing.run(lambda: self._target.change(change))
        except _REFUSED as error:
            self._problems.add(f"{plan.project}: its state is not copied: {error}")
        else:
            self._changed += 1

    async def _copy(self, plan: Plan, file: File) -> bool:
        """Copy one file. Return whether the target has it; otherwise report the problem."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                received = await self._received(plan, file, stack)
                upload = Upload(plan.project, received.record, received.path, received.metadata, known=plan.known)
                await self._writing.run(lambda: self._target.publish(upload))
        except _LostError as lost:
            self._problems.add(f"{plan.project}/{file.filename} is left out: {lost.error}")
            return False
        except _REFUSED as error:
            self._problems.add(f"{plan.project}/{file.filename} is left out: {error}")
            return False
        finally:
            self._shown.copied()
        self._notes.add(*(f"{plan.project}/{file.filename} is copied all the same: {note}" for note in received.notes))
        self._copied += 1
        self._bytes += upload.file.size or 0
        self._unverified += is_unverified(self._source, file)
        if self._checkpoint is not None and self._copied % CHECKPOINT_FILES == 0:
            # If another update_index was faster, the index is as new.
            with contextlib.suppress(IndexConflictError):
                await self._checkpoint()
        return True

    async def _received(self, plan: Plan, file: File, stack: contextlib.AsyncExitStack) -> Received:
        """Stage and check a file. The staged file is kept until `stack` ends."""
        try:
            received = await self._reading.run(lambda: self._receiver.receive(plan.project, file, stack))
        except StorageFullError:
            raise
        except PywharfError as error:
            is_gone = isinstance(error, (ForbiddenError, *TRANSIENT))
            self._lost_in_a_row = self._lost_in_a_row + 1 if is_gone else 0
            if self._lost_in_a_row >= _MAX_LOST:
                raise
            raise _LostError(error) from error
        self._lost_in_a_row = 0
        return received


class _LostError(Exception):
    """A file that the source did not give."""

    def __init__(self, error: PywharfError) -> None:
        super().__init__(str(error))
        self.error = error
