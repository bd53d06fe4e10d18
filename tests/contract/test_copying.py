"""Copying into and from any storage: what arrives, with which times and state, and what a second run does."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pywharf.core.errors import BackendUnavailableError, FileExistsInRepoError, RateLimitedError, StorageFullError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.egress.copied_index import CopiedIndexClient
from pywharf.egress.policy import Egress
from pywharf.index.copying import copier
from pywharf.index.copying.copier import Copier
from pywharf.index.copying.folder import FolderSource
from pywharf.index.copying.repo import RepoSource
from pywharf.index.copying.retrying import Retrying
from pywharf.index.copying.summary import CopySummary
from pywharf.index.ports import Backend, Change, Delete, SetStatus, SetYanked
from support.distributions.wheels import sdist, wheel
from support.storage.copying import Quiet
from support.storage.storages import STORAGES
from support.storage.uploads import bare, content, file_of, publish, scanned

FOO, BAR = ProjectName("foo"), ProjectName("bar")


async def copy(
    source: FolderSource | Backend, target: Backend, *, dry_run: bool = False, parallel: int = 4, checkpoint: Any = None
) -> CopySummary:
    """Copy from a folder or from a repo's backend."""
    quick = Retrying(first_s=0.001)
    async with contextlib.aclosing(CopiedIndexClient(None, "test", Egress())) as client:
        one = Copier(
            source if isinstance(source, FolderSource) else RepoSource(source, client),
            target,
            parallel=parallel,
            max_file_bytes=2**40,
            shown=Quiet(),
            checkpoint=checkpoint,
            reading=quick,
            writing=quick,
        )
        return await one.run(dry_run=dry_run)


async def state(backend: Backend) -> dict[ProjectName, Project]:
    """Return the projects without what each storage sets itself."""
    projects, problems = await scanned(backend)
    assert problems == []
    return {p.name: msgspec.structs.replace(p, status_revision=0, files=tuple(map(plain, p.files))) for p in projects}


async def contents(backend: Backend) -> dict[str, tuple[bytes, bytes | None]]:
    """Return the content and the core metadata of each file."""
    return {
        file.filename: (
            await content(backend, project.name, file),
            await backend.read_metadata(project.name, file) if file.metadata_sha256 is not None else None,
        )
        for project in (await scanned(backend))[0]
        for file in project.files
    }


def plain(file: File) -> File:
    return msgspec.structs.replace(bare(file), revision=0)


def counted(summary: CopySummary) -> tuple[int, int, int, Sequence[str]]:
    return summary.copied, summary.present, summary.changed, summary.problems


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Backend]:
    """Return an empty repo in memory."""
    backend = STORAGES["memory"].make(tmp_path)("index.json")
    yield backend
    await backend.aclose()


@pytest.fixture
async def source(memory: Backend, made: Path) -> Backend:
    """Return a repo in memory with three files, one of them yanked, and a deprecated project."""
    backend = memory
    for path in (wheel(made, "foo"), sdist(made, "foo"), wheel(made, "bar", requires_python=None)):
        await publish(backend, path)
    await backend.change(Change(FOO, SetYanked("foo-1.0.tar.gz", "broken")))
    await backend.change(Change(BAR, SetStatus("deprecated", "use foo")))
    return backend


async def test_files_times_and_yanks_arrive_and_a_second_run_copies_nothing(source, backend, other):
    await source.change(Change(BAR, SetStatus("active")))
    summary = await copy(source, backend)
    assert counted(summary) == (3, 0, 0, ())
    assert summary.unverified == 0
    assert await state(other) == await state(source)
    assert await contents(other) == await contents(source)
    assert counted(await copy(source, backend)) == (0, 3, 0, ())


async def test_from_any_storage(backend, memory, made):
    for path in (wheel(made, "foo"), sdist(made, "foo"), wheel(made, "bar")):
        await publish(backend, path)
    assert counted(await copy(backend, memory)) == (3, 0, 0, ())
    assert await state(memory) == await state(backend)


async def test_a_status_arrives_before_a_second_file_is_seen(source, backend, other, made):
    await publish(source, sdist(made, "bar"))
    await source.change(Change(BAR, SetStatus("quarantined", "malware")))
    seen: list[tuple[str, int]] = []

    class Watched:
        def __getattr__(self, name: str):
            return getattr(backend, name)

        async def publish(self, upload):
            project = await other.find_project(upload.project)
            if project is not None and upload.project == BAR:
                seen.append((project.status, len(project.files)))
            return await backend.publish(upload)

    summary = await copy(source, Watched())
    assert counted(summary) == (4, 0, 1, ())
    assert seen == [("quarantined", 1)]
    assert await state(other) == await state(source)


async def test_state_of_what_is_there_is_brought_over(source, backend, other):
    await copy(source, backend)
    await source.change(Change(FOO, SetYanked("foo-1.0.tar.gz", None)))
    await source.change(Change(FOO, SetYanked("foo-1.0-py3-none-any.whl", "")))
    await source.change(Change(BAR, SetStatus("archived")))
    assert counted(await copy(source, backend)) == (0, 3, 3, ())
    assert await state(other) == await state(source)
    assert counted(await copy(source, backend)) == (0, 3, 0, ())


