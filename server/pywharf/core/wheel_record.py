"""RECORD of a wheel: the list of its files, each with hash and size (the packaging specifications)."""

import base64
import csv
import hashlib
import io
from collections.abc import Callable
from typing import Protocol

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.zip_directory import ZipMember
from pywharf.core.zip_reading import Digest

MAX_RECORD_BYTES = 64 * 1024 * 1024
_SIGNATURES = (".jws", ".p7s")
"""Suffixes of RECORD's signatures, which RECORD may or may not list."""
_ALGORITHMS: dict[str, Callable[..., "_Hash"]] = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha224": hashlib.sha224,
    "sha1": hashlib.sha1,
    "md5": hashlib.md5,
}
"""Hash algorithms of existing wheels; the specification now allows only the first three."""
_MAX_SIZE_DIGITS = 20


class _Hash(Digest, Protocol):
    def digest(self) -> bytes: ...


class WheelRecord:
    """The rows of RECORD for files that were not read yet. Checks the files one by one as the zip is read."""

    def __init__(self, raw: bytes, path: str, shown: str, max_members: int) -> None:
        """Parse RECORD, whose own path is `path`. Raises InvalidDistributionError."""
        self._path = path
        self._shown = shown
        self._exempt = {path, *(path + suffix for suffix in _SIGNATURES)}
        self._rows: dict[str, str] = {}
        self._digest: _Hash | None = None
        text = io.TextIOWrapper(io.BytesIO(raw), "utf-8", "surrogateescape", newline=None)
        try:
            for row in csv.reader(text):
                self._add(row)
                if len(self._rows) > max_members:
                    raise InvalidDistributionError(f"{path!r} in {shown!r} lists more than {max_members} files.")
        except csv.Error as error:
            raise InvalidDistributionError(f"{path!r} in {shown!r} is not a readable list: {error}.") from error

    def _add(self, row: list[str]) -> None:
        listed = row[0].replace("\\", "/") if row else ""
        # The specification lists no folders, but some tools write them.
        if not listed or listed.endswith("/"):
            return
        listed = listed.removeprefix("./").removeprefix("/")
        said = ",".join(part.strip() for part in (*row[1:3], "", "")[:2])
        before = self._rows.get(listed)
        if before is not None and before != said and "," not in {before, said} and listed not in self._exempt:
            raise InvalidDistributionError(
                f"{self._path!r} in {self._shown!r} lists {listed[:200]!r} twice, each time otherwise."
            )
        if before is None or before == ",":
            self._rows[listed] = said

    def begin(self, member: ZipMember) -> Digest | None:
        """Return a hash object for the member, by RECORD's algorithm. Raises InvalidDistributionError if unlisted."""
        self._digest = None
        if member.is_folder or member.path in self._exempt:
            return None
        said = self._rows.get(self._listed_as(member))
        if said is None:
            raise InvalidDistributionError(
                f"{self._path!r} in {self._shown!r} does not list {member.path[:200]!r}. Write it anew "
                "(`wheel unpack`, `wheel pack`), or build the wheel again."
            )
        algorithm = said.partition("=")[0].lower()
        begin = _ALGORITHMS.get(algorithm)
        self._digest = begin(usedforsecurity=False) if begin is not None else None
        return self._digest

    def end(self, member: ZipMember) -> None:
        """Check a member that was read against its row. Raises InvalidDistributionError if they differ."""
        if member.is_folder or member.path in self._exempt:
            return
        said, _, size = self._rows.pop(self._listed_as(member)).rpartition(",")
        if size and not (
            size.isascii() and size.isdigit() and len(size) <= _MAX_SIZE_DIGITS and int(size) == member.size
        ):
            raise InvalidDistributionError(
                f"{self._path!r} in {self._shown!r} gives {member.path[:200]!r} {size[:40]!r} bytes; "
                f"it has {member.size}."
            )
        if self._digest is not None:
            actual = self._digest.digest()
            found = said.partition("=")[2].rstrip("=")
            if found != _base64(actual) and found not in _spellings(actual):
                raise InvalidDistributionError(
                    f"{self._path!r} in {self._shown!r} gives {member.path[:200]!r} the hash {said[:120]!r}; "
                    f"it has {_base64(actual)!r}."
                )

    def check_complete(self) -> None:
        """Raise InvalidDistributionError if RECORD lists a file that the wheel does not hold."""
        left = sorted(path for path in self._rows if path not in self._exempt)
        if left:
            raise InvalidDistributionError(
                f"{self._path!r} in {self._shown!r} lists {left[0][:200]!r}, which the wheel does not hold"
                f"{f' ({len(left)} such files)' if len(left) > 1 else ''}. Build the wheel again."
            )

    def _listed_as(self, member: ZipMember) -> str:
        if member.path in self._rows or member.raw_path.isascii():
            return member.path
        # Python's zipfile reads paths that are not marked as UTF-8 as CP437.
        return member.raw_path.decode("cp437")


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _spellings(digest: bytes) -> tuple[str, ...]:
    """Return the forms in which tools write a hash: the specification's, base64's other alphabet, hex (uv, furo)."""
    standard = base64.b64encode(digest).rstrip(b"=").decode()
    return _base64(digest), standard, digest.hex(), digest.hex().upper()
