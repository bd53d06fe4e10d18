"""Answer with a file's content, whole or in part: from this machine, passed on, or as it arrives from another index."""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec
from aiohttp import hdrs, web

from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.core.model import File
from pywharf.core.os_errors import of_opening
from pywharf.core.ranges import parse_range
from pywharf.index.ports import LocalContent, RedirectContent, StreamContent
from pywharf.index.ports.served_content import CachedContent, FetchableContent, GrowingContent, ServedContent
from pywharf.index.threads import CALL_S, on_storage

_logger = logging.getLogger(__name__)
_SMALL = 256 * 1024
"""Bytes up to which a file is read into memory instead of being sent by the kernel."""
_PIECE = 256 * 1024
"""Bytes of a file of unknown size that are sent in one step."""
_BUFFERED = 512 * 1024
"""Bytes of a stream that may wait for a slow client before reading pauses; one chunk may come on top."""


async def send(
    request: web.Request, content: ServedContent | GrowingContent, found: File, headers: dict[str, str]
) -> web.StreamResponse:
    """Answer with the content of a file that was found, or with the requested part of it.

    Raises RangeNotSatisfiableError, and what opening or fetching the content raises.
    """
    match content:
        case RedirectContent(url):
            return web.Response(status=302, headers={**headers, "Location": url, "Cache-Control": "private, no-store"})
        case LocalContent():
            return await _send_local(request, content, found, headers)
        case StreamContent():
            return await _send_stream(request, content, found, headers)
        case CachedContent():
            return await _send_cached(request, content, found, headers)
        case FetchableContent():
            return await _send_fetchable(request, content, found, headers)
        case GrowingContent():
            return await _send_growing(request, content, found, headers)


async def _send_cached(
    request: web.Request, content: CachedContent, found: File, headers: dict[str, str]
) -> web.StreamResponse:
    try:
        return await _send_local(request, content.local, found, headers)
    except (NotFoundError, BackendUnavailableError):
        if request.writer.output_size:
            raise
    return await _send_fetchable(request, content.otherwise, found, headers)


async def _send_fetchable(
    request: web.Request, content: FetchableContent, found: File, headers: dict[str, str]
) -> web.StreamResponse:
    if request.method != hdrs.METH_HEAD:
        return await send(request, await content.begin(), found, headers)
    length = {} if content.size is None else {"Content-Length": str(content.size)}
    return web.Response(headers={**headers, **length})


async def _send_growing(
    request: web.Request, content: GrowingContent, found: File, headers: dict[str, str]
) -> web.StreamResponse:
    """Send a file while it is fetched. If it turns out to be wrong, only closing the connection can say so."""
    with content.file:
        if content.size is None:
            del headers["Accept-Ranges"]
            position, end, status = 0, None, 200
        else:
            position, last, status = _range(request, content.size, headers)
            end = last + 1
        until = await content.ready(position, end)  # a small file is complete here, so its failure is an answer
        response = web.StreamResponse(status=status, headers=headers)
        if end is not None:
            response.content_length = end - position
            await response.prepare(request)
            while position < end:
                if await _send_piece(request, content.file, position, until - position) != until - position:
                    _break_off(request, found)
                position = until
                until = await content.ready(position, end)
        else:
            # In chunks, of which the last is missing if the content is wrong.
            response.enable_chunked_encoding()
            await response.prepare(request)
            while until > position:
                count = min(until - position, _PIECE)
                await response.write(await on_storage(CALL_S, os.pread, content.file.fileno(), count, position))
                position += count
                until = until if position < until else await content.ready(position, end)
        await response.write_eof()
        return response


async def _send_piece(request: web.Request, file: BinaryIO, first: int, count: int) -> int:
    """Let the kernel send bytes of an open file, after the response's head. Returns how many it sent."""
    if request.transport is None:
        raise ConnectionResetError("the client is gone")
    return await asyncio.get_running_loop().sendfile(request.transport, file, first, count)


def _range(request: web.Request, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """Return the first and last byte to send, and the status. An If-Range with another tag asks for the whole file."""
    header = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    # Ranges are defined for GET only (RFC 9110, section 14.2).
    if header is None or request.method != hdrs.METH_GET:
        return 0, size - 1, 200
    if condition is not None and condition.strip() != headers.get("ETag"):
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
        if await _send_piece(request, part.file, part.first, part.count) != part.count:
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
    if request.method == "HEAD":
        await response.prepare(request)
    else:
        chunks = content.open(first, last)
        chunk = await anext(chunks, b"")  # before the head, so that a failure is still an answer
        await response.prepare(request)
        if request.transport is not None:
            # With the default of 64 KiB a server sleeps and wakes several times for each chunk.
            request.transport.set_write_buffer_limits(high=_BUFFERED)
        left -= len(chunk)
        await response.write(chunk)
        async for chunk in chunks:
            left -= len(chunk)
            await response.write(chunk)
        if left:
            _break_off(request, found)
    await response.write_eof()
    return response
