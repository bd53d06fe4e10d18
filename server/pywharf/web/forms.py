"""Readers of forms and small bodies, and the errors of bodies that are not valid forms.

A client's headers never choose a codec or a decompressor: some of Python's codecs take hours for a megabyte
(punycode), and a compressed body may expand to any size.
"""

import asyncio
from typing import cast
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs, web
from aiohttp.http import HttpProcessingError

from pywharf.core.errors import InvalidInputError, TooLargeError
from pywharf.web.expecting import ask_for_body

UNREADABLE_BODY = (web.RequestPayloadError, HttpProcessingError)
"""The exceptions that reading a malformed body raises."""
UNREADABLE = (
    *UNREADABLE_BODY,
    ValueError,
    AssertionError,
    LookupError,
    RuntimeError,
)
"""The exceptions that the framework's form readers raise for a body that is not a form."""
_MAX_SHOWN = 200
_MAX_SMALL_FIELDS = 100
_MAX_LINES = 50_000
"""Most lines of headers, boundaries and the text before the first boundary. Real forms have some hundreds."""
_MAX_PART_HEADERS = 16
_MAX_PART_HEADER_BYTES = 4096
"""Bytes of one part's headers. Clients send up to three headers and a file name of at most 240 characters."""
_CHUNK = 64 * 1024
_CHARSETS = {"utf-8", "utf8", "us-ascii"}


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


class _Lines:
    """A body for the framework's form reader, limited in lines because reading a line costs more than its bytes.

    Headers and boundaries are lines, so parts without content count too.
    """

    def __init__(self, inner: StreamReader, allowance: Allowance) -> None:
        self.read, self.at_eof, self.unread_data = inner.read, inner.at_eof, inner.unread_data
        self._inner = inner
        self._allowance = allowance
        self._left = _MAX_LINES

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {_MAX_LINES} lines outside of its fields")
        line = await self._inner.readline(max_line_length=max_line_length)
        self._allowance.take(len(line))
        return line


class _FormReader(MultipartReader):
    """The framework's form reader. A part's headers are checked before it decodes them with the codecs they name."""

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        part = await super().fetch_next_part()
        _check_headers(part)
        return part


def _check_headers(part: MultipartReader | BodyPartReader) -> None:
    """Raise ValueError for headers that no client of a plain form sends. Takes time proportional to their length."""
    if not isinstance(part, BodyPartReader):
        raise ValueError("a part of it is a form itself")  # noqa: TRY004 - what the client sent, not what was called
    for disposition in part.headers.getall(hdrs.CONTENT_DISPOSITION, ()):
        _check_coding(disposition)
    size = sum(len(name) + len(value) for name, value in part.headers.items())
    if size > _MAX_PART_HEADER_BYTES:
        raise ValueError(f"the headers of a part have {size} bytes; send at most {_MAX_PART_HEADER_BYTES}")


def _check_coding(disposition: str) -> None:
    """Raise ValueError unless each encoded parameter (RFC 5987), such as `filename*=utf-8''a.whl`, is in UTF-8."""
    for parameter in disposition.split(";"):
        key, _, value = parameter.partition("=")
        name, star, piece = key.strip().partition("*")
        if not star:
            continue
        if piece:
            raise ValueError(f"a part's {name[:80]!r} comes in pieces (RFC 2231); send it as one")
        charset = value.strip(' \t"').partition("'")[0].strip().lower()
        if charset and charset not in _CHARSETS:
            raise ValueError(f"a part's name is in {charset[:80]!r}; send UTF-8")


def open_form(request: web.Request, allowance: Allowance) -> MultipartReader:
    """Return a reader of the body as a multipart form; its lines count against the allowance.

    Raises the exceptions in UNREADABLE.
    """
    _refuse_packed(request)
    return _FormReader(
        request.headers,
        cast("StreamReader", _Lines(request.content, allowance)),
        max_field_size=request.protocol.max_field_size,
        max_headers=_MAX_PART_HEADERS,
    )


def _refuse_packed(request: web.Request) -> None:
    """Raise ValueError for a body with a Content-Encoding, which the server does not decode."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        raise ValueError(f"its Content-Encoding is {coding[:80]!r}; send it as it is")


def checked_part(part: BodyPartReader | MultipartReader) -> tuple[BodyPartReader, str]:
    """Return a part of a form and its name. Raises ValueError if a plain form has no such part."""
    assert isinstance(part, BodyPartReader)  # noqa: S101 - the reader has checked it
    if part.name is None:
        raise ValueError("a part of it has no name")
    transfer = part.headers.get("Content-Transfer-Encoding", "binary")
    if transfer.lower() not in {"binary", "8bit", "7bit"}:
        raise ValueError(
            f"the field {part.name[:80]!r} has the Content-Transfer-Encoding {transfer[:80]!r}; send it as it is"
        )
    return part, part.name


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
    if charset is not None and charset.lower() not in _CHARSETS:
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
    form = open_form(request, allowance)
    fields: dict[str, str | bytes] = {}
    count = 0
    while (found := await form.next()) is not None:
        part, name = checked_part(found)
        count += 1
        if count > _MAX_SMALL_FIELDS:
            raise TooLargeError.too_many_fields(_MAX_SMALL_FIELDS)
        content = bytearray()
        while chunk := await part.read_chunk(_CHUNK):
            allowance.take(len(chunk))
            content += chunk
        fields.setdefault(name, bytes(content) if part.filename else content.decode())
        await asyncio.sleep(0)  # otherwise a form that has arrived in full would be read without yielding to others
    return fields


def _over(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"The body is over {max_bytes} bytes.")
