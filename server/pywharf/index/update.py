"""update_index: read the whole storage, write the index."""

import asyncio
import hashlib
import time
from collections.abc import Sequence

import msgspec

from pywharf.core.duplicates import duplicates
from pywharf.core.errors import IndexConflictError, TooLargeError
from pywharf.core.model import Project
from pywharf.index.codecs import IndexEncoder, written_at
from pywharf.index.limits import MAX_PROJECT_FILES, MAX_PROJECTS, max_index_bytes
from pywharf.index.ports import Backend, Claims, IndexStore, Packages, Progress, StoredIndex, Unchanged

_ATTEMPTS = 3


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run of update_index."""

    projects: int
    files: int
    bytes: int
    changed: bool
    """Whether an index was written; none is written if nothing changed."""
    problems: tuple[str, ...] = ()
    """What was left out and why, a sentence each."""


async def update_index(backend: Backend, *, backend_type: str, index_name: str, progress: Progress) -> Summary:
    """Scan the whole storage and replace the index. An interruption at any point leaves the old index whole.

    Raises IndexConflictError if other writers were faster in every attempt, TooLargeError if the index would be larger
    than servers read.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _update_once(backend, backend_type, index_name, progress)
        except IndexConflictError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError  # pragma: no cover - the loop returns or raises


def _bounded(project: Project, problems: list[str]) -> Project:
    """Limit a project to the files that a page may list; report the rest in `problems`."""
    if len(project.files) <= MAX_PROJECT_FILES:
        return project
    problems.append(
        f"{project.name} has {len(project.files)} files; at most {MAX_PROJECT_FILES} are allowed. Those from "
        f"{project.files[MAX_PROJECT_FILES].filename!r} on are left out: remove old ones."
    )
    return msgspec.structs.replace(project, files=project.files[:MAX_PROJECT_FILES])


def _check_size(content: bytes, index_name: str, projects: int) -> None:
    """Refuse an index that servers would not read. Raises TooLargeError; the old index stays."""
    most = max_index_bytes(index_name)
    if len(content) <= most and projects <= MAX_PROJECTS:
        return
    raise TooLargeError(
        f"{index_name} would have {len(content)} bytes and {projects} projects; at most {most} bytes and "
        f"{MAX_PROJECTS} projects are allowed. The old index stays. Remove files, move projects to another repo"
        + ("." if index_name.endswith(".json") else ", or set index_filename to index.json, which may be larger.")
    )


async def _update_once(backend: Backend, backend_type: str, index_name: str, progress: Progress) -> Summary:
    # Everything published before this moment is in the scan, so it is the index's time.
    began = int(time.time())
    # The following scan includes all current journal entries; later ones stay in the journal.
    journal = await backend.read_journal()
    stored = await backend.read_index()
    assert not isinstance(stored, Unchanged)  # noqa: S101 - no version was given
    current = await asyncio.to_thread(_known, stored) if stored is not None else None
    del stored  # it may be large
    encoder = IndexEncoder(index_name, backend_type=backend_type, location=backend.index_location)
    summary = await _scan(backend, encoder, progress)
    changed = await _replace(backend, current, encoder, began, index_name=index_name, projects=summary.projects)
    await backend.fold_journal(journal.cursor)
    if isinstance(backend, Claims):
        await backend.remove_ended_claims()
    return msgspec.structs.replace(summary, changed=changed)


class _Known(msgspec.Struct, frozen=True):
    """The stored index, without its content."""

    filename: str
    version: str
    mtime: int | None
    """None if update_index did not write it."""
    digest: bytes


def _known(stored: StoredIndex) -> _Known:
    mtime = written_at(stored.content, stored.filename)
    return _Known(stored.filename, stored.version, mtime, hashlib.sha256(stored.content).digest())


async def _scan(packages: Packages, encoder: IndexEncoder, progress: Progress) -> Summary:
    """Read all packages and encode them, bounded. Return what was found and what could not be indexed."""
    projects = files = size = 0
    problems: list[str] = []
    async for scanned in packages.scan(progress):
        problems.extend(scanned.problems)
        if scanned.project is None:
            continue
        project = _bounded(scanned.project, problems)
        projects += 1
        files += len(project.files)
        size += sum([file.size or 0 for file in project.files])
        encoder.add(project)
        doubles: Sequence[tuple[str, ...]] | None = scanned.duplicates
        if doubles is None:
            names = [file.filename for file in scanned.project.files]
            doubles = await asyncio.to_thread(duplicates, project.name, names)
        problems.extend(
            f"{project.name}: {' and '.join(repr(name) for name in names)} are the same distribution, so clients may "
            "take either. All are served; remove those that are not meant."
            for names in doubles
        )
    return Summary(projects=projects, files=files, bytes=size, changed=False, problems=tuple(problems))


async def _replace(  # noqa: PLR0913 - the index, and what it replaces
    store: IndexStore,
    current: _Known | None,
    encoder: IndexEncoder,
    began: int,
    *,
    index_name: str,
    projects: int,
) -> bool:
    """Write the index unless the same one is already stored; return whether it was written."""

    def is_current() -> bool:
        """Return whether the same index is already stored, only written at another time."""
        if current is None or current.filename != index_name or current.mtime is None:
            return False
        return encoder.digest(current.mtime) == current.digest

    if await asyncio.to_thread(is_current):
        return False
    content = await asyncio.to_thread(encoder.encoded, began)
    _check_size(content, index_name, projects)
    await store.write_index(content, expected=current.version if current else None)
    return True
