"""The index file in a branch: read as the blob that the branch's folder lists, written only if that is unchanged."""

import asyncio
import base64
import binascii
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from pywharf.backends.github.answer import Answer
from pywharf.backends.github.api import BLOB_BYTES, GithubApi
from pywharf.backends.github.refusals import CALLER_STATUSES, Step, refusal
from pywharf.core.errors import BackendUnavailableError, IndexConflictError, PywharfError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.index.codecs import decode_index
from pywharf.index.limits import max_index_bytes
from pywharf.index.ports import UNCHANGED, StoredIndex, Unchanged


@warmed_up
class _Entry(msgspec.Struct, frozen=True):
    name: str
    sha: str
    size: int = 0


class IndexFile:
    """The index file of that name, or the other codec's file if that exists instead."""

    def __init__(self, api: GithubApi, owner: str, repo: str, branch: str, name: str) -> None:
        self._api = api
        self._repo = f"/repos/{owner}/{repo}"
        self._branch = branch
        stem, _, extension = name.rpartition(".")
        self._names = (name, f"{stem}.json" if extension == "toml" else f"{stem}.toml")
        self._etag: str | None = None
        self._entries: tuple[_Entry, ...] = ()
        """The existing files among the two names."""

    async def read(self, known: str | None) -> StoredIndex | Unchanged | None:
        """Read the index (see Backend). An unchanged index takes one conditional request, free of the rate limit."""
        entries = await self._list()
        newest = await self._newest(entries)
        if newest is None:
            return None
        if newest == known:
            return UNCHANGED
        return await self._read(next(entry for entry in entries if _version(entry) == newest))

    async def write(self, content: bytes, expected: str | None) -> str:
        name, other = self._names
        there = self._entries
        # The entries seen by the last read suffice: GitHub compares the hash, but not that of the other codec's file.
        is_own = expected is None or expected.startswith(f"{name}:")
        if self._etag is None or not is_own or expected != await self._newest(there):
            there = await self._list()
            if expected != await self._newest(there):
                raise IndexConflictError
        entries = {entry.name: entry for entry in there}
        sha = {"sha": entries[name].sha} if name in entries else {}
        written = await self._put(name, {"content": base64.b64encode(content).decode(), **sha}, expected)
        if other in entries:
            data = {"message": f"Remove {other}", "branch": self._branch, "sha": entries[other].sha}
            await self._api.send("DELETE", self._path(other), data)
        self._etag = None
        return _version(_Entry(name, str(written.data["content"]["sha"])))

    async def _newest(self, entries: tuple[_Entry, ...]) -> str | None:
        """Return the version of the newest file; None if there is none."""
        if len(entries) < 2:  # noqa: PLR2004 - with one there is nothing to compare
            return _version(entries[0]) if entries else None
        # Both exist if a run that changed the codec was interrupted.
        found = [await self._read(entry) for entry in entries]
        return (await asyncio.to_thread(max, found, key=_mtime)).version

    async def _put(self, name: str, what: dict[str, str], expected: str | None) -> Answer:
        answer = await self._api.send(
            "PUT", self._path(name), {"message": f"Update {name}", "branch": self._branch, **what}
        )
        if answer.status not in CALLER_STATUSES:
            return answer
        refused = refusal(Step.WRITE_INDEX, answer, branch=self._branch)
        if answer.status == HTTPStatus.NOT_FOUND or isinstance(refused, IndexConflictError):
            raise refused
        # Other messages do not tell whether another commit came first.
        raise refused if expected == await self._newest(await self._list()) else IndexConflictError

    async def _list(self) -> tuple[_Entry, ...]:
        """List which of the two files exist. An unchanged listing is free of the rate limit, even if one is missing."""
        answer = await self._api.get(f"{self._repo}/contents/", {"ref": self._branch}, etag=self._etag)
        if answer.status == HTTPStatus.NOT_MODIFIED:
            return self._entries
        if answer.status == HTTPStatus.NOT_FOUND:  # an empty repository, too
            self._etag, self._entries = None, ()
            return ()
        try:
            found = [msgspec.convert(one, _Entry) for one in answer.data]
        except (msgspec.ValidationError, TypeError) as error:
            raise BackendUnavailableError(
                f"GitHub's list of the branch {self._branch!r} cannot be read: {error}."
            ) from error
        self._entries = tuple(entry for entry in found if entry.name in self._names)
        self._etag = answer.headers.get("etag")
        return self._entries

    async def _read(self, entry: _Entry) -> StoredIndex:
        if entry.size > max_index_bytes(entry.name):
            return StoredIndex(entry.name, b"", _version(entry))
        # Not by `contents`, which leaves out the content of files over a megabyte.
        answer = await self._api.get(f"{self._repo}/git/blobs/{entry.sha}", longest=BLOB_BYTES)
        try:
            content = base64.b64decode(answer.data["content"])
        except (KeyError, TypeError, binascii.Error) as error:
            raise BackendUnavailableError(
                f"GitHub does not show the content of {entry.name} (status {answer.status}); try again."
            ) from error
        return StoredIndex(entry.name, content, _version(entry))

    def _path(self, name: str) -> str:
        return f"{self._repo}/contents/{quote(name)}"


def _version(entry: _Entry) -> str:
    return f"{entry.name}:{entry.sha}"


def _mtime(stored: StoredIndex) -> int:
    try:
        return decode_index(stored.content, stored.filename).mtime
    except PywharfError:
        return -1
