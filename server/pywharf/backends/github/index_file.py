"""The index file in a branch: read as the blob that the branch's folder lists, written only if that is unchanged."""

import asyncio
from http import HTTPStatus

from pywharf.backends.github.answer import Answer
from pywharf.backends.github.branch import BranchFolder, Entry
from pywharf.backends.github.refusals import CALLER_STATUSES, Step, refusal
from pywharf.core.errors import IndexConflictError, PywharfError
from pywharf.index.codecs import decode_index
from pywharf.index.limits import max_index_bytes
from pywharf.index.ports import UNCHANGED, StoredIndex, Unchanged


def index_names(name: str) -> tuple[str, str]:
    """Return the index file's name, and that of the other codec's file."""
    stem, _, extension = name.rpartition(".")
    return name, f"{stem}.json" if extension == "toml" else f"{stem}.toml"


class IndexFile:
    """The index file of that name, or the other codec's file if that exists instead."""

    def __init__(self, folder: BranchFolder, name: str) -> None:
        self._folder = folder
        self._names = index_names(name)

    async def read(self, known: str | None, *, is_listed: bool = False) -> StoredIndex | Unchanged | None:
        """Read the index (see Backend). An unchanged index takes one conditional request, free of the rate limit.

        `is_listed`: the folder was listed immediately before, so it is not listed again.
        """
        if not is_listed:
            await self._folder.list()
        newest = await self._newest()
        if newest is None:
            return None
        if newest == known:
            return UNCHANGED
        return await self._read(next(entry for entry in self._entries() if _version(entry) == newest))

    async def write(self, content: bytes, expected: str | None) -> str:
        name, other = self._names
        # The entries seen by the last read suffice: GitHub compares the hash, but not that of the other codec's file.
        is_own = expected is None or expected.startswith(f"{name}:")
        if not self._folder.is_listed or not is_own or expected != await self._newest():
            await self._folder.list()
            if expected != await self._newest():
                raise IndexConflictError
        entries = {entry.name: entry for entry in self._entries()}
        written = await self._put(name, content, entries.get(name), expected)
        if other in entries:
            await self._folder.delete(entries[other])
        self._folder.forget()
        return _version(Entry(name, str(written.data["content"]["sha"])))

    def _entries(self) -> tuple[Entry, ...]:
        return self._folder.find(*self._names)

    async def _newest(self) -> str | None:
        """Return the version of the newest file; None if there is none."""
        entries = self._entries()
        if len(entries) < 2:  # noqa: PLR2004 - with one there is nothing to compare
            return _version(entries[0]) if entries else None
        # Both exist if a run that changed the codec was interrupted.
        found = [await self._read(entry) for entry in entries]
        return (await asyncio.to_thread(max, found, key=_mtime)).version

    async def _put(self, name: str, content: bytes, replaced: Entry | None, expected: str | None) -> Answer:
        answer = await self._folder.put(name, content, replaced)
        if answer.status not in CALLER_STATUSES:
            return answer
        refused = refusal(Step.WRITE_INDEX, answer, branch=self._folder.branch)
        if answer.status == HTTPStatus.NOT_FOUND or isinstance(refused, IndexConflictError):
            raise refused
        # Other messages do not tell whether another commit came first.
        await self._folder.list()
        raise refused if expected == await self._newest() else IndexConflictError

    async def _read(self, entry: Entry) -> StoredIndex:
        if entry.size > max_index_bytes(entry.name):
            return StoredIndex(entry.name, b"", _version(entry))
        return StoredIndex(entry.name, await self._folder.read(entry), _version(entry))


def _version(entry: Entry) -> str:
    return f"{entry.name}:{entry.sha}"


def _mtime(stored: StoredIndex) -> int:
    try:
        return decode_index(stored.content, stored.filename).mtime
    except PywharfError:
        return -1
