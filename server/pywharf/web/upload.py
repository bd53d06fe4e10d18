"""The legacy upload API, as twine, uv, poetry, flit and pdm use it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import BodyPartReader, MultipartReader, web

from pywharf.core.access import Permission
from pywharf.core.errors import InvalidUploadError, PywharfError, TooLargeError
from pywharf.core.filenames import DistributionFilename, parse_upload_filename
from pywharf.index.publish import CHECKED_FIELDS, check_form
from pywharf.index.staging import StagedFile
from pywharf.web.auth import Access, authorize
from pywharf.web.expecting import ask_for_body
from pywharf.web.forms import UNREADABLE, Allowance, checked_part, open_form, reason_of
from pywharf.web.keys import METRICS, UPLOADS

T = TypeVar("T")
_MAX_FIELDS = 2_000
_MAX_FORM_BYTES = 16 * 1024 * 1024
_MAX_CHECKED_BYTES = 1024
"""Bytes of a checked field. The longest valid value is a version in a file name of 240 characters."""
_CHUNK = 256 * 1024
_FIELD_CHUNK = 8 * 1024
"""Bytes per read of a field. Small, because bytes read beyond the field's end are pushed back, which copies them."""
_WAIT_S = 120.0
_WAIT_BYTES = 64 * 1024


class _Pace:
    """The minimum pace of an upload: at most `_WAIT_S` seconds for each `_WAIT_BYTES` bytes."""

    def __init__(self) -> None:
        self._left_s = _WAIT_S
        self._missing = _WAIT_BYTES

    async def next(self, reading: Awaitable[T]) -> T:
        """Wait for a part or a piece of it. Raises InvalidUploadError if too few bytes arrive in time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left_s):
                found = await reading
        except TimeoutError as error:
            raise InvalidUploadError(
                f"Less than {_WAIT_BYTES} bytes arrived within {_WAIT_S:.0f} seconds; upload the file again."
            ) from error
        self._left_s -= loop.time() - began
        self._missing -= len(found) if isinstance(found, bytes) else 0
        if self._missing <= 0:
            self._left_s, self._missing = _WAIT_S, _WAIT_BYTES
        return found


class _Received:
    """The form's checked fields, and the file's name once its part has begun."""

    def __init__(self) -> None:
        self.form: dict[str, str] = {}
        self.filename: DistributionFilename | None = None
        self.allowance = Allowance(_MAX_FORM_BYTES)
        self.pace = _Pace()


async def upload(request: web.Request) -> web.Response:
    """Answer POST …/simple/: publish a file. 200; 409 if it exists; 400 with the reason if something is invalid."""
    access = await authorize(request, Permission.WRITE)
    name, results = access.repository.name, request.app[METRICS].uploads
    try:
        with request.app[UPLOADS].one(name):
            notes = await _upload(request, access)
    except PywharfError as error:
        results.labels(name, error.code).inc()
        raise
    results.labels(name, "published").inc()
    return web.Response(text="\n".join(["OK", *notes, ""]))


async def _upload(request: web.Request, access: Access) -> tuple[str, ...]:
    """Receive and publish the file. Returns the notes of its checks."""
    if request.content_type != "multipart/form-data":
        raise InvalidUploadError(f"Content-Type is {request.content_type[:80]!r}; uploads are multipart/form-data.")
    access.repository.require_loaded()  # otherwise the client would send the body in vain
    received = _Received()
    await ask_for_body(request)
    async with access.repository.stage() as staged:
        try:
            await _receive(open_form(request, received.allowance), received, staged)
        except UNREADABLE as error:
            raise InvalidUploadError(f"The body is not a complete multipart form: {reason_of(error)}.") from error
        if received.filename is None:
            raise InvalidUploadError("The form has no file: send it as the field 'content'.")
        await access.repository.publish(received.filename, received.form, staged, access.own_secret)
        return staged.notes


async def _receive(form: MultipartReader, received: _Received, staged: StagedFile) -> None:
    fields = 0
    while True:
        found = await received.pace.next(form.next())
        if found is None:
            return
        fields += 1
        if fields > _MAX_FIELDS:
            raise TooLargeError.too_many_fields(_MAX_FIELDS)
        part, name = checked_part(found)
        if name == "content":
            await _receive_file(part, received, staged)
        else:
            await _receive_field(part, name, received)
        await asyncio.sleep(0)  # otherwise a form that has arrived in full would be read without yielding to others


async def _receive_file(part: BodyPartReader, received: _Received, staged: StagedFile) -> None:
    if received.filename is not None:
        raise InvalidUploadError("The form has two fields 'content'; send one file a request.")
    received.filename = parse_upload_filename(part.filename or "")
    check_form(received.form, received.filename)  # the fields before the file; later ones are checked after it
    while chunk := await received.pace.next(part.read_chunk(_CHUNK)):
        await staged.write(chunk)


async def _receive_field(part: BodyPartReader, name: str, received: _Received) -> None:
    # The first value of a repeated field counts. Unchecked fields are not kept: descriptions are long.
    is_kept = name in CHECKED_FIELDS and name not in received.form
    content = bytearray()
    while chunk := await received.pace.next(part.read_chunk(_FIELD_CHUNK)):
        received.allowance.take(len(chunk))
        if is_kept:
            content += chunk
            if len(content) > _MAX_CHECKED_BYTES:
                raise InvalidUploadError(
                    f"The field {name!r} is over {_MAX_CHECKED_BYTES} bytes; upload what your build tool made."
                )
    if is_kept:
        received.form[name] = content.decode("utf-8", "replace")
