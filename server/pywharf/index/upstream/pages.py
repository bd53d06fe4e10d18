"""The extra index: which names may be looked up there, and the parser of its pages."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import msgspec

from pywharf.core.errors import UpstreamError
from pywharf.core.filenames import MAX_FILENAME
from pywharf.core.html_tags import start_tags
from pywharf.core.model import STATUSES, File, Project
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = {"application/vnd.pypi.simple.v1+html", "text/html"}
_TAGS = frozenset({"a", "base", "meta"})
MAX_FILES = 100_000
"""Files of a page; the largest projects of PyPI have a fifth of that."""
_MAX_TEXT = 16 * 1024
"""Characters of all texts about one file; real files need some hundreds."""
_DIGEST_LENGTH = 64
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_MAX_DIGITS = 18
_SEPARATOR = re.compile(r"[/\\:?#%]")
"""What a path, a URL, or a program that decodes a name once more takes as the end of a part of it."""
_SEPARATORS = re.compile(r"[-_.]+")
_HASH = re.compile(r"(?:md5|sha1|sha224|sha256|sha384|sha512|blake2b)=[0-9a-fA-F]+\Z")
"""A fragment of a link that is kept. Clients would read others, such as `egg=foo-1.0`, as a file's version."""


def matches(name: ProjectName, patterns: Iterable[str]) -> bool:
    """Return whether a name matches a pattern (`acme-*`). In patterns '-', '_', '.' and runs of them are the same."""
    return any(fnmatch.fnmatchcase(name, _SEPARATORS.sub("-", pattern.lower())) for pattern in patterns)


def may_look_up(name: ProjectName, *, owned: bool, reserved: Iterable[str], allow_shadowing: Iterable[str]) -> bool:
    """Return whether a name may be looked up in the extra index.

    Owned and reserved names may not, unless `allow_shadowing` matches them: nobody else may take their place.
    """
    return matches(name, allow_shadowing) or not (owned or matches(name, reserved))


def parse_page(name: ProjectName, content: bytes, content_type: str, url: str) -> Project:
    """Parse a project page of another index; each file's `location` is absolute.

    `url` is the page's own URL. Raises UpstreamError for another content type or a malformed page.
    """
    is_json = kind_of(content_type, repr(name)) == "json"
    return _parse_json(name, content, url) if is_json else _parse_html(name, content, url)


def parse_page_to_show(name: ProjectName, content: bytes, content_type: str, url: str) -> Project:
    """Parse a page as `parse_page` does, without the files whose names could be taken for others.

    pip reads project and version from the link, so a file whose link ends in another name could be another one than
    policies decide about. A copy, which shows nothing, reports such files instead.
    """
    project = parse_page(name, content, content_type, url)
    files = tuple(filter(_may_be_shown, project.files))
    return project if len(files) == len(project.files) else msgspec.structs.replace(project, files=files)


def kind_of(content_type: str, what: str) -> Literal["json", "html"]:
    """Return the format that a Content-Type names. Raises UpstreamError if that is not one of the Simple API."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _JSON:
        return "json"
    if kind in _HTML:
        return "html"
    raise UpstreamError(f"The index answered for {what} with the type {kind[:80]!r}, which is no Simple API page.")


class _Hashes(msgspec.Struct, frozen=True):
    sha256: str = ""


@warmed_up
class _ForeignFile(msgspec.Struct, frozen=True):
    filename: str
    url: str
    hashes: _Hashes = _Hashes()
    requires_python: str | None = msgspec.field(name="requires-python", default=None)
    core_metadata: bool | _Hashes | None = msgspec.field(name="core-metadata", default=None)
    dist_info_metadata: bool | _Hashes | None = msgspec.field(name="dist-info-metadata", default=None)
    size: _Number | None = None
    upload_time: str | None = msgspec.field(name="upload-time", default=None)
    yanked: bool | str = False
    provenance: str | None = None


class _Meta(msgspec.Struct, frozen=True):
    api_version: str | float = msgspec.field(name="api-version", default="1.0")


class _Status(msgspec.Struct, frozen=True):
    status: str = "active"
    reason: str | None = None


@warmed_up
class _ForeignPage(msgspec.Struct, frozen=True):
    files: list[msgspec.Raw]
    """Items of _ForeignFile, decoded after they have been counted."""
    meta: _Meta = _Meta()
    project_status: _Status = msgspec.field(name="project-status", default=_Status())


def _parse_json(name: ProjectName, content: bytes, url: str) -> Project:
    try:
        page = msgspec.json.decode(content, type=_ForeignPage)
        _check(name, str(page.meta.api_version), len(page.files))
        found = [msgspec.json.decode(raw, type=_ForeignFile) for raw in page.files]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The index's page of {name!r} is not a Simple API page: {error}.") from error
    return _project(name, [_from_json(foreign, url) for foreign in found], page.project_status)


@warmed_up
class _SerialMeta(msgspec.Struct, frozen=True):
    last_serial: msgspec.Raw = msgspec.field(name="_last-serial", default=msgspec.Raw(b"null"))


@warmed_up
class _WithSerial(msgspec.Struct, frozen=True):
    meta: _SerialMeta = _SerialMeta()


def last_serial(content: bytes, content_type: str) -> int | None:
    """Return the number of the index's last change to the project, if a JSON page says it (`meta._last-serial`)."""
    if kind_of(content_type, "a page") != "json":
        return None
    try:
        raw = bytes(msgspec.json.decode(content, type=_WithSerial).meta.last_serial)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return int(raw) if raw.isdigit() and len(raw) <= _MAX_DIGITS else None


