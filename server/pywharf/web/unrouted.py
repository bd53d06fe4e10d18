"""Requests that no route matches: other methods, other addresses, and browsers' CORS preflight requests."""

from aiohttp import hdrs, web

from pywharf.core.access.permission import Permission
from pywharf.core.errors import MethodNotAllowedError, NotFoundError
from pywharf.web.auth import authorize
from pywharf.web.cross_origin import preflight
from pywharf.web.problems import nothing_at

PATH = r"/{anything:[\s\S]*}"


async def unrouted(request: web.Request) -> web.StreamResponse:
    """Answer a request that no other route matches. It has a route too, so that its body is not asked for."""
    allowed = await _allowed(request)
    if not allowed:
        if request.path.startswith(("/repo/", "/simple/")):
            await authorize(request, Permission.READ)  # other clients learn nothing
        raise NotFoundError(f"{nothing_at(request)}{publishing_hint(request)}")
    if request.method == hdrs.METH_OPTIONS and (answer := preflight(request)) is not None:
        return answer
    listed = ", ".join(sorted(allowed))
    raise MethodNotAllowedError(
        f"{request.method[:20]} is not allowed here; use {listed}.{publishing_hint(request)}", allowed
    )


async def _allowed(request: web.Request) -> frozenset[str]:
    """Return the methods that the other routes of this address accept."""
    found: set[str] = set()
    for resource in request.app.router.resources():
        _, methods = await resource.resolve(request)
        found |= methods
    return frozenset(found - {hdrs.METH_ANY})


def publishing_hint(request: web.Request) -> str:
    """Return where to publish, for a client that sends a file to another address; otherwise ""."""
    if request.method not in {hdrs.METH_POST, hdrs.METH_PUT}:
        return ""
    parts = request.rel_url.raw_path.split("/", 3)
    name = parts[2][:63] if len(parts) > 2 and parts[1] == "repo" and parts[2] else "NAME"  # noqa: PLR2004 - "", repo, its name
    return f" Files are published with POST to /repo/{name}/simple/."
