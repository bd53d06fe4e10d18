"""Safe reading of the core metadata from a wheel or an sdist, on a stream that the caller opened.

Nothing is unpacked. Memory and time are bounded by the limits below, whatever the archive claims about itself.
"""

import gzip
import io
import posixpath
import tarfile
import zipfile
import zlib
from typing import BinaryIO

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import DistributionFilename, Kind
from pywharf.core.metadata import MAX_METADATA_BYTES

MAX_MEMBERS = 200_000
MAX_EXPANSION = 200
"""How many times an sdist's size it may unpack to; far above real ones, far below a decompression bomb."""
_EXPANSION_ALLOWANCE = 64 * 1024 * 1024
_CHUNK = 1024 * 1024
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    UnicodeError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    OverflowError,
)


def read_metadata(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    """The raw core metadata. Raises InvalidDistributionError where the archive is not what its name says."""
    try:
        if filename.kind is Kind.WHEEL:
            return _from_wheel(stream, filename)
        if filename.extension == ".zip":
            return _from_zip_sdist(stream, filename)
        return _from_tar_sdist(stream, filename)
    except _UNREADABLE as error:
        kind = "zip" if filename.extension in {".whl", ".zip"} else "tar.gz"
        reason = str(error) or type(error).__name__
        msg = f"{filename.filename!r} is not a readable {kind} archive: {reason}. Build it again and upload that."
        raise InvalidDistributionError(msg) from error


def _from_wheel(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    with zipfile.ZipFile(stream) as archive:
        members = _checked_members(archive, filename)
        dist_infos = {name.split("/", 1)[0] for name in members if "/" in name and _is_dist_info(name.split("/", 1)[0])}
        own = sorted(d for d in dist_infos if _names_project(d, filename))
        if len(own) != 1:
            msg = (
                f"{filename.filename!r} must hold exactly one folder {filename.project}-{filename.version}.dist-info; "
                f"it has {sorted(dist_infos)[:5]}."
            )
            raise InvalidDistributionError(msg)
        for needed in ("METADATA", "WHEEL", "RECORD"):
            if f"{own[0]}/{needed}" not in members:
                msg = f"{filename.filename!r} is not a wheel: {own[0]}/{needed} is missing."
                raise InvalidDistributionError(msg)
        return _read_member(archive, f"{own[0]}/METADATA", filename)


def _from_zip_sdist(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    with zipfile.ZipFile(stream) as archive:
        members = _checked_members(archive, filename)
        return _read_member(archive, _pkg_info(members, filename), filename)


def _checked_members(archive: zipfile.ZipFile, filename: DistributionFilename) -> set[str]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        msg = f"{filename.filename!r} has {len(infos)} members; at most {MAX_MEMBERS} are taken."
        raise InvalidDistributionError(msg)
    names: set[str] = set()
    for info in infos:
        # `filename` is what zipfile makes of it (cut at a NUL byte); what other tools see is the original.
        _check_path(info.orig_filename, filename)
        if info.filename in names:
            msg = f"{filename.filename!r} holds {info.filename[:200]!r} twice."
            raise InvalidDistributionError(msg)
        names.add(info.filename)
    return names


def _check_path(path: str, filename: DistributionFilename) -> None:
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or ".." in parts or ":" in parts[0]:
        msg = f"{filename.filename!r} holds the path {path[:200]!r}, which would be unpacked outside its folder."
        raise InvalidDistributionError(msg)


def _read_member(archive: zipfile.ZipFile, member: str, filename: DistributionFilename) -> bytes:
    with archive.open(member) as opened:
        return _bounded(opened.read(MAX_METADATA_BYTES + 1), member, filename)


def _bounded(raw: bytes, member: str, filename: DistributionFilename) -> bytes:
    if len(raw) > MAX_METADATA_BYTES:
        msg = f"{member} in {filename.filename!r} is over {MAX_METADATA_BYTES} bytes."
        raise InvalidDistributionError(msg)
    return raw


def _is_dist_info(folder: str) -> bool:
    return folder.endswith(".dist-info")


def _names_project(folder: str, filename: DistributionFilename) -> bool:
    name, _, _ = folder.removesuffix(".dist-info").rpartition("-")
    return filename.has_project(name)


def _pkg_info(names: set[str], filename: DistributionFilename) -> str:
    tops = {name.split("/", 1)[0] for name in names}
    if len(tops) != 1:
        msg = f"{filename.filename!r} is not an sdist: everything must lie in one folder, it has {sorted(tops)[:5]}."
        raise InvalidDistributionError(msg)
    member = posixpath.join(tops.pop(), "PKG-INFO")
    if member not in names:
        msg = f"{filename.filename!r} is not an sdist: {member} is missing."
        raise InvalidDistributionError(msg)
    return member


class _Bounded(io.RawIOBase):
    """A read-only stream that raises InvalidDistributionError once more than `limit` bytes came out of it."""

    def __init__(self, inner: gzip.GzipFile, limit: int, filename: DistributionFilename) -> None:
        super().__init__()
        self._inner = inner
        self._left = limit
        self._filename = filename

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._inner.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            msg = f"{self._filename.filename!r} unpacks to more than {MAX_EXPANSION} times its size."
            raise InvalidDistributionError(msg)
        view[: len(data)] = data
        return len(data)


def _from_tar_sdist(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    limit = size * MAX_EXPANSION + _EXPANSION_ALLOWANCE
    found: dict[str, bytes] = {}
    names: set[str] = set()
    with gzip.GzipFile(fileobj=stream) as unpacked:
        bounded = io.BufferedReader(_Bounded(unpacked, limit, filename), _CHUNK)
        # Stream mode: members come in order, nothing is sought, so each byte is unpacked once.
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in {"", "."}:
                    continue
                _check_path(name, filename)
                _check_member(member, filename)
                names.add(name)
                if len(names) > MAX_MEMBERS:
                    msg = f"{filename.filename!r} has more than {MAX_MEMBERS} members."
                    raise InvalidDistributionError(msg)
                if member.isfile() and name.count("/") == 1 and name.endswith("/PKG-INFO"):
                    opened = archive.extractfile(member)
                    assert opened is not None  # noqa: S101 - it is a file
                    found[name] = _bounded(opened.read(MAX_METADATA_BYTES + 1), name, filename)
        while bounded.read(_CHUNK):  # to the end, so that gzip's checksum is checked
            pass
    member_name = _pkg_info(names, filename)
    if member_name not in found:
        msg = f"{filename.filename!r} is not an sdist: {member_name} is not a file."
        raise InvalidDistributionError(msg)
    return found[member_name]


def _check_member(member: tarfile.TarInfo, filename: DistributionFilename) -> None:
    if member.issym() or member.islnk():
        base = posixpath.dirname(member.name) if member.issym() else ""
        target = posixpath.normpath(posixpath.join(base, member.linkname))
        if target.startswith(("/", "../")) or target == "..":
            msg = f"{filename.filename!r} holds the link {member.name[:200]!r}, which points outside its folder."
            raise InvalidDistributionError(msg)
    elif not (member.isfile() or member.isdir()):
        msg = f"{filename.filename!r} holds {member.name[:200]!r}, which is neither a file, a folder nor a link."
        raise InvalidDistributionError(msg)
