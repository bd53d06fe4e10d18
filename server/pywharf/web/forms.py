"""Readers of forms and small bodies, and the errors of bodies that are not valid forms.

A client's headers never choose a codec (see `pywharf.core.multipart`) or a decompressor: a compressed body may expand
to any size.
"""

import asyncio
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.http import HttpProcessingError

from pywharf.core.errors import InvalidInputError, TooLargeError
from pywharf.core.multipart import UTF_8, FormParser, Part
from pywharf.web.expecting import ask_for_body

UNREADABLE_BODY = (web.RequestPayloadError, HttpProcessingError)
"""The exceptions that reading a malformed body raises."""
UNREADABLE = (*UNREADABLE_BODY, ValueError)
"""The exceptions that reading a body raises if it is not a form."""
_MAX_SHOWN = 200
_MAX_SMALL_FIELDS = 100
_CHUNK = 64 * 1024


def reason_of(error: BaseException) -> str:
    """Return in one line why a body cannot be read."""
    return " ".join(str(error).split())[:_MAX_SHOWN] or type(error).__name__


class Allowance:
    """The number of bytes that a form may still contain."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._left = max_bytes

    def take(self, count: int) -> None:
        """Subtract bytes that arrived. Raises TooLargeError beyond the limit."""
        self._left -= count
        if self._left < 0:
            raise _over(self._max_bytes)


def open_form(request: web.Request) -> FormParser:
    """Return a parser for the body of a multipart form. Raises ValueError."""
    _refuse_packed(request)
    return FormParser(request.headers.get("Content-Type", ""))


def _refuse_packed(request: web.Request) -> None:
    """Raise ValueError for a body with a Content-Encoding, which the server does not decode."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        raise ValueError(f"its Content-Encoding is {coding[:80]!r}; send it as it is")


async def read_small_form(request: web.Request, max_bytes: int, longest_s: float) -> dict[str, str | bytes]:
    """Read a form's fields and, as bytes, its files into memory. The first value of a repeated field counts.

    Limited in bytes, fields and time. Raises InvalidInputError, TooLargeError.
    """
    try:
        _refuse_packed(request)
        _check_charset(request.charset)
        if (request.content_length or 0) > max_bytes:
            raise _over(max_bytes)
        await ask_for_body(request)
        async with asyncio.timeout(longest_s):
            if request.content_type == "multipart/form-data":
                return await _read_multipart(request, Allowance(max_bytes))
            return _read_urlencoded(await _read_body(request, Allowance(max_bytes)))
    except TimeoutError as error:
        raise InvalidInputError(f"The form did not arrive within {longest_s:.0f} seconds.") from error
    except UNREADABLE as error:
        raise InvalidInputError(f"The body is not a form that can be read: {reason_of(error)}.") from error


async def read_json(request: web.Request, max_bytes: int, longest_s: float) -> bytes:
    """Read a JSON body into memory. Raises InvalidInputError, TooLargeError.

    A form of another site cannot have this Content-Type, so a browser's session alone sends no such body.
    """
    if request.content_type != "application/json":
        raise InvalidInputError(f"Content-Type is {request.content_type[:80]!r}; send application/json.")
    return await read_body(request, max_bytes, longest_s)


async def read_body(request: web.Request, max_bytes: int, longest_s: float) -> bytes:
    """Read a body of any type into memory. Raises InvalidInputError, TooLargeError."""
    try:
        _refuse_packed(request)
        _check_charset(request.charset)
        if (request.content_length or 0) > max_bytes:
            raise _over(max_bytes)
        await ask_for_body(request)
        async with asyncio.timeout(longest_s):
            return await _read_body(request, Allowance(max_bytes))
    except TimeoutError as error:
        raise InvalidInputError(f"The body did not arrive within {longest_s:.0f} seconds.") from error
    except UNREADABLE as error:
        raise InvalidInputError(f"The body cannot be read: {reason_of(error)}.") from error


def _check_charset(charset: str | None) -> None:
    if charset is not None and charset.lower() not in UTF_8:
        raise ValueError(f"its charset is {charset[:80]!r}; send UTF-8")


async def _read_body(request: web.Request, allowance: Allowance) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        allowance.take(len(chunk))
        body += chunk
    return bytes(body)


def _read_urlencoded(body: bytes) -> dict[str, str | bytes]:
    fields: dict[str, str | bytes] = {}
    pairs = parse_qsl(body.decode().strip(), keep_blank_values=True, max_num_fields=_MAX_SMALL_FIELDS)
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields


async def _read_multipart(request: web.Request, allowance: Allowance) -> dict[str, str | bytes]:
    form = open_form(request)
    parts: list[tuple[Part, bytearray]] = []
    async for data in request.content.iter_chunked(_CHUNK):
        allowance.take(len(data))
        for event in form.feed(data):
            if isinstance(event, Part):
                parts.append((event, bytearray()))
                if len(parts) > _MAX_SMALL_FIELDS:
                    raise TooLargeError.too_many_fields(_MAX_SMALL_FIELDS)
            else:
                parts[-1][1].extend(event)
        await asyncio.sleep(0)  # otherwise a form that has arrived in full would be read without yielding to others
    form.close()
    fields: dict[str, str | bytes] = {}
    for part, content in parts:
        fields.setdefault(part.name, bytes(content) if part.filename else content.decode())
    return fields


def _over(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"The body is over {max_bytes} bytes.")