def _check(name: ProjectName, version: str, files: int) -> None:
    if not version.startswith("1."):
        raise UpstreamError(f"The index's page of {name!r} has the API version {version[:20]!r}, not 1.x.")
    if files > MAX_FILES:
        raise UpstreamError(f"The index's page of {name!r} has more than {MAX_FILES} files.")


def _project(name: ProjectName, files: Iterable[File | None], status: _Status) -> Project:
    return Project(
        name=name,
        files=tuple(f for f in files if f is not None and _is_shown(f)),
        status=status.status if status.status in STATUSES else "active",
        status_reason=status.reason and status.reason[:_MAX_TEXT],
    )


def _is_shown(file: File) -> bool:
    """Return whether the fields are as short as a real file's; longer ones would cost the event loop's time."""
    texts = (file.location, file.requires_python, file.yanked, file.upload_time, file.provenance)
    return len(file.filename) <= MAX_FILENAME and sum(len(t) for t in texts if t is not None) <= _MAX_TEXT


def _from_json(foreign: _ForeignFile, page: str) -> File | None:
    sha256 = _digest(foreign.hashes.sha256)
    location = _location(page, foreign.url, sha256)
    if location is None or not _is_filename(foreign.filename):
        return None
    metadata = foreign.core_metadata if foreign.core_metadata is not None else foreign.dist_info_metadata
    return File(
        filename=foreign.filename,
        sha256=sha256,
        size=foreign.size,
        upload_time=foreign.upload_time,
        requires_python=foreign.requires_python,
        metadata_sha256=_metadata_digest(metadata),
        yanked=_yanked(foreign.yanked),
        location=location,
        provenance=_provenance(foreign.provenance),
    )


def _is_filename(raw: str) -> bool:
    return bool(raw) and "/" not in raw


def _may_be_shown(file: File) -> bool:
    """Return whether the name is one segment of a path and a URL, shows as what it is, and ends the file's link.

    Characters that are invisible, or that change the order of others, are not printable.
    """
    name = file.filename
    is_plain = name.isprintable() and _SEPARATOR.search(name) is None and name not in {".", ".."}
    return is_plain and _last_segment(file.location or "") == name


def _last_segment(location: str) -> str:
    """Return the file's name as its URL has it: pip reads project and version from there, whatever the page says."""
    return unquote(urlsplit(location).path.rpartition("/")[2])


def _metadata_digest(metadata: bool | _Hashes | None) -> str | None:  # noqa: FBT001 - the API's own form
    if isinstance(metadata, _Hashes):
        return _digest(metadata.sha256)
    return "" if metadata else None


def _yanked(yanked: bool | str) -> str | None:  # noqa: FBT001 - the API's own form
    if isinstance(yanked, str):
        return yanked
    return "" if yanked else None


def _provenance(url: str | None) -> str | None:
    """Return the URL if it is a whole one with TLS, as the API requires."""
    return url if url is not None and url.startswith("https://") and _absolute(url, url) == url else None


def _digest(raw: str) -> str:
    """Return a SHA-256 in lowercase hex, or "" if the text is not one."""
    valid = len(raw) == _DIGEST_LENGTH and all(c in "0123456789abcdefABCDEF" for c in raw)
    return raw.lower() if valid else ""


def _absolute(page: str, link: str) -> str | None:
    """Return the link's absolute URL, or None if it is not http(s): no page may bring a script or a local file."""
    try:
        url = urljoin(page, link)
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname else None


def _location(base: str, link: str, sha256: str) -> str | None:
    """Return the file's absolute URL, or None. The fragment is kept if it is the only hash."""
    url = _absolute(base, link)
    if url is None:
        return None
    plain, fragment = urldefrag(url)
    return url if not sha256 and _HASH.match(fragment) else plain


def _parse_html(name: ProjectName, content: bytes, url: str) -> Project:
    base: str | None = None
    files: list[File | None] = []
    said: dict[str, str] = {}
    try:
        for tag, given in start_tags(content.decode("utf-8", "replace"), _TAGS):
            if tag == "a" and "href" in given:
                files.append(_from_anchor(given, base or url))
                _check(name, "1.0", len(files))
            elif tag == "base" and base is None and "href" in given:
                base = _absolute(url, given["href"])
            elif tag == "meta":
                said.setdefault(given.get("name", ""), given.get("content", ""))
    except ValueError as error:  # a character reference of thousands of digits
        raise UpstreamError(f"The index's page of {name!r} cannot be read: {error}.") from error
    _check(name, said.get("pypi:repository-version", "1.0"), len(files))
    status = _Status(said.get("pypi:project-status", "active"), said.get("pypi:project-status-reason"))
    return _project(name, files, status)


def _from_anchor(given: Mapping[str, str], base: str) -> File | None:
    algorithm, _, digest = given["href"].strip().partition("#")[2].partition("=")
    sha256 = _digest(digest) if algorithm == "sha256" else ""
    location = _location(base, given["href"], sha256)
    filename = _last_segment(location) if location is not None else ""
    if not _is_filename(filename):
        return None
    metadata = given.get("data-core-metadata", given.get("data-dist-info-metadata"))
    return File(
        filename=filename,
        sha256=sha256,
        requires_python=given.get("data-requires-python"),
        metadata_sha256=None if metadata is None else _digest(metadata.removeprefix("sha256=")),
        yanked=given.get("data-yanked"),
        location=location,
        provenance=_provenance(given.get("data-provenance")),
    )
