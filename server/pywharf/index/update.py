"""update_index: read the whole storage, write the index."""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from pywharf.core.errors import IndexConflictError, PywharfError, TooLargeError
from pywharf.core.identity import duplicates
from pywharf.core.model import Project
from pywharf.index.codecs import decode_index, encode_index
from pywharf.index.limits import MAX_PROJECT_FILES, MAX_PROJECTS, max_index_bytes
from pywharf.index.ports import Backend, IndexStore, Packages, Progress, StoredIndex

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
    current = await backend.read_index()
    assert current is None or isinstance(current, StoredIndex)  # noqa: S101 - no version was given
    projects, problems = await _scanned(backend, progress)

    def encode(mtime: int) -> bytes:
        return encode_index(index_name, mtime, projects, backend_type=backend_type, location=backend.index_location)

    changed = await _replace(backend, current, encode, began, index_name=index_name, projects=len(projects))
    await backend.fold_journal(journal.cursor)
    files = [file for project in projects for file in project.files]
    return Summary(
        projects=len(projects),
        files=len(files),
        bytes=sum(file.size or 0 for file in files),
        changed=changed,
        problems=tuple(problems),
    )


async def _scanned(packages: Packages, progress: Progress) -> tuple[list[Project], list[str]]:
    """Read all packages. Return the projects, bounded, and what could not be indexed."""
    projects: list[Project] = []
    problems: list[str] = []
    async for scanned in packages.scan(progress):
        problems.extend(scanned.problems)
        if (project := scanned.project) is not None:
            projects.append(_bounded(project, problems))
            doubles: Sequence[tuple[str, ...]] | None = scanned.duplicates
            if doubles is None:
                doubles = await asyncio.to_thread(duplicates, project.name, [file.filename for file in project.files])
            problems.extend(
                f"{project.name}: {' and '.join(repr(name) for name in names)} are the same distribution, so clients "
                "may take either. All are served; remove those that are not meant."
                for names in doubles
            )
    return projects, problems


async def _replace(  # noqa: PLR0913 - the index, and what it replaces
    store: IndexStore,
    current: StoredIndex | None,
    encode: Callable[[int], bytes],
    began: int,
    *,
    index_name: str,
    projects: int,
) -> bool:
    """Write the index unless the same one is already stored; return whether it was written."""

    def is_current() -> bool:
        """Return whether the same index is already stored, only written at another time."""
        if current is None or current.filename != index_name:
            return False
        try:
            return encode(decode_index(current.content, index_name).mtime) == current.content
        except PywharfError:
            return False

    if await asyncio.to_thread(is_current):
        return False
    content = await asyncio.to_thread(encode, began)
    _check_size(content, index_name, projects)
    await store.write_index(content, expected=current.version if current else None)
    return True
