"""update_index: read the whole storage, write the index."""

import asyncio
import time

import msgspec

from pywharf.core.errors import IndexConflictError, PywharfError
from pywharf.core.model import Project
from pywharf.index.codecs import decode_index, encode_index
from pywharf.index.ports import Backend, Progress, StoredIndex

_ATTEMPTS = 3


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found and did."""

    projects: int
    files: int
    bytes: int
    changed: bool
    """Whether an index was written; it is not where nothing changed."""
    problems: tuple[str, ...] = ()
    """What was left out and why, a sentence each."""


async def update_index(backend: Backend, *, backend_type: str, index_name: str, progress: Progress) -> Summary:
    """Scan the storage fully and replace the index. Interrupted anywhere, it leaves the old index whole.

    Raises IndexConflictError where other writers kept being faster.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _update_once(backend, backend_type, index_name, progress)
        except IndexConflictError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError  # pragma: no cover - the loop returns or raises


async def _update_once(backend: Backend, backend_type: str, index_name: str, progress: Progress) -> Summary:
    # Whatever was published before is in the scan, so this is the index's time.
    began = int(time.time())
    # What the journal holds now is in the scan that follows; what comes later stays in the journal.
    journal = await backend.read_journal()
    current = await backend.read_index()
    assert current is None or isinstance(current, StoredIndex)  # noqa: S101 - no version was given
    projects: list[Project] = []
    problems: list[str] = []
    async for scanned in backend.scan(progress):
        if scanned.project is not None:
            projects.append(scanned.project)
        problems.extend(scanned.problems)

    def encode(mtime: int) -> bytes:
        return encode_index(index_name, mtime, projects, backend_type=backend_type, location=backend.index_location)

    def is_current() -> bool:
        """Whether the index lies there already, written at another time."""
        if current is None or current.filename != index_name:
            return False
        try:
            return encode(decode_index(current.content, index_name).mtime) == current.content
        except PywharfError:
            return False

    changed = not await asyncio.to_thread(is_current)
    if changed:
        content = await asyncio.to_thread(encode, began)
        await backend.write_index(content, expected=current.version if current else None)
    await backend.fold_journal(journal.cursor)
    files = [file for project in projects for file in project.files]
    return Summary(
        projects=len(projects),
        files=len(files),
        bytes=sum(file.size or 0 for file in files),
        changed=changed,
        problems=tuple(problems),
    )
