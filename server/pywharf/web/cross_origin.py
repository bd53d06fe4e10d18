"""Access for pages of other origins (the Fetch standard's CORS protocol): to what everybody may read, nothing else.

Package managers that run in a browser, such as micropip, need it.
"""

from aiohttp import hdrs, web

from pywharf.core.errors import InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.web.keys import GATEKEEPER, REPO

_READING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_EXPOSED = "Accept-Ranges, Content-Range, ETag, Retry-After"
_ALLOWED_HEADERS = "Accept, If-None-Match, If-Range, Range"
_PREFLIGHT_MAX_AGE_S = 86_400


def allow_reading(request: web.Request, response: web.StreamResponse) -> None:
    """Let any origin read an answer of a repo that everybody may read. Credentials are never allowed."""
    name = request.get(REPO)
    if name is not None and request.method in _READING and _is_open(request, name):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED


def preflight(request: web.Request) -> web.Response | None:
    """Return the answer to a browser's preflight request; None if the request is not allowed."""
    if request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD) not in _READING:
        return None
    _, *parts = request.rel_url.raw_path.split("/", 4)
    if parts[:1] != ["repo"] or parts[2:3] != ["simple"]:
        return None
    try:
        name = parse_repo_name(parts[1])
    except InvalidNameError:
        return None
    if not _is_open(request, name):
        return None
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(sorted(_READING)),
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _ALLOWED_HEADERS,
        hdrs.ACCESS_CONTROL_MAX_AGE: str(_PREFLIGHT_MAX_AGE_S),
    }
    return web.Response(status=204, headers=headers)


def _is_open(request: web.Request, name: RepoName) -> bool:
    return request.app[GATEKEEPER].credentials(name).anonymous_read
