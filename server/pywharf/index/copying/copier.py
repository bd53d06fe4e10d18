"""Copy packages into a repo: stage each file, verify its digest, make its record, publish it with its state.

What the target has already is not read again, so a run that was interrupted is completed by another one.
"""

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from pywharf.core.archive import read_metadata
from pywharf.core.distribution import Distribution, read_distribution, record_of
from pywharf.core.errors import (
    FileExistsInRepoError,
    InvalidInputError,
    InvalidUploadError,
    NotFoundError,
    PywharfError,
    StorageFullError,
    TooLargeError,
)
from pywharf.core.filenames import DistributionFilename, parse_upload_filename
from pywharf.core.model import File, rfc3339
from pywharf.core.names import ProjectName
from pywharf.index.copying.planning import Plan, plan_project
from pywharf.index.copying.retrying import TRANSIENT, Retrying
from pywharf.index.copying.source import Opened, Source, SourceProject
from pywharf.index.limits import fault_of
from pywharf.index.ports import Action, Change, Delete, Packages, Progress, ScannedProject, Upload
from pywharf.index.staging import StagedFile

MAX_FILES = 1_000_000
"""Files of one run that are missing at the target. Further projects are left for the next run."""
CHECKPOINT_FILES = 50_000
"""Copied files after which the target's index is written, so that its journal never gets too long."""
_MAX_SENTENCES = 1_000
"""Problems and notes that are kept of one run, each; further ones are counted."""
_MAX_LOST = 10
"""Files in a row that a source could not give, after which it counts as gone."""
_REFUSED = (FileExistsInRepoError, InvalidInputError, NotFoundError, TooLargeError)
"""Errors of a target that concern one file only."""
_WEAK = frozenset({"md5", "sha1", "sha224", "sha384", "sha512", "blake2b", "blake2s"})
"""Algorithms, besides SHA-256, of the digests in links of Simple indexes."""


class CopySummary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    projects: int
    files: int
    """Files of the source that are distributions."""
    copied: int
    """Files that the target lacked and has now; in a dry run, those that it lacks."""
    bytes: int
    """Bytes of those; in a dry run, those whose size is known."""
    present: int
    """Files that the target had already."""
    unverified: int
    """Files whose content no digest of the source confirms: copied ones, and present ones compared by name alone."""
    changed: int
    """Changes of the state of files and projects that the target had."""
    ignored: int
    """Files of the source that are no distributions."""
    dry_run: bool
    notes: tuple[str, ...] = ()
    """Remarks on files that are copied all the same, a sentence each."""
    problems: tuple[str, ...] = ()
    """What is left out and why, a sentence each."""


class Shown(Protocol):
    """How the run is shown while it works."""

    def scanning(self, files: int, what: str) -> None:
        """Show what is being read. Called often."""

    def begin(self, files: int) -> None:
        """Show the number of files to copy."""

    def copied(self) -> None:
        """Show that one more file is done, with or without success."""


