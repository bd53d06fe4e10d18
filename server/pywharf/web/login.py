"""Signing in and out with a browser."""

from urllib.parse import urlsplit

from aiohttp import web

from pywharf.core.access import Permission
from pywharf.core.errors import ForbiddenError, InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.web.auth import INSTANCE, SESSIONS, is_same_origin, session_permission
from pywharf.web.forms import read_small_form
from pywharf.web.pages import PAGE_HEADERS, login_page, start_page
from pywharf.web.session import COOKIE

_FIELD_LIMIT = 4096
_MAX_FORM_BYTES = 256 * 1024
"""Anybody may send one."""


async def start(request: web.Request) -> web.Response:
    """GET /: where a browser begins."""
    session = session_permission(request)
    return _html(start_page(repo=session[0] if session is not None and session[1] else None))


async def form(request: web.Request) -> web.Response:
    """GET /login."""
    return _html(login_page(next_path=_safe_next(request.query.get("next", ""))))


async def submit(request: web.Request) -> web.Response:
    """POST /login: `pkg_repo_name` and `pkg_repo_secret_raw`, as in the original, and `next`."""
    if not is_same_origin(request, strict=False):
        msg = "Sign in with this server's own form."
        raise ForbiddenError(msg)
    form_sent = await read_small_form(request, _MAX_FORM_BYTES)
    given = {field: value for field, value in form_sent.items() if isinstance(value, str)}
    name, secret = given.get("pkg_repo_name", ""), given.get("pkg_repo_secret_raw", "")
    next_path = _safe_next(given.get("next", "") or request.query.get("next", ""))
    try:
        repo = parse_repo_name(name[:_FIELD_LIMIT].strip())
    except InvalidNameError:
        repo = RepoName("")
    credentials = request.app[INSTANCE].credentials(repo)
    # Without a secret there is nothing to sign in with, even where everybody may read.
    instance = request.app[INSTANCE]
    granted = Permission.NONE
    if secret:
        granted = await instance.permission_of(repo, secret[:_FIELD_LIMIT], Permission.READ, request.remote or "")
    if instance.asks_storage(repo):
        # The cookie holds no secret, and what is published is published with the client's own.
        granted = min(granted, Permission.READ)
    if granted is Permission.NONE:
        page = login_page(repo=name[:64], next_path=next_path, message="The repo's name or the secret is wrong.")
        return _html(page, status=401)
    sessions = request.app[SESSIONS]
    response = web.Response(status=303, headers={"Location": next_path or f"/repo/{repo}/simple/"})
    response.set_cookie(
        COOKIE,
        sessions.issue(repo, granted, credentials),
        max_age=sessions.max_age_s,
        httponly=True,
        samesite="Lax",
        secure=is_secure(request),
        path="/",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


async def logout(request: web.Request) -> web.Response:
    """GET /logout."""
    response = web.Response(status=303, headers={"Location": "/login", "Cache-Control": "no-store"})
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Lax", secure=is_secure(request))
    return response


def is_secure(request: web.BaseRequest) -> bool:
    """Whether the browser speaks TLS, with this server or with the proxy before it."""
    # Of several proxies the first one speaks with the browser.
    proxied = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
    return request.secure or proxied.lower() == "https"


def _safe_next(path: str) -> str:
    """A path of this server, or "" for anything that would lead elsewhere."""
    try:
        parts = urlsplit(path)
    except ValueError:  # for example half an IPv6 address
        return ""
    local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if local and not parts.scheme and not parts.netloc else ""


def _html(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS)
