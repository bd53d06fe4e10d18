"""The JSON API of pins: upstream files that a repo keeps in the cache whatever their use.

`PUT` and `DELETE /repo/<repo>/-/pins/<project>/<filename>`, `GET /repo/<repo>/-/pins/`.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from aiohttp import web

from pywharf.core.access.permission import Permission
from pywharf.core.audit import Change
from pywharf.core.errors import MethodNotAllowedError, NotFoundError, PywharfError
from pywharf.core.filenames import names_stored_file
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.core.struct_errors import decode_body
from pywharf.index.ports.cache_store import Pin
from pywharf.index.upstream.pinning import LONGEST_WAIT_S, Outcome, Pinned
from pywharf.web import audit
from pywharf.web.auth import Access, authorize
from pywharf.web.forms import read_json
from pywharf.web.keys import METRICS, PINS

LIST: Final = "/repo/{repo}/-/pins/"
PATH: Final = LIST + "{project}/{filename}"
_PIN: Final = "pin"
_UNPIN: Final = "unpin"
_MAX_BYTES: Final = 1024
_LONGEST_S: Final = 10.0
_WAIT: Final = re.compile(r"(?:^|,)\s*wait=(\d{1,4})\s*(?:,|\Z)")
"""The preference of a client that waits less long (RFC 7240, section 4.3)."""
_ASK_AGAIN_S: Final = "1"
_NO_STORE: Final = {"Cache-Control": "no-store"}
_PRIVATE: Final = {"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie, Accept"}


class PinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of PUT."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """The digest that the file must have."""


class _Pins(msgspec.Struct, frozen=True):
    pins: Sequence[Pin]


warmed_up(PinRequest)


async def pin(request: web.Request) -> web.Response:
    """Answer PUT …/-/pins/<project>/<filename>: 201 once the file is kept, 200 if it was, 202 to be asked again."""
    access = await authorize(request, Permission.WRITE)
    results, name = request.app[METRICS].changes, access.repository.name
    try:
        with request.app[PINS].one(name):
            outcome = await _pin(request, access)
    except PywharfError as error:
        results.labels(name, _PIN, error.code).inc()
        raise
    if outcome is None:
        results.labels(name, _PIN, "pending").inc()
        return _json({"pending": True}, 202, {**_NO_STORE, "Retry-After": _ASK_AGAIN_S})
    results.labels(name, _PIN, "changed").inc()
    return _json(outcome.pinned, 201 if outcome.is_new else 200, _NO_STORE)


async def unpin(request: web.Request) -> web.Response:
    """Answer DELETE …/-/pins/<project>/<filename>: 204, also if there was no such pin."""
    access = await authorize(request, Permission.WRITE)
    results, name = request.app[METRICS].changes, access.repository.name
    try:
        with request.app[PINS].one(name):
            project, filename = _named(request, access)
            if await access.repository.pinning().unpin(project, filename):
                _report(request, _UNPIN, project, filename)
    except PywharfError as error:
        results.labels(name, _UNPIN, error.code).inc()
        raise
    results.labels(name, _UNPIN, "changed").inc()
    return web.Response(status=204, headers=_NO_STORE)


async def pins(request: web.Request) -> web.Response:
    """Answer GET …/-/pins/ with the pins of the projects that the client sees."""
    access = await authorize(request, Permission.READ)
    seen = access.grant.read
    found = await access.repository.pinning().pins()
    shown = found if seen.everything else [one for one in found if seen.allows(one.project)]
    return _json(_Pins(shown), 200, _PRIVATE)


async def only_change(request: web.Request) -> web.Response:
    """Answer another method at a pin's address: 405, but only to the repo's clients."""
    await authorize(request, Permission.READ)
    raise MethodNotAllowedError(
        f"{request.method[:20]} is not allowed here; use PUT or DELETE.", frozenset({"PUT", "DELETE"})
    )


async def _pin(request: web.Request, access: Access) -> Outcome | None:
    project, filename = _named(request, access)
    pinning = access.repository.pinning()
    asked = decode_body(await read_json(request, _MAX_BYTES, _LONGEST_S), PinRequest)
    try:
        outcome = await pinning.pin(project, filename, asked.sha256, _wait_s(request))
    except asyncio.CancelledError:
        # The fetch goes on without the client, so what it asked for is reported all the same.
        _report(request, _PIN, project, filename, is_complete=False)
        raise
    if outcome is None or not outcome.pinned.own:
        _report(request, _PIN, project, filename, is_complete=outcome is not None)
    return outcome


def _wait_s(request: web.Request) -> float:
    """Return the seconds for which the client wants to wait at most."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return LONGEST_WAIT_S if found is None else min(float(found[1]), LONGEST_WAIT_S)


def _named(request: web.Request, access: Access) -> tuple[ProjectName, str]:
    """Return what the address names. Raises ForbiddenError, NotFoundError, InvalidNameError."""
    project = normalize(request.match_info["project"])
    access.require_publish(project)
    filename = request.match_info["filename"]
    if not names_stored_file(filename):
        raise NotFoundError.no_file(filename, project)
    return project, filename


def _report(
    request: web.Request, action: str, project: ProjectName, filename: str, *, is_complete: bool = True
) -> None:
    """Audit who pinned or unpinned what."""
    audit.write(request, Change(action=action, project=project, files=(filename,), is_complete=is_complete))


def _json(body: Pinned | _Pins | dict[str, bool], status: int, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)