class _Sentences:
    """A bounded list of sentences."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._kept: list[str] = []
        self._more = 0

    def add(self, *sentences: str) -> None:
        for sentence in sentences:
            if len(self._kept) < _MAX_SENTENCES:
                self._kept.append(sentence)
            else:
                self._more += 1

    def all(self) -> tuple[str, ...]:
        further = (f"Further {self._what}: {self._more}.",) if self._more else ()
        return (*self._kept, *further)


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
        self._wanted = wanted
        self._parallel, self._max_file_bytes = parallel, max_file_bytes
        self._shown = shown
        self._checkpoint = checkpoint
        """Writes the target's index."""
        self._reading, self._writing = reading or Retrying(), writing or Retrying()
        self._problems, self._notes = _Sentences("problems"), _Sentences("notes")
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
            self._unverified += sum(map(self._is_unverified, copies))
            self._changed = sum(len(plan.yanks) + (plan.status is not None) for plan in plans)
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
            if plan.copies or plan.yanks or plan.status or plan.taken:
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
            raise first from None

    def _steps(self, plans: Iterable[Plan]) -> Iterator[Callable[[], Awaitable[object]]]:
        """Yield what may be done concurrently. A project whose status is to be set is one step."""
        for plan in plans:
            if plan.status is not None:
                yield functools.partial(self._project_with_status, plan)
                continue
            for yank in plan.yanks:
                yield functools.partial(self._change, plan, yank)
            for file in plan.copies:
                yield functools.partial(self._copy, plan, file)
            if plan.taken:
                yield functools.partial(self._take, plan)

    async def _project_with_status(self, plan: Plan) -> None:
        """Set the status before more than one file can be seen: a quarantined project's must never be offered."""
        copies = list(plan.copies)
        is_known = plan.known is not None
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
        await self._take(plan)

    async def _change(self, plan: Plan, action: Action) -> None:
        change = Change(plan.project, action, known=plan.known)
        try:
            await self._writing.run(lambda: self._target.change(change))
        except _REFUSED as error:
            self._problems.add(f"{plan.project}: its state is not copied: {error}")
        else:
            self._changed += 1

    async def _take(self, plan: Plan) -> None:
        """Keep the names of deleted files taken, if the target can do so for files that it never had."""
        refused = 0
        for name in plan.taken:
            change = Change(plan.project, Delete(name), known=plan.known)
            try:
                await self._writing.run(functools.partial(self._target.change, change))
            except NotFoundError:
                refused += 1
        if refused:
            self._problems.add(
                f"{plan.project}: {refused} names of files that the source deleted cannot be kept taken at the target, "
                f"such as {plan.taken[0]}."
            )

    async def _copy(self, plan: Plan, file: File) -> bool:
        """Copy one file. Return whether the target has it; otherwise report the problem."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                upload, notes = await self._received(plan, file, stack)
                await self._writing.run(lambda: self._target.publish(upload))
        except _LostError as lost:
            self._problems.add(f"{plan.project}/{file.filename} is left out: {lost.error}")
            return False
        except _REFUSED as error:
            self._problems.add(f"{plan.project}/{file.filename} is left out: {error}")
            return False
        finally:
            self._shown.copied()
        self._notes.add(*(f"{plan.project}/{file.filename} is copied all the same: {note}" for note in notes))
        self._copied += 1
        self._bytes += upload.file.size or 0
        self._unverified += self._is_unverified(file)
        if self._checkpoint is not None and self._copied % CHECKPOINT_FILES == 0:
            await self._checkpoint()
        return True

    def _is_unverified(self, file: File) -> bool:
        return not (file.sha256 or _weak_digest(file) or self._source.is_local)

    async def _received(
        self, plan: Plan, file: File, stack: contextlib.AsyncExitStack
    ) -> tuple[Upload, tuple[str, ...]]:
        """Stage and check a file. The staged file is kept until `stack` ends."""
        try:
            received = await self._reading.run(lambda: self._stage(plan, file, stack))
        except StorageFullError:
            raise
        except PywharfError as error:
            self._lost_in_a_row = self._lost_in_a_row + 1 if isinstance(error, TRANSIENT) else 0
            if self._lost_in_a_row >= _MAX_LOST:
                raise
            raise _LostError(error) from error
        self._lost_in_a_row = 0
        return received

    async def _stage(self, plan: Plan, file: File, stack: contextlib.AsyncExitStack) -> tuple[Upload, tuple[str, ...]]:
        async with contextlib.AsyncExitStack() as own:
            staged = await own.enter_async_context(StagedFile(self._target.staging_folder, self._max_file_bytes))
            async with self._source.open(plan.project, file) as opened:
                await _receive(opened, staged, file)
            sha256 = await staged.finish()
            await _check(file, staged, sha256)
            modified = opened.modified
            if self._source.is_repo:
                record, metadata = await self._kept_record(plan.project, file, staged, sha256)
                notes: tuple[str, ...] = ()
            else:
                record, metadata, notes = await _made_record(plan.project, file, staged, sha256, modified)
            if (fault := fault_of(record)) is not None:
                raise TooLargeError(fault[:1].upper() + fault[1:])
            stack.push_async_exit(own.pop_all())
        return Upload(plan.project, record, staged.path, metadata, known=plan.known), notes

    async def _kept_record(
        self, project: ProjectName, file: File, staged: StagedFile, sha256: str
    ) -> tuple[File, bytes]:
        """Return a repo's own record with the core metadata; what the original did not record is completed."""
        record = msgspec.structs.replace(
            file,
            sha256=sha256,
            size=staged.size,
            upload_time=file.upload_time or rfc3339(time.time()),
            location=None,
            stamp=None,
            revision=0,
        )
        raw = None
        if file.metadata_sha256 is not None:
            with contextlib.suppress(NotFoundError):
                raw = await self._source.metadata(project, file)
        if raw is None or hashlib.sha256(raw).hexdigest() != file.metadata_sha256:
            raw = await asyncio.to_thread(_core_metadata, staged, file.filename)
        digest = None if raw is None else hashlib.sha256(raw).hexdigest()
        return msgspec.structs.replace(record, metadata_sha256=digest), raw or b""


