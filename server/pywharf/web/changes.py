"""The JSON API that changes what is published: POST /repo/<repo>/-/projects/<project>/<action>."""

from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web

from pywharf.core.access.permission import Permission
from pywharf.core.audit import Change
from pywharf.core.errors import ChangeIncompleteError, MethodNotAllowedError, PywharfError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.core.struct_errors import decode_body
from pywharf.index.changes import Changed, DeleteRequest, Request, StatusRequest, UnyankRequest, YankRequest
from pywharf.web import audit
from pywharf.web.auth import Access, authorize
from pywharf.web.forms import read_json
from pywharf.web.keys import METRICS, UPLOADS

_REQUESTS: Final[Mapping[str, type[Request]]] = {
    "yank": warmed_up(YankRequest),
    "unyank": warmed_up(UnyankRequest),
    "delete": warmed_up(DeleteRequest),
    "status": warmed_up(StatusRequest),
}
PATH = rf"/repo/{{repo}}/-/projects/{{project}}/{{action:{'|'.join(_REQUESTS)}}}"
_MAX_BYTES = 64 * 1024
"""Bytes of a body: a reason of the greatest length, each character of it escaped."""
_LONGEST_S = 30.0


async def change(request: web.Request) -> web.Response:
    """Answer POST …/-/projects/<project>/<action>: change the project or its files, and name what is changed."""
    access = await authorize(request, Permission.WRITE)
    name, action, results = access.repository.name, request.match_info["action"], request.app[METRICS].changes
    try:
        with request.app[UPLOADS].one(name):
            changed = await _change(request, access, action)
    except PywharfError as error:
        results.labels(name, action, error.code).inc()
        raise
    results.labels(name, action, "changed").inc()
    return web.Response(
        body=msgspec.json.encode(changed), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


async def only_post(request: web.Request) -> web.Response:
    """Answer another method at that address: 405, but only to the repo's clients."""
    await authorize(request, Permission.READ)
    raise MethodNotAllowedError(f"{request.method[:20]} is not allowed here; use POST.", frozenset({"POST"}))


async def _change(request: web.Request, access: Access, action: str) -> Changed:
    project = normalize(request.match_info["project"])
    access.require_publish(project)
    asked = decode_body(await read_json(request, _MAX_BYTES, _LONGEST_S), _REQUESTS[action])
    try:
        changed = await access.repository.change(project, asked, access.own_secret)
    except ChangeIncompleteError as error:
        _report(request, project, asked, error.changed, is_complete=False)
        raise
    _report(request, project, asked, changed.files, is_complete=True)
    return changed


def _report(
    request: web.Request, project: ProjectName, asked: Request, files: tuple[str, ...], *, is_complete: bool
) -> None:
    """Audit who changed what."""
    event = Change(
        action=request.match_info["action"],
        project=project,
        files=files,
        status=getattr(asked, "status", None),
        reason=getattr(asked, "reason", None),
        is_complete=is_complete,
    )
    audit.write(request, event)
