"""Parse a uv.lock. Its format is uv's own; version 1 is the only one."""

from typing import Any

import msgspec

from pywharf.core import toml_text
from pywharf.core.errors import InvalidConfigError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.lock_files.pins import Draft, Lock, LockedFile, filename_of, sha256_of

_VERSION = 1


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    url: str | None = None
    filename: str | None = None
    path: str | None = None
    hash: str | None = None
    upload_time: str | None = None
    size: int | None = None


class _Package(msgspec.Struct, frozen=True):
    name: str
    source: dict[str, Any]
    version: str | None = None
    sdist: _File | None = None
    wheels: tuple[_File, ...] = ()


@warmed_up
class _UvLock(msgspec.Struct, frozen=True):
    version: int
    package: tuple[_Package, ...] = ()


def parse_uv_lock(text: str, source: str) -> Lock:
    """Parse a uv.lock. Raises InvalidConfigError that names `source`."""
    try:
        read = msgspec.convert(toml_text.loads(text, source), _UvLock)
    except msgspec.ValidationError as error:
        raise InvalidConfigError(f"{source} is not a uv.lock: {error}.") from error
    draft = Draft(source)
    if read.version != _VERSION:
        draft.fail(f"it has the version {read.version}; this command reads version {_VERSION}.")
    for package in read.package:
        index = package.source.get("registry")
        if not isinstance(index, str):
            if not package.source.keys() & {"editable", "virtual", "directory"}:
                source_url = package.source.get("url") or package.source.get("path")
                given = _File(url=source_url) if isinstance(source_url, str) else None
                direct = (given, package.sdist, *package.wheels)
                draft.direct(package.name, package.name, *(_locked(file) for file in direct if file is not None))
        elif package.version is None:
            draft.fail(f"{package.name[:100]!r} has no version.")
        else:
            files = ((package.sdist,) if package.sdist is not None else ()) + package.wheels
            draft.pin(package.name, package.version, tuple(map(_locked, files)), index)
    return draft.lock()


def _locked(file: _File) -> LockedFile:
    return LockedFile(
        filename=file.filename or filename_of(file.url or file.path or ""),
        sha256=None if file.hash is None else sha256_of(file.hash),
        upload_time=file.upload_time,
        url=file.url,
        size=file.size,
    )
