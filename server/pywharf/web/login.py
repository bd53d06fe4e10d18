"""Sign-in and sign-out with a browser."""

from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from pywharf.core.access.identities import Claims
from pywharf.core.access.permission import Permission
from pywharf.core.addresses import site
from pywharf.core.audit import Login, Logout
from pywharf.core.errors import NO_CREDENTIALS, ForbiddenError, InvalidNameError, PywharfError, UnauthenticatedError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.serving.gatekeeper import Admitted, Decision, Refused
from pywharf.web import audit
from pywharf.web.browsers import is_same_origin, session_repo, valid_session
from pywharf.web.client_address import client_address
from pywharf.web.forms import read_small_form
from pywharf.web.keys import GATEKEEPER, GRANT, LOGINS, REPO, SESSIONS
from pywharf.web.pages import PAGE_HEADERS, login_page, root_of, start_page
from pywharf.web.problems import braked
from pywharf.web.refusals import wrong_secret
from pywharf.web.transport import cookie_name, is_secure

_FIELD_LIMIT = 8192
"""Characters of a field, as many as the longest token of an issuer has."""
_MAX_FORM_BYTES = 256 * 1024
"""Bytes of a sign-in form, which anybody may send."""
_FORM_S = 20.0


async def start(request: web.Request) -> web.Response:
    """Answer GET / with the start page for browsers."""
    session = await session_repo(request)
    return _html(start_page(root_of(request), repo=session))


async def form(request: web.Request) -> web.Response:
    """Answer GET /login with the sign-in form."""
    return _html(login_page(root_of(request), next_path=_safe_next(request.query.get("next", ""))))


async def submit(request: web.Request) -> web.Response:
    """Answer POST /login. Its fields are `pkg_repo_name` and `pkg_repo_secret_raw`, as in the original, and `next`."""
    if not is_same_origin(request, strict=False):
        raise ForbiddenError("Sign in with this server's own form.")
    address = client_address(request)
    with request.app[LOGINS].one(site(address)):
        form_sent = await read_small_form(request, _MAX_FORM_BYTES, _FORM_S)
    given = {field: value for field, value in form_sent.items() if isinstance(value, str)}
    name, secret = given.get("pkg_repo_name", ""), given.get("pkg_repo_secret_raw", "")
    next_path = _safe_next(given.get("next", "") or request.query.get("next", ""))
    try:
        repo = parse_repo_name(name[:_FIELD_LIMIT].strip())
    except InvalidNameError:
        repo = RepoName("")
    gatekeeper = request.app[GATEKEEPER]
    # Signing in needs a secret, even if everybody may read.
    decision: Decision = Refused(NO_CREDENTIALS)
    if secret:
        decision = await gatekeeper.admit(repo, secret[:_FIELD_LIMIT], Permission.READ, address)
        if isinstance(decision, Admitted) and decision.identity is not None and not decision.grant.keys:
            # Everybody may read there, and no entry names this identity: a session would allow it nothing more.
            decision = Refused("not-named", decision.grant.subject)
    if isinstance(decision, Refused):
        error: PywharfError = UnauthenticatedError.wrong_secret()
        if secret:
            error = await wrong_secret(request, repo or name.strip(), error, decision.reason, decision.subject)
        page = login_page(root_of(request), repo=name[:64], next_path=next_path, message=str(error))
        return braked(_html(page, status=error.status), error)
    cookie, max_age_s = _issue(request, repo, decision)
    request[REPO] = repo
    if decision.grant.subject:
        request[GRANT] = decision.grant
    audit.write(request, Login())
    response = web.Response(status=303, headers={"Location": _relative(request, next_path or f"/repo/{repo}/simple/")})
    response.set_cookie(
        cookie_name(request),
        cookie,
        max_age=max_age_s,
        httponly=True,
        samesite="Lax",
        secure=is_secure(request),
        path="/",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _issue(request: web.Request, repo: RepoName, admitted: Admitted) -> tuple[str, int]:
    """Return a new session's cookie and the seconds for which it is valid. Raises InvalidInputError."""
    gatekeeper, sessions = request.app[GATEKEEPER], request.app[SESSIONS]
    credentials = gatekeeper.credentials(repo)
    if admitted.identity is not None:
        grant = admitted.grant
        if isinstance(admitted.identity, Claims):
            # The session may only read: a cookie does not show that its token was exchanged, and publishes no longer.
            grant = msgspec.structs.replace(grant, permission=min(grant.permission, Permission.READ))
        return sessions.issue_to(repo, grant, admitted.identity, credentials)
    permission = admitted.grant.permission
    if gatekeeper.uses_storage_auth(repo):
        # The session may only read: publishing needs the client's own secret, which the cookie does not hold.
        permission = min(permission, Permission.READ)
    return sessions.issue(repo, permission, credentials), sessions.max_age_s


async def logout(request: web.Request) -> web.Response:
    """Answer GET /logout: end the session everywhere, also for copies of its cookie."""
    session = await valid_session(request)
    if session is not None:
        await request.app[SESSIONS].end(session)
        subject = None if session.identity is None else session.identity.subject
        audit.write(request, Logout(repo=session.repo, subject=subject))
    response = web.Response(status=303, headers={"Location": _relative(request, "/login"), "Cache-Control": "no-store"})
    response.del_cookie(cookie_name(request), path="/", httponly=True, samesite="Lax", secure=is_secure(request))
    return response


def _relative(request: web.BaseRequest, path: str) -> str:
    """Return a path of this server relative to the browser's address, since a proxy may have added a prefix."""
    return root_of(request) + path.removeprefix("/")


def _safe_next(path: str) -> str:
    """Return the path if it stays on this server, or "" if it would lead elsewhere."""
    try:
        parts = urlsplit(path)
    except ValueError:  # for example half an IPv6 address
        return ""
    local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    # Dot segments would lead out of the path prefix that a proxy may have added.
    climbs = any(part.lower().replace("%2e", ".") in {".", ".."} for part in parts.path.split("/"))
    return path if local and not climbs and not parts.scheme and not parts.netloc else ""


def _html(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS)
