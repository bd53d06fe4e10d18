"""The legacy upload API, as twine, uv, poetry, flit and pdm use it."""

import asyncio
from collections.abc import Awaitable

from aiohttp import web

from pywharf.core.access.permission import Permission
from pywharf.core.audit import Publish
from pywharf.core.errors import InvalidUploadError, PywharfError, TooLargeError
from pywharf.core.filenames import DistributionFilename, parse_upload_filename
from pywharf.core.multipart import Part
from pywharf.index.publish import CHECKED_FIELDS, check_form
from pywharf.index.staging import StagedFile
from pywharf.web import audit
from pywharf.web.auth import Access, authorize
from pywharf.web.expecting import ask_for_body
from pywharf.web.forms import UNREADABLE, Allowance, open_form, reason_of
from pywharf.web.keys import METRICS, UPLOADED, UPLOADS

_MAX_FIELDS = 2_000
_MAX_FORM_BYTES = 16 * 1024 * 1024
_MAX_CHECKED_BYTES = 1024
"""Bytes of a checked field. The longest valid value is a version in a file name of 240 characters."""
_CHUNK = 256 * 1024
_WAIT_S = 120.0
_WAIT_BYTES = 64 * 1024


class _Pace:
    """The minimum pace of an upload: at most `_WAIT_S` seconds for each `_WAIT_BYTES` bytes."""

    def __init__(self) -> None:
        self._left_s = _WAIT_S
        self._missing = _WAIT_BYTES

    async def next(self, reading: Awaitable[bytes]) -> bytes:
        """Wait for a piece of the body. Raises InvalidUploadError if too few bytes arrive in time."""
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
        self._missing -= len(found)
        if self._missing <= 0:
            self._left_s, self._missing = _WAIT_S, _WAIT_BYTES
        return found


class _Received:
    """The form's checked fields, and the file's name once its part has begun. The file's content is staged."""

    def __init__(self, request: web.Request, access: Access, staged: StagedFile) -> None:
        self._request = request
        self._access = access
        self.form: dict[str, str] = {}
        self.filename: DistributionFilename | None = None
        self._staged = staged
        self._allowance = Allowance(_MAX_FORM_BYTES)
        self._fields = 0
        self._field: str | None = None
        """The field that arrives, None for the file."""
        self._kept: bytearray | None = None
        """Its content so far; None if it is not kept."""

    def begin(self, part: Part) -> None:
        """Begin a field or the file; the one before it has ended."""
        self.end_field()
        self._allowance.take(part.head_bytes)
        self._fields += 1
        if self._fields > _MAX_FIELDS:
            raise TooLargeError.too_many_fields(_MAX_FIELDS)
        if part.name == "content":
            if self.filename is not None:
                raise InvalidUploadError("The form has two fields 'content'; send one file a request.")
            self.filename = self._request[UPLOADED] = parse_upload_filename(part.filename or "")
            self._access.require_publish(self.filename.project)
            check_form(self.form, self.filename)  # the fields before the file; later ones are checked after it
            return
        self._field = part.name
        # The first value of a repeated field counts. Unchecked fields are not kept: descriptions are long.
        if part.name in CHECKED_FIELDS and part.name not in self.form:
            self._kept = bytearray()

    async def add(self, content: bytes) -> None:
        """Add a piece of the content of what has begun."""
        if self._field is None:
            await self._staged.write(content)
            return
        self._allowance.take(len(content))
        if self._kept is not None:
            self._kept += content
            if len(self._kept) > _MAX_CHECKED_BYTES:
                raise InvalidUploadError(
                    f"The field {self._field!r} is over {_MAX_CHECKED_BYTES} bytes; upload what your build tool made."
                )

    def end_field(self) -> None:
        """Keep the field that has ended, if it is one to keep."""
        if self._field is not None and self._kept is not None:
            self.form[self._field] = self._kept.decode("utf-8", "replace")
        self._field = self._kept = None


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
    await ask_for_body(request)
    async with access.repository.stage() as staged:
        try:
            received = await _receive(request, access, staged)
        except UNREADABLE as error:
            raise InvalidUploadError(f"The body is not a complete multipart form: {reason_of(error)}.") from error
        if received.filename is None:
            raise InvalidUploadError("The form has no file: send it as the field 'content'.")
        filename = received.filename
        access.require_publish(filename.project)
        file = await access.repository.publish(filename, received.form, staged, access.own_secret)
        audit.write(request, Publish(project=filename.project, filename=file.filename, sha256=file.sha256))
        return staged.notes


async def _receive(request: web.Request, access: Access, staged: StagedFile) -> _Received:
    form, pace, received = open_form(request), _Pace(), _Received(request, access, staged)
    while data := await pace.next(request.content.read(_CHUNK)):
        for event in form.feed(data):
            if isinstance(event, Part):
                received.begin(event)
            else:
                await received.add(event)
        await asyncio.sleep(0)  # otherwise a form that has arrived in full would be read without yielding to others
    form.close()
    received.end_field()
    return received
