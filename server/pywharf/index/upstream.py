"""The extra index: what may be looked up there, and reading its pages."""

import fnmatch
import html.parser
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import msgspec

from pywharf.core.errors import UpstreamError
from pywharf.core.model import STATUSES, File, Project
from pywharf.core.names import ProjectName

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = {"application/vnd.pypi.simple.v1+html", "text/html"}
_DIGEST_LENGTH = 64


def matches(name: ProjectName, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of the patterns (`acme-*`), in which '-', '_' and '.' are the same."""
    return any(fnmatch.fnmatchcase(name, pattern.lower().replace("_", "-").replace(".", "-")) for pattern in patterns)


def may_look_up(name: ProjectName, *, owned: bool, reserved: Iterable[str], allow_shadowing: Iterable[str]) -> bool:
    """Whether the extra index may be asked for a name: never for one's own, so that nobody can take its place."""
    return matches(name, allow_shadowing) or not (owned or matches(name, reserved))


def parse_page(name: ProjectName, content: bytes, content_type: str, url: str) -> Project:
    """A project page of another index; each file's `location` is absolute.

    `url` is where the page came from. Raises UpstreamError for another type or a broken page.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _JSON:
        return _parse_json(name, content, url)
    if kind in _HTML:
        return _parse_html(name, content, url)
    msg = f"The extra index answered for {name!r} with the type {kind[:80]!r}, which is no Simple API page."
    raise UpstreamError(msg)


class _ForeignFile(msgspec.Struct, frozen=True):
    filename: str
    url: str
    hashes: dict[str, str] = {}
    requires_python: str | None = msgspec.field(name="requires-python", default=None)
    core_metadata: bool | dict[str, str] | None = msgspec.field(name="core-metadata", default=None)
    dist_info_metadata: bool | dict[str, str] | None = msgspec.field(name="dist-info-metadata", default=None)
    size: int | None = None
    upload_time: str | None = msgspec.field(name="upload-time", default=None)
    yanked: bool | str = False


class _ForeignPage(msgspec.Struct, frozen=True):
    files: list[_ForeignFile]
    meta: dict[str, Any] = {}
    project_status: dict[str, str] = msgspec.field(name="project-status", default_factory=dict)


def _parse_json(name: ProjectName, content: bytes, url: str) -> Project:
    try:
        page = msgspec.json.decode(content, type=_ForeignPage)
    except msgspec.MsgspecError as error:
        msg = f"The extra index's page of {name!r} is not a Simple API page: {error}."
        raise UpstreamError(msg) from error
    version = str(page.meta.get("api-version", "1.0"))
    if not version.startswith("1."):
        msg = f"The extra index's page of {name!r} has the API version {version[:20]!r}, not 1.x."
        raise UpstreamError(msg)
    files = []
    for foreign in page.files:
        location = _absolute(url, foreign.url)
        if location is None:
            continue
        metadata = foreign.core_metadata if foreign.core_metadata is not None else foreign.dist_info_metadata
        files.append(
            File(
                filename=foreign.filename,
                sha256=_digest(foreign.hashes.get("sha256", "")),
                size=foreign.size,
                upload_time=foreign.upload_time,
                requires_python=foreign.requires_python,
                metadata_sha256=_metadata_digest(metadata),
                yanked=_yanked(foreign.yanked),
                location=location,
            )
        )
    status = page.project_status.get("status", "active")
    return Project(
        name=name,
        files=tuple(files),
        status=status if status in STATUSES else "active",
        status_reason=page.project_status.get("reason"),
    )


def _metadata_digest(metadata: bool | dict[str, str] | None) -> str | None:  # noqa: FBT001 - the API's own form
    if not metadata:
        return None
    return _digest(metadata.get("sha256", "")) if isinstance(metadata, dict) else ""


def _yanked(yanked: bool | str) -> str | None:  # noqa: FBT001 - the API's own form
    if isinstance(yanked, str):
        return yanked
    return "" if yanked else None


def _digest(raw: str) -> str:
    """A SHA-256 in hex, or "" for what is none."""
    valid = len(raw) == _DIGEST_LENGTH and all(c in "0123456789abcdefABCDEF" for c in raw)
    return raw.lower() if valid else ""


def _absolute(page: str, link: str) -> str | None:
    """The link's absolute URL; None for what is not http(s), so that no page brings a script or a local file."""
    try:
        url = urljoin(page, link)
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname else None


class _Anchors(html.parser.HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = url
        self.files: list[File] = []
        self.status: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "base" and "href" in given:
            self.base = _absolute(self.base, given["href"]) or self.base
        elif tag == "meta" and given.get("name", "").startswith("pypi:project-status"):
            self.status[given["name"]] = given.get("content", "")
        elif tag == "a" and "href" in given:
            self._add(given)

    def _add(self, given: dict[str, str]) -> None:
        location = _absolute(self.base, given["href"])
        if location is None:
            return
        plain, fragment = urldefrag(location)
        algorithm, _, digest = fragment.partition("=")
        sha256 = _digest(digest) if algorithm == "sha256" else ""
        metadata = given.get("data-core-metadata", given.get("data-dist-info-metadata"))
        self.files.append(
            File(
                filename=unquote(urlsplit(plain).path.rpartition("/")[2]),
                sha256=sha256,
                requires_python=given.get("data-requires-python"),
                metadata_sha256=None if metadata is None else _digest(metadata.removeprefix("sha256=")),
                yanked=given.get("data-yanked"),
                location=plain if sha256 else location,
            )
        )


def _parse_html(name: ProjectName, content: bytes, url: str) -> Project:
    anchors = _Anchors(url)
    anchors.feed(content.decode("utf-8", "replace"))
    anchors.close()
    status = anchors.status.get("pypi:project-status", "active")
    return Project(
        name=name,
        files=tuple(anchors.files),
        status=status if status in STATUSES else "active",
        status_reason=anchors.status.get("pypi:project-status-reason"),
    )
