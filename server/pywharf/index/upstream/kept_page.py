"""A project's page of another index as the cache keeps it. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File, Project
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName

_FORMAT = 1
MAX_BYTES = 64 * 1024 * 1024
"""Bytes of a kept page; a larger one is not kept."""
_MAX_VANISHED = 10_000
"""Files of a project that its page no longer lists, whose digests are remembered."""


class KeptPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page, and what is known about it. Its files are sorted by name, each name once."""

    project: Project
    confirmed: float
    """Unix seconds at which the index last said that the page is like this."""
    etag: str = ""
    serial: int | None = None
    vanished: Mapping[str, str] = {}
    """The first digests of files that the page no longer lists, by name."""
    is_lost: bool = False
    """Whether the index has said since that it has no such project."""


@warmed_up
class _Document(msgspec.Struct, frozen=True):
    format: int
    url: str
    """The index."""
    page: KeptPage


def key_of(url: str, scope: str, name: ProjectName) -> str:
    """Return the key of a page in the store. `scope` stands for the credentials, without which nobody is given it."""
    return hashlib.sha256(f"page\0{url}\0{scope}\0{name}".encode()).hexdigest()


def encode(url: str, page: KeptPage) -> bytes | None:
    """Return the page's document, or None if it is too large to be kept."""
    content = msgspec.msgpack.encode(_Document(_FORMAT, url, page))
    return content if len(content) <= MAX_BYTES else None


def decode(content: bytes, url: str, name: ProjectName) -> KeptPage | None:
    """Return the page of a document, or None if it is another's, or of another version of the program."""
    try:
        document = msgspec.msgpack.decode(content, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    fits = document.format == _FORMAT and document.url == url and document.page.project.name == name
    return document.page if fits else None


def to_keep(project: Project) -> Project:
    """Return an index's project as it is kept: sorted, each name once, without what cannot be served from here.

    Metadata without a digest cannot be verified, so the files are kept as if they had none.
    """
    files: dict[str, File] = {}
    for file in project.files:
        if file.filename in {".", ".."} or file.filename.endswith(METADATA_SUFFIX):
            continue
        if file.metadata_sha256 == "":
            file = msgspec.structs.replace(file, metadata_sha256=None)  # noqa: PLW2901 - the same file
        files.setdefault(file.filename, file)
    return msgspec.structs.replace(project, files=tuple(files[name] for name in sorted(files)))


def is_older(serial: int | None, kept: int | None) -> bool:
    """Return whether an index's serial is lower than the kept page's: what answers has not caught up."""
    return serial is not None and kept is not None and serial < kept


class Merged(msgspec.Struct, frozen=True):
    """A new page whose files have the digests that they had first."""

    project: Project
    vanished: Mapping[str, str]
    changed: tuple[str, ...]
    """The names of the files to which the index gives another digest now."""


def merge(project: Project, kept: KeptPage) -> Merged:
    """Return the new page with the first digest of each file: the content of a name never changes here."""
    before = {file.filename: file for file in kept.project.files}
    vanished = dict(kept.vanished)
    files: list[File] = []
    changed: list[str] = []
    for file in project.files:
        known = before.pop(file.filename, None)
        first = known.sha256 if known is not None else vanished.pop(file.filename, "")
        if not first or file.sha256 == first:
            files.append(file)
            continue
        changed.append(file.filename)
        # The other fields belong to the other content.
        fields: dict[str, Any] = {"size": None, "metadata_sha256": None} if known is None else {}
        files.append(
            msgspec.structs.replace(file, sha256=first, **fields)
            if known is None
            else msgspec.structs.replace(known, yanked=file.yanked)
        )
    vanished |= {name: file.sha256 for name, file in before.items() if file.sha256}
    bounded = dict(list(vanished.items())[-_MAX_VANISHED:])
    return Merged(msgspec.structs.replace(project, files=tuple(files)), bounded, tuple(changed))
