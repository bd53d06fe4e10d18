"""The Simple Repository API: pages, files, metadata."""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec
from aiohttp import hdrs, web

from pywharf.core.access.permission import Permission
from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File
from pywharf.core.names import ProjectName, normalize
from pywharf.core.negotiation import PageFormat, accepts_gzip, negotiate
from pywharf.core.os_errors import of_opening
from pywharf.core.ranges import parse_range
from pywharf.index.bounded_repository import SeenRepository
from pywharf.index.page_cache import Page
from pywharf.index.ports import Content, LocalContent, RedirectContent, StreamContent
from pywharf.index.threads import CALL_S, on_storage
from pywharf.web.auth import authorize
from pywharf.web.keys import SERVED_FILES
from pywharf.web.problems import nothing_at

_logger = logging.getLogger(__name__)
_VARY = "Accept, Accept-Encoding, Authorization, Cookie"
_FILE_VARY = "Authorization, Cookie, Accept"
_HTML_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of HTML pages. They are strict, because the pages show text from other indexes and from anybody who may
write to the storage, and share their origin with this server's sessions."""
_SMALL = 256 * 1024
"""Bytes up to which a file is read into memory instead of being sent by the kernel."""
_PIECE = 1024 * 1024
"""Bytes of a page that are written in one step."""
_BUFFERED = 512 * 1024
"""Bytes of a stream that may wait for a slow client before reading pauses; one chunk may come on top."""


async def root(request: web.Request) -> web.StreamResponse:
    """Answer GET …/simple/ with the list of all projects."""
    repository = (await authorize(request, Permission.READ)).repository
    page_format = negotiate(request.headers.get("Accept", ""))
    return await _page(request, await repository.root_page(page_format), page_format)


async def project(request: web.Request) -> web.StreamResponse:
    """Answer GET …/simple/<project>/ with the list of one project's files."""
    repository = (await authorize(request, Permission.READ)).repository
    raw = request.match_info["project"]
    name = normalize(raw)
    if name != raw:
        return _moved(request, f"../{name}/")
    page_format = negotiate(request.headers.get("Accept", ""))
    return await _page(request, await repository.project_page(name, page_format), page_format)


async def without_slash(request: web.Request) -> web.StreamResponse:
    """Redirect GET …/simple or …/simple/<project> to the same address with a slash (PEP 503)."""
    await authorize(request, Permission.READ)
    raw = request.match_info.get("project")
    return _moved(request, f"{normalize(raw)}/" if raw is not None else "simple/")


async def file(request: web.Request) -> web.StreamResponse:
    """Answer GET …/simple/<project>/<file> with the file, or with its metadata if `.metadata` is appended (PEP 658)."""
    repository = (await authorize(request, Permission.READ)).repository
    name = normalize(request.match_info["project"])
    filename = request.match_info["filename"]
    if filename.endswith(METADATA_SUFFIX):
        return await _metadata(request, repository, name, filename.removesuffix(METADATA_SUFFIX))
    found = await repository.find_file(name, filename)
    headers = {
        "ETag": f'"{found.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Vary": _FILE_VARY,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    content = await repository.open_file(name, found)
    if (served_files := request.app.get(SERVED_FILES)) is not None and request.method == hdrs.METH_GET:
        served_files.note(repository.name, name, found.filename)
    return await _send(request, content, found, headers)


async def nothing(request: web.Request) -> web.StreamResponse:
    """Answer GET of any other address in a repo: 404."""
    await authorize(request, Permission.READ)
    raise nothing_at(request)


async def _page(request: web.Request, page: Page, page_format: PageFormat) -> web.StreamResponse:
    body, etag, encoding = page.body, page.etag, None
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        gzipped = await page.gzipped()
        if gzipped is not None:
            body, etag, encoding = gzipped, page.gzip_etag, "gzip"
    headers = {
        "ETag": etag,
        "Cache-Control": "private, max-age=0, must-revalidate",
        "Vary": _VARY,
        "Content-Type": page_format.content_type,
    }
    if _matches(request, etag):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    if encoding:
        headers["Content-Encoding"] = encoding
    if page_format is not PageFormat.JSON:
        headers.update(_HTML_HEADERS)
    if len(body) <= _PIECE or request.method == hdrs.METH_HEAD:
        return web.Response(body=body, headers=headers)
    # Send pieces: a slow client then needs no copy of the page, and other clients do not wait for the copying.
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), _PIECE):
        await response.write(body[start : start + _PIECE])
    await response.write_eof()
    return response


