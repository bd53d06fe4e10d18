"""The legacy upload API, as twine, uv, poetry, flit and pdm speak it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import BodyPartReader, MultipartReader, web

from pywharf.core.access import Permission
from pywharf.core.errors import InvalidUploadError, PywharfError, TooLargeError
from pywharf.core.filenames import DistributionFilename, parse_upload_filename
from pywharf.index.publish import check_form
from pywharf.index.repository import Repository
from pywharf.index.staging import StagedFile
from pywharf.web.auth import INSTANCE, OWN_SECRET, authorize
from pywharf.web.forms import UNREADABLE, checked_part, open_form, reason_of

T = TypeVar("T")
_MAX_FIELDS = 2_000
_MAX_FORM_BYTES = 16 * 1024 * 1024
_CHUNK = 256 * 1024
_FIELD_CHUNK = 8 * 1024
"""Small, because what is read beyond a field's end is given back, which copies it."""
_IDLE_S = 120


class _Received:
    """The form's fields, and the file's name once its part began."""

    def __init__(self) -> None:
        self.form: dict[str, str] = {}
        self.filename: DistributionFilename | None = None
        self.size = 0


async def upload(request: web.Request) -> web.Response:
    """POST …/simple/: publish a file. 200; 409 where it exists; 400 with the reason where something does not fit."""
    repository = await authorize(request, Permission.WRITE)
    uploads = request.app[INSTANCE].metrics.uploads
    try:
        notes = await _upload(request, repository)
    except PywharfError as error:
        uploads.labels(repository.name, error.code).inc()
        raise
    uploads.labels(repository.name, "published").inc()
    return web.Response(text="\n".join(["OK", *notes, ""]))


async def _upload(request: web.Request, repository: Repository) -> tuple[str, ...]:
    """Receive and publish the file; returns what its checks note about it."""
    if request.content_type != "multipart/form-data":
        msg = f"Content-Type is {request.content_type[:80]!r}; uploads are multipart/form-data."
        raise InvalidUploadError(msg)
    repository.follower.catalog  # noqa: B018 - 503 before the body is read, where the index is not loaded
    received = _Received()
    async with StagedFile(repository.backend.staging_folder, repository.max_file_bytes) as staged:
        try:
            await _receive(open_form(request), received, staged)
        except UNREADABLE as error:
            msg = f"The body is not a complete multipart form: {reason_of(error)}."
            raise InvalidUploadError(msg) from error
        if received.filename is None:
            msg = "The form has no file: send it as the field 'content'."
            raise InvalidUploadError(msg)
        secret = request.get(OWN_SECRET)
        await repository.publish(received.filename, received.form, staged, secret)
        return staged.notes


async def _receive(form: MultipartReader, received: _Received, staged: StagedFile) -> None:
    fields = 0
    while True:
        found = await _in_time(form.next())
        if found is None:
            return
        fields += 1
        if fields > _MAX_FIELDS:
            msg = f"The form has more than {_MAX_FIELDS} fields."
            raise TooLargeError(msg)
        part, name = checked_part(found)
        if name == "content":
            await _receive_file(part, received, staged)
        else:
            await _receive_field(part, name, received)
        await asyncio.sleep(0)  # a form that is here already would else be read without letting others in


async def _receive_file(part: BodyPartReader, received: _Received, staged: StagedFile) -> None:
    if received.filename is not None:
        msg = "The form has two fields 'content'; send one file a request."
        raise InvalidUploadError(msg)
    received.filename = parse_upload_filename(part.filename or "")
    check_form(received.form, received.filename)  # what came before the file; the rest is checked after it
    while chunk := await _in_time(part.read_chunk(_CHUNK)):
        await staged.write(chunk)


async def _receive_field(part: BodyPartReader, name: str, received: _Received) -> None:
    content = bytearray()
    while chunk := await _in_time(part.read_chunk(_FIELD_CHUNK)):
        content += chunk
        received.size += len(chunk)
        if received.size > _MAX_FORM_BYTES:
            msg = f"The form's fields, without the file, are over {_MAX_FORM_BYTES} bytes."
            raise TooLargeError(msg)
    # Of a repeated field (classifiers …) the first value counts; the index needs none that repeat.
    received.form.setdefault(name, content.decode("utf-8", "replace"))


async def _in_time(reading: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(_IDLE_S):
            return await reading
    except TimeoutError as error:
        msg = f"Nothing arrived for {_IDLE_S} seconds; upload the file again."
        raise InvalidUploadError(msg) from error
