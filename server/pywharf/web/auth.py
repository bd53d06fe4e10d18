"""Authentication: by basic authentication or the browser's session, for the repo in the path or the one they name."""

import base64
import binascii
import functools
import time
from urllib.parse import urlsplit

from aiohttp import web

from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import permission_of
from pywharf.core.errors import ForbiddenError, InvalidNameError, UnauthenticatedError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.redaction import Redacted
from pywharf.index.repository import Repository
from pywharf.serving.sessions import Session, Sessions
from pywharf.web.client_address import address_behind
from pywharf.web.keys import GATEKEEPER, REPO, REPOS, SESSIONS, TRUSTED_PROXIES
from pywharf.web.transport import session_cookie


class Access(Redacted, frozen=True):
    """What a request's client may do, and with which repo."""

    repository: Repository
    permission: Permission
    own_secret: str | None
    """The client's secret, set only if the storage itself granted it access."""


async def authorize(request: web.Request, needed: Permission) -> Access:
    """Return the client's access to the request's repo, which allows what is needed.

    Raises UnauthenticatedError for missing or wrong credentials, the same whether or not the repo exists. Raises
    ForbiddenError if valid credentials do not allow it. Errors of the repo itself are raised only after both.
    """
    app = request.app
    gatekeeper = app[GATEKEEPER]
    in_path = request.match_info.get("repo")
    secret = None
    header = request.headers.get("Authorization")
    if header is not None:
        name, secret = parse_basic(header)
        granted = await gatekeeper.permission_of(name, secret, needed, address_behind(app[TRUSTED_PROXIES], request))
        if in_path is not None and in_path.lower() != name:
            raise UnauthenticatedError("The user name must be the repo's name, as it stands in the path.")
        if granted is Permission.NONE or (not secret and granted < needed):
            raise UnauthenticatedError.wrong_secret()
    else:
        name, granted = await _without_header(request, in_path, needed)
        if granted < needed:
            raise UnauthenticatedError("Send the repo's name as the user name and its secret as the password.")
    if granted < needed:
        raise ForbiddenError("This secret allows reading only; publishing needs the repo's write secret.")
    request[REPO] = name
    own_secret = secret if secret and gatekeeper.uses_storage_auth(name) else None
    return Access(app[REPOS].repository(name), granted, own_secret)


@functools.lru_cache(maxsize=1024)  # clients send the same header with every request
def parse_basic(header: str) -> tuple[RepoName, str]:
    """Parse an Authorization header into repo name and secret (RFC 7617). Raises UnauthenticatedError."""
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError  # noqa: TRY301 - one message for every form that does not fit
        user, colon, secret = _text(base64.b64decode(encoded.strip(), validate=True)).partition(":")
        if not colon:
            raise ValueError  # noqa: TRY301
        return parse_repo_name(user), secret
    except InvalidNameError:
        raise UnauthenticatedError.wrong_secret() from None
    except (ValueError, binascii.Error):
        raise UnauthenticatedError(
            "The Authorization header must be 'Basic' with the base64 form of NAME:SECRET."
        ) from None


def _text(raw: bytes) -> str:
    """Decode UTF-8, as the challenge asks for; otherwise Latin-1, which clients of requests (pip, twine) send."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


async def valid_session(request: web.Request) -> Session | None:
    """Return the browser's session, which may have expired; None if there is none or it was ended.

    Raises UnavailableError if it cannot be checked whether the session was ended.
    """
    cookie = session_cookie(request)
    session = Sessions.unverified(cookie) if cookie is not None else None
    if cookie is None or session is None:
        return None
    sessions = request.app[SESSIONS]
    if not sessions.verify(cookie, request.app[GATEKEEPER].credentials(session.repo)):
        return None
    return None if await sessions.is_ended(session) else session


async def session_permission(request: web.Request) -> tuple[RepoName, Permission] | None:
    """Return the repo of the browser's session and the permission it grants now; None without a valid session."""
    session = await valid_session(request)
    return (session.repo, session.permission_at(time.time())) if session is not None else None


async def _without_header(request: web.Request, in_path: str | None, needed: Permission) -> tuple[RepoName, Permission]:
    """Return the repo and permission of the browser's session, or else those of a client without credentials."""
    session = await session_permission(request)
    if session is not None and (in_path is None or in_path.lower() == session[0]):
        if needed is Permission.WRITE and not is_same_origin(request, strict=True):
            raise ForbiddenError("A browser's session publishes only from this server's own pages.")
        if session[1] is not Permission.NONE:
            return session
    try:
        name = parse_repo_name(in_path or "")
    except InvalidNameError:
        return RepoName(""), Permission.NONE
    return name, permission_of(None, request.app[GATEKEEPER].credentials(name))


def is_same_origin(request: web.BaseRequest, *, strict: bool) -> bool:
    """Return whether the browser reports that a page of this server sent the request.

    A client that reports nothing is not a browser; it passes unless `strict`.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None:
        return not strict
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:  # for example half an IPv6 address
        return False
