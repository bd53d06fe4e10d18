"""Forms, and what goes wrong with the bodies that should be one.

What a client says of its body never chooses a codec or a decompressor: some of Python's codecs take hours for a
megabyte (punycode), and a packed body may unpack to any size.
"""

import asyncio
import re
from typing import cast
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http import HttpProcessingError

from pywharf.core.errors import InvalidInputError, TooLargeError

UNREADABLE_BODY = (web.RequestPayloadError, HttpProcessingError)
"""What reading any body raises that the client sent wrongly."""
UNREADABLE = (
    *UNREADABLE_BODY,
    ValueError,
    AssertionError,
    LookupError,
    RuntimeError,
)
"""What the framework's form readers raise on bodies that are none."""
_MAX_SHOWN = 200
_MAX_SMALL_FIELDS = 100
_MAX_LINES = 50_000
"""Of headers, boundaries and what stands before the first; real forms have some hundreds."""
_SMALL_FORM_S = 60.0
_CHUNK = 64 * 1024
_CHARSETS = {"utf-8", "utf8", "us-ascii"}
_CODED = re.compile(r"\*\s*=\s*\"?([^'\"\s;]*)'")
"""The charset of a coded parameter (RFC 5987), as in `filename*=utf-8''a.whl`."""


def reason_of(error: BaseException) -> str:
    """Why a body cannot be read, in a line."""
    return " ".join(str(error).split())[:_MAX_SHOWN] or type(error).__name__


class _Lines:
    """A body as the form reader takes it, with a limit to its lines: reading one costs more than its bytes."""

    def __init__(self, inner: StreamReader) -> None:
        self.read, self.at_eof, self.unread_data = inner.read, inner.at_eof, inner.unread_data
        self._inner = inner
        self._left = _MAX_LINES

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        self._left -= 1
        if self._left < 0:
            msg = f"it has more than {_MAX_LINES} lines outside of its fields"
            raise ValueError(msg)
        return await self._inner.readline(max_line_length=max_line_length)


def open_form(request: web.Request) -> MultipartReader:
    """A reader of the multipart form that the body should be. Raises what UNREADABLE names."""
    _refuse_packed(request)
    # The framework's own limits for what describes a part.
    protocol = request.protocol
    return MultipartReader(
        request.headers,
        cast("StreamReader", _Lines(request.content)),
        max_field_size=protocol.max_field_size,
        max_headers=protocol.max_headers,
    )


def _refuse_packed(request: web.Request) -> None:
    """Raises ValueError for a body with a Content-Encoding, which the server does not undo."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        msg = f"its Content-Encoding is {coding[:80]!r}; send it as it is"
        raise ValueError(msg)


def checked_part(part: BodyPartReader | MultipartReader) -> tuple[BodyPartReader, str]:
    """A part of a form, and its name. Raises ValueError where it is not one of a plain form."""
    if not isinstance(part, BodyPartReader):
        msg = "a part of it is a form itself"
        raise ValueError(msg)  # noqa: TRY004 - what the client sent, not what was called
    # Before the name is asked for, which decodes it.
    charsets = {c.lower() for c in _CODED.findall(part.headers.get("Content-Disposition", ""))}
    if charsets - _CHARSETS:
        msg = f"a part's name is in {min(charsets - _CHARSETS)[:80]!r}; send UTF-8"
        raise ValueError(msg)
    if part.name is None:
        msg = "a part of it has no name"
        raise ValueError(msg)
    transfer = part.headers.get("Content-Transfer-Encoding", "binary")
    if transfer.lower() not in {"binary", "8bit", "7bit"}:
        msg = f"the field {part.name[:80]!r} has the Content-Transfer-Encoding {transfer[:80]!r}; send it as it is"
        raise ValueError(msg)
    return part, part.name


async def read_small_form(request: web.Request, max_bytes: int) -> dict[str, str | bytes]:
    """The fields and, as bytes, the files of a form, in memory; of a repeated field the first.

    Bounded in bytes, fields and time. Raises InvalidInputError, TooLargeError.
    """
    try:
        _refuse_packed(request)
        _check_charset(request.charset)
        async with asyncio.timeout(_SMALL_FORM_S):
            if request.content_type == "multipart/form-data":
                return await _read_multipart(open_form(request), max_bytes)
            return _read_urlencoded(await _read_body(request, max_bytes))
    except TimeoutError as error:
        msg = f"The form did not arrive within {_SMALL_FORM_S:.0f} seconds."
        raise InvalidInputError(msg) from error
    except UNREADABLE as error:
        msg = f"The body is not a form that can be read: {reason_of(error)}."
        raise InvalidInputError(msg) from error


def _check_charset(charset: str | None) -> None:
    if charset is not None and charset.lower() not in _CHARSETS:
        msg = f"its charset is {charset[:80]!r}; send UTF-8"
        raise ValueError(msg)


async def _read_body(request: web.Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise _over(max_bytes)
    return bytes(body)


def _read_urlencoded(body: bytes) -> dict[str, str | bytes]:
    fields: dict[str, str | bytes] = {}
    pairs = parse_qsl(body.decode().strip(), keep_blank_values=True, max_num_fields=_MAX_SMALL_FIELDS)
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields


async def _read_multipart(form: MultipartReader, max_bytes: int) -> dict[str, str | bytes]:
    fields: dict[str, str | bytes] = {}
    count = size = 0
    while (found := await form.next()) is not None:
        part, name = checked_part(found)
        count += 1
        size += sum(len(key) + len(value) for key, value in part.headers.items())
        if count > _MAX_SMALL_FIELDS:
            msg = f"The form has more than {_MAX_SMALL_FIELDS} fields."
            raise TooLargeError(msg)
        content = bytearray()
        while chunk := await part.read_chunk(_CHUNK):
            content += chunk
            size += len(chunk)
            if size > max_bytes:
                raise _over(max_bytes)
        fields.setdefault(name, bytes(content) if part.filename else content.decode())
    return fields


def _over(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"The form is over {max_bytes} bytes.")
