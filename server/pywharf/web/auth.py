"""Who asks: basic authentication or the browser's session, for the repo in the path or the one that they name."""

import base64
import binascii
import time
from urllib.parse import urlsplit

from aiohttp import web

from pywharf.core.access import Permission
from pywharf.core.errors import ForbiddenError, InvalidNameError, UnauthenticatedError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.index.repository import Repository
from pywharf.web.instance import Instance
from pywharf.web.session import COOKIE, Sessions

INSTANCE: web.AppKey[Instance] = web.AppKey("instance", Instance)
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions", Sessions)
REPO = "repo"
"""Key of a request under which the repo's name is noted for the logs."""


def authorize(request: web.Request, needed: Permission) -> Repository:
    """The repo that the request is about, if the client may do this with it.

    Raises UnauthenticatedError for missing or wrong credentials, the same whether the repo exists or not, and
    ForbiddenError where right ones do not allow it.
    """
    in_path = request.match_info.get("repo")
    header = request.headers.get("Authorization")
    if header is not None:
        name, secret = parse_basic(header)
        if in_path is not None and in_path.lower() != name:
            msg = "The user name must be the repo's name, as it stands in the path."
            raise UnauthenticatedError(msg)
        repository = request.app[INSTANCE].repository(name)
        granted = repository.permission(secret) if repository is not None else Permission.NONE
        wrong = "The repo's name or the secret is wrong."
    else:
        repository, granted = _from_session(request, needed)
        if repository is None and in_path is not None:
            repository = _in_path(request, in_path)
            granted = repository.permission(None) if repository is not None else Permission.NONE
        wrong = "Send the repo's name as the user name and its secret as the password."
    if repository is None or granted is Permission.NONE or (header is None and granted < needed):
        raise UnauthenticatedError(wrong)
    if granted < needed:
        msg = "This secret allows reading only; publishing needs the repo's write secret."
        raise ForbiddenError(msg)
    request[REPO] = repository.name
    return repository


def parse_basic(header: str) -> tuple[RepoName, str]:
    """Repo name and secret of an Authorization header (RFC 7617). Raises UnauthenticatedError."""
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError  # noqa: TRY301 - one message for every form that does not fit
        user, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError  # noqa: TRY301
        return parse_repo_name(user), secret
    except InvalidNameError:
        msg = "The repo's name or the secret is wrong."
    except (ValueError, binascii.Error, UnicodeDecodeError):
        msg = "The Authorization header must be 'Basic' with the base64 form of NAME:SECRET."
    raise UnauthenticatedError(msg)


def _in_path(request: web.Request, raw: str) -> Repository | None:
    try:
        return request.app[INSTANCE].repository(parse_repo_name(raw))
    except InvalidNameError:
        return None


def session_repository(request: web.Request) -> tuple[Repository | None, Permission]:
    """The repo that the browser's session is for, and what it allows."""
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return None, Permission.NONE
    sessions = request.app[SESSIONS]
    session = sessions.unverified(cookie)
    repository = request.app[INSTANCE].repository(session.repo) if session is not None else None
    if session is None or repository is None or not sessions.verify(cookie, repository.credentials):
        return None, Permission.NONE
    return repository, session.permission_at(time.time())


def _from_session(request: web.Request, needed: Permission) -> tuple[Repository | None, Permission]:
    repository, granted = session_repository(request)
    in_path = request.match_info.get("repo")
    if repository is None or (in_path is not None and in_path.lower() != repository.name):
        return None, Permission.NONE
    if needed is Permission.WRITE and not is_same_origin(request, strict=True):
        msg = "A browser's session publishes only from this server's own pages."
        raise ForbiddenError(msg)
    return repository, granted


def is_same_origin(request: web.BaseRequest, *, strict: bool) -> bool:
    """Whether the browser says that a page of this server sent the request.

    A client that says nothing is no browser; where it is not `strict`, that is enough.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None:
        return not strict
    return urlsplit(origin).netloc == request.host