class _LostError(Exception):
    """A file that the source did not give."""

    def __init__(self, error: PywharfError) -> None:
        super().__init__(str(error))
        self.error = error


async def _receive(opened: Opened, staged: StagedFile, file: File) -> None:
    async for chunk in opened.chunks:
        await staged.write(chunk)
        if file.size is not None and staged.size > file.size:
            raise InvalidUploadError(f"it is longer than the {file.size} bytes that the source says.")
    if file.size is not None and staged.size != file.size:
        raise InvalidUploadError(f"it has {staged.size} bytes; the source says {file.size}.")


async def _check(file: File, staged: StagedFile, sha256: str) -> None:
    """Compare the content with the digest that the source gives. Raises InvalidUploadError."""
    if file.sha256:
        if sha256 != file.sha256:
            raise InvalidUploadError(f"its SHA-256 is {sha256}; the source says {file.sha256}.")
        return
    weak = _weak_digest(file)
    if weak is None:
        return
    algorithm, given = weak

    def computed() -> str:
        with staged.path.open("rb") as content:
            digest = hashlib.new(algorithm, usedforsecurity=False)
            return hashlib.file_digest(content, lambda: digest).hexdigest()

    if (actual := await asyncio.to_thread(computed)) != given.lower():
        raise InvalidUploadError(f"its {algorithm} is {actual}; the source says {given[:130]}.")


def _weak_digest(file: File) -> tuple[str, str] | None:
    """Return the algorithm and the digest of a link such as `…/foo-1.0.whl#md5=…`, if it has one."""
    algorithm, equals, digest = urlsplit(file.location or "").fragment.partition("=")
    return (algorithm, digest) if equals and digest and algorithm in _WEAK else None


async def _made_record(
    project: ProjectName, file: File, staged: StagedFile, sha256: str, modified: float | None
) -> tuple[File, bytes, tuple[str, ...]]:
    """Read the archive and make the record as for an upload, with the source's time and yank."""
    parsed = parse_upload_filename(file.filename)
    if parsed.project != project:
        raise InvalidUploadError(f"its name says that it belongs to the project {parsed.project!r}.")
    read = await asyncio.to_thread(_read, staged, parsed)
    recorded = time_of(file.upload_time)
    uploaded_at = recorded if recorded is not None else modified if modified is not None else time.time()
    record = record_of(read, sha256=sha256, size=staged.size, uploaded_at=uploaded_at)
    return msgspec.structs.replace(record, yanked=file.yanked), read.raw_metadata, read.notes


def time_of(text: str | None) -> float | None:
    """Return a time in RFC 3339 as Unix seconds; None if it is missing or unreadable."""
    try:
        time_ = datetime.fromisoformat(text or "")
        return (time_ if time_.tzinfo is not None else time_.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _read(staged: StagedFile, parsed: DistributionFilename) -> Distribution:
    with staged.path.open("rb") as stream:
        return read_distribution(stream, parsed)


def _core_metadata(staged: StagedFile, filename: str) -> bytes | None:
    """Return a wheel's core metadata from the archive; None for other files and if it cannot be read."""
    try:
        if not filename.endswith(".whl"):
            return None
        with staged.path.open("rb") as stream:
            return read_metadata(stream, parse_upload_filename(filename))
    except InvalidInputError:
        return None