async def test_a_folder_takes_no_state_away(backend, other, made):
    paths = [wheel(made, "foo"), sdist(made, "foo")]
    assert counted(await copy(FolderSource(made), backend)) == (2, 0, 0, ())
    await backend.change(Change(FOO, SetYanked(paths[0].name, "broken")))
    await backend.change(Change(FOO, SetStatus("archived")))
    assert counted(await copy(FolderSource(made), backend)) == (0, 2, 0, ())
    (project,) = (await state(other)).values()
    assert (project.status, [f.yanked for f in project.files]) == ("archived", ["broken", None])
    wheel(made, "foo", "2.0")
    summary = await copy(FolderSource(made), backend)
    assert counted(summary) == (0, 2, 0, ("foo is archived at the target and takes no files; 1 are left out.",))


async def test_other_bytes_under_a_name_are_a_problem_and_the_rest_is_copied(source, backend, other, tmp_path):
    rival = tmp_path / "rival"
    rival.mkdir()
    kept = await publish(backend, wheel(rival, "foo", payload=b"OTHER = 1\n"))
    summary = await copy(source, backend)
    assert (summary.copied, summary.present, len(summary.problems)) == (2, 0, 1)
    assert "foo-1.0-py3-none-any.whl is left out: the target has other bytes under this name" in summary.problems[0]
    project = (await state(other))[FOO]
    stored = project.file(kept.filename)
    assert stored is not None
    assert stored.sha256 == kept.sha256


async def test_a_name_that_the_target_deleted_stays_taken(source, backend, other):
    await copy(source, backend)
    await backend.change(Change(FOO, Delete("foo-1.0.tar.gz")))
    summary = await copy(source, backend)
    assert (summary.copied, summary.present) == (0, 2)
    assert summary.problems == (
        "foo/foo-1.0.tar.gz is left out: the target had foo-1.0.tar.gz, which was deleted, and its name stays taken.",
    )
    assert "foo-1.0.tar.gz" not in {f.filename for f in (await state(other))[FOO].files}


async def test_what_the_source_deleted_is_named(source, backend):
    await copy(source, backend)
    await source.change(Change(FOO, Delete("foo-1.0.tar.gz")))
    summary = await copy(source, backend)
    assert summary.problems == (
        "foo/foo-1.0.tar.gz was deleted at the source, but the target still has it; delete it there.",
    )


async def test_a_name_that_the_source_deleted_before_the_first_copy_stays_taken(source, backend, other, made):
    await source.change(Change(FOO, Delete("foo-1.0.tar.gz")))
    await source.change(Change(BAR, Delete("bar-1.0-py3-none-any.whl")))
    assert (await copy(source, backend, dry_run=True)).changed == 3
    summary = await copy(source, backend)
    assert counted(summary) == (1, 0, 3, ())
    assert await state(other) == await state(source)
    with pytest.raises(FileExistsInRepoError, match="deleted"):
        await publish(other, made / "foo-1.0.tar.gz")
    assert counted(await copy(source, backend)) == (0, 1, 0, ())


async def test_a_dry_run_changes_nothing(source, backend, other):
    summary = await copy(source, backend, dry_run=True)
    assert (summary.copied, summary.changed, summary.dry_run) == (3, 1, True)
    assert summary.bytes > 0
    assert await state(other) == {}


async def test_the_index_is_written_before_the_journal_gets_long(source, backend, monkeypatch):
    monkeypatch.setattr(copier, "CHECKPOINT_FILES", 2)
    written: list[int] = []

    async def checkpoint() -> None:
        written.append(len((await scanned(backend))[0]))

    await copy(source, backend, checkpoint=checkpoint)
    assert len(written) == 1


class Faulty:
    """A target whose calls fail as a test says."""

    def __init__(self, backend: Backend, *errors: Exception) -> None:
        self.errors = list(errors)
        self._backend = backend

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    async def publish(self, upload):
        if self.errors:
            raise self.errors.pop(0)
        return await self._backend.publish(upload)


@pytest.mark.parametrize("away", [[BackendUnavailableError("away")] * 2, [RateLimitedError("slow down", 1)]])
async def test_a_target_that_fails_for_a_moment_is_tried_again(source, backend, away):
    assert counted(await copy(source, Faulty(backend, *away), parallel=1)) == (3, 0, 1, ())


@pytest.mark.parametrize("errors", [[StorageFullError("The storage is full.")], [BackendUnavailableError("away")] * 4])
async def test_a_target_that_fails_ends_the_run_and_another_run_completes_it(source, backend, other, errors):
    with pytest.raises(type(errors[0])):
        await copy(source, Faulty(backend, *errors), parallel=1)
    await copy(source, backend)
    assert await state(other) == await state(source)
    assert not list(backend.staging_folder.glob("*.tmp"))


async def test_record_of_a_folder_equals_that_of_an_upload(backend, other, made):
    path = wheel(made, "foo", requires_python=">=3.5.*")
    await copy(FolderSource(made), backend)
    (project,) = (await state(other)).values()
    _, expected, _ = file_of(path)
    assert project.files == (msgspec.structs.replace(expected, upload_time=project.files[0].upload_time),)