def _matches(request: web.Request, etag: str) -> bool:
    """Return whether If-None-Match names the tag (RFC 9110, section 13.1.2; weak comparison)."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return etag in tags or "*" in tags


def _moved(request: web.Request, location: str) -> web.Response:
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    headers = {"Location": location + query, "Cache-Control": "private", "Vary": _VARY}
    return web.Response(status=301, headers=headers)


async def _metadata(
    request: web.Request, repository: SeenRepository, name: ProjectName, filename: str
) -> web.StreamResponse:
    found = await repository.find_file(name, filename)
    if found.metadata_sha256 is None:
        raise NotFoundError(f"{filename!r} has no core metadata file.")
    headers = {
        "ETag": f'"{found.metadata_sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Vary": _FILE_VARY,
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=await repository.read_metadata(name, found), headers=headers)


async def _send(request: web.Request, content: Content, found: File, headers: dict[str, str]) -> web.StreamResponse:
    match content:
        case RedirectContent(url):
            return web.Response(status=302, headers={**headers, "Location": url, "Cache-Control": "private, no-store"})
        case LocalContent():
            return await _send_local(request, content, found, headers)
        case StreamContent():
            return await _send_stream(request, content, found, headers)


def _range(request: web.Request, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """Return the first and last byte to send, and the status. An If-Range with another tag asks for the whole file."""
    header = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    # Ranges are defined for GET only (RFC 9110, section 14.2).
    if header is None or request.method != hdrs.METH_GET:
        return 0, size - 1, 200
    if condition is not None and condition.strip() != headers["ETag"]:
        return 0, size - 1, 200
    wanted = parse_range(header, size)
    if wanted is None:
        return 0, size - 1, 200
    headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1]}/{size}"
    return *wanted, 206


class _Part(msgspec.Struct):
    """The part of a file to send: the bytes themselves if they are few, otherwise `count` of an open file."""

    status: int
    first: int
    count: int
    content: bytes | None
    file: BinaryIO | None


async def _send_local(
    request: web.Request, content: LocalContent, found: File, headers: dict[str, str]
) -> web.StreamResponse:
    # One call in a thread: for a small file a second call would cost more than everything else.
    part = await on_storage(CALL_S, _begin, request, content, found, headers)
    if part.file is None:
        if request.method == "HEAD":
            return web.Response(status=part.status, headers={**headers, "Content-Length": str(part.count)})
        return web.Response(status=part.status, headers=headers, body=part.content)
    with part.file:
        response = web.StreamResponse(status=part.status, headers=headers)
        response.content_length = part.count
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        if await asyncio.get_running_loop().sendfile(transport, part.file, part.first, part.count) != part.count:
            _break_off(request, found)
        await response.write_eof()
        return response


def _begin(request: web.Request, local: LocalContent, found: File, headers: dict[str, str]) -> _Part:
    opened = _open(local.path, found)
    with contextlib.ExitStack() as stack:
        stack.callback(opened.close)
        size = os.fstat(opened.fileno()).st_size
        if found.size is not None and size != found.size:
            raise BackendUnavailableError(
                f"The file {found.filename!r} in the storage has not the size that the index says; run update_index."
            )
        if local.check is not None:
            local.check(opened)
        first, last, status = _range(request, size, headers)
        count = last - first + 1
        if request.method == "HEAD":
            return _Part(status, first, count, None, None)
        if count <= _SMALL:
            return _Part(status, first, count, _read(opened, first, count, found), None)
        stack.pop_all()
        return _Part(status, first, count, None, opened)


def _open(path: Path, found: File) -> BinaryIO:
    try:
        return path.open("rb", 0)  # a buffer would cost a small file three more system calls
    except OSError as error:
        raise of_opening(error, found.filename) from error


def _read(opened: BinaryIO, first: int, count: int, found: File) -> bytes:
    content = os.pread(opened.fileno(), count, first)
    if len(content) != count:
        raise BackendUnavailableError(f"The file {found.filename!r} in the storage became shorter while it was read.")
    return content


def _break_off(request: web.Request, found: File) -> NoReturn:
    """Abort the connection: nothing else shows the client that fewer bytes came than were announced."""
    _logger.error("The file %s in the storage became shorter while it was sent.", found.filename)
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the file became shorter")


async def _send_stream(
    request: web.Request, content: StreamContent, found: File, headers: dict[str, str]
) -> web.StreamResponse:
    first, last, status = _range(request, content.size, headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = left = last - first + 1
    await response.prepare(request)
    if request.method != "HEAD":
        if request.transport is not None:
            # With the default of 64 KiB a server sleeps and wakes several times for each chunk.
            request.transport.set_write_buffer_limits(high=_BUFFERED)
        async for chunk in content.open(first, last):
            left -= len(chunk)
            await response.write(chunk)
        if left:
            _break_off(request, found)
    await response.write_eof()
    return response
