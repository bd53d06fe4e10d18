"""The top folder of a branch: its files are listed by one conditional request, read as blobs, and replaced by CAS."""

import base64
import binascii
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from pywharf.backends.github.answer import Answer
from pywharf.backends.github.api import BLOB_BYTES, GithubApi
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.msgspec_warmup import warmed_up


@warmed_up
class Entry(msgspec.Struct, frozen=True):
    """A file of the branch."""

    name: str
    sha: str
    size: int = 0


class BranchFolder:
    """The files with the given names in a branch's top folder."""

    def __init__(self, api: GithubApi, owner: str, repo: str, branch: str, names: Iterable[str]) -> None:
        self.branch = branch
        self._api = api
        self._repo = f"/repos/{owner}/{repo}"
        self._names = frozenset(names)
        self._etag: str | None = None
        self.entries: tuple[Entry, ...] = ()
        """The files that the last listing showed."""

    @property
    def is_listed(self) -> bool:
        """Whether `entries` are those of a listing, with no write of this process since."""
        return self._etag is not None

    def forget(self) -> None:
        """Forget the listing after a write."""
        self._etag = None

    def find(self, *names: str) -> tuple[Entry, ...]:
        """Return the entries of those names in the last listing."""
        return tuple(entry for entry in self.entries if entry.name in names)

    async def list(self) -> None:
        """List which of the files exist. An unchanged listing is free of the rate limit, even if one is missing."""
        answer = await self._api.get(f"{self._repo}/contents/", {"ref": self.branch}, etag=self._etag)
        if answer.status == HTTPStatus.NOT_MODIFIED:
            return
        if answer.status == HTTPStatus.NOT_FOUND:  # an empty repository, too
            self._etag, self.entries = None, ()
            return
        try:
            found = [msgspec.convert(one, Entry) for one in answer.data]
        except (msgspec.ValidationError, TypeError) as error:
            raise BackendUnavailableError(
                f"GitHub's list of the branch {self.branch!r} cannot be read: {error}."
            ) from error
        self.entries = tuple(entry for entry in found if entry.name in self._names)
        self._etag = answer.headers.get("etag")

    async def read(self, entry: Entry) -> bytes:
        """Read a file. Its size is checked by the caller."""
        # Not by `contents`, which leaves out the content of files over a megabyte.
        answer = await self._api.get(f"{self._repo}/git/blobs/{entry.sha}", longest=BLOB_BYTES)
        try:
            return base64.b64decode(answer.data["content"])
        except (KeyError, TypeError, binascii.Error) as error:
            raise BackendUnavailableError(
                f"GitHub does not show the content of {entry.name} (status {answer.status}); try again."
            ) from error

    async def put(self, name: str, content: bytes, replaced: Entry | None, api: GithubApi | None = None) -> Answer:
        """Replace a file if it is still `replaced`, or write a new one. The caller checks the answer's status."""
        data = {"message": f"Update {name}", "branch": self.branch, "content": base64.b64encode(content).decode()}
        sha = {} if replaced is None else {"sha": replaced.sha}
        return await (api or self._api).send("PUT", self._path(name), data | sha)

    async def delete(self, entry: Entry) -> None:
        """Delete a file if it is still that one."""
        data = {"message": f"Remove {entry.name}", "branch": self.branch, "sha": entry.sha}
        await self._api.send("DELETE", self._path(entry.name), data)

    def _path(self, name: str) -> str:
        return f"{self._repo}/contents/{quote(name)}"
