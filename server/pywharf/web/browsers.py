"""Find out what a request without an Authorization header may do.

The browser's session says it, a trusted proxy that names a person, both together, or what everybody may do.
"""

import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from pywharf.core.access.deciding import BY_SECRET, NO_GRANT, Grant
from pywharf.core.access.identities import without_end
from pywharf.core.access.permission import Permission
from pywharf.core.access.projects import NO_PROJECTS
from pywharf.core.access.secrets import permission_of
from pywharf.core.errors import NO_CREDENTIALS, ForbiddenError, InvalidNameError, UnauthenticatedError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.serving.gatekeeper import Decision, Refused
from pywharf.serving.sessions import Session, Sessions
from pywharf.web.keys import GATEKEEPER, GRANT, PROXY_USER, REPO, SESSIONS
from pywharf.web.transport import session_cookie


class Client(msgspec.Struct, frozen=True):
    """What a client may do with a repo."""

    repo: RepoName
    """"" if no repo is meant."""
    grant: Grant
    decide_again: Callable[[], Decision] | None = None
    """Returns what the current configuration says about the client; None if no access entry decided."""


async def browser_client(request: web.Request, in_path: str | None, needed: Permission) -> Client:
    """Return what a request without an Authorization header may do with the repo in its path, or in its session.

    Raises UnauthenticatedError if nobody is named who may do anything there, and not everybody may do what is needed.
    Raises ForbiddenError if another site's page sent a change.
    """
    person = _person(request, in_path)
    session = await _of_session(request)
    if session is not None and in_path is not None and in_path.lower() != session.repo:
        session = None
    client = _both(session, None if isinstance(person, Refused) else person)
    if client is not None:
        if needed is Permission.WRITE and not is_same_origin(request, strict=True):
            request[REPO] = client.repo
            if client.grant.subject:
                request[GRANT] = client.grant
            raise ForbiddenError("A browser publishes only from this server's own pages.")
        return client
    name = repo_name(in_path or "")
    grant = BY_SECRET[permission_of(None, request.app[GATEKEEPER].credentials(name))] if name else NO_GRANT
    if grant.permission < needed:
        refused = person if isinstance(person, Refused) else Refused(_reason(request))
        raise UnauthenticatedError(
            "Send the repo's name as the user name and its secret as the password.", refused.reason, refused.subject
        )
    return Client(name, grant)


async def valid_session(request: web.Request) -> Session | None:
    """Return the browser's session, which may have expired; None if there is none or it was ended.

    Raises UnavailableError if it cannot be checked whether the session was ended.
    """
    cookie = session_cookie(request)
    session = Sessions.unverified(cookie) if cookie is not None else None
    if cookie is None or session is None:
        return None
    sessions = request.app[SESSIONS]
    if not sessions.verify(cookie, session, request.app[GATEKEEPER].credentials(session.repo)):
        return None
    return None if await sessions.is_ended(session) else session


async def session_repo(request: web.Request) -> RepoName | None:
    """Return the repo of the browser's session; None if the session allows nothing now."""
    client = await _of_session(request)
    return None if client is None else client.repo


def repo_name(raw: str) -> RepoName:
    """Return a name that a path has; "" for what cannot be a repo's."""
    try:
        return parse_repo_name(raw)
    except InvalidNameError:
        return RepoName("")


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


async def _of_session(request: web.Request) -> Client | None:
    """Return what the browser's session allows now; None if that is nothing."""
    session = await valid_session(request)
    permission = Permission.NONE if session is None else session.permission_at(time.time())
    if session is None or permission is Permission.NONE:
        return None
    identity = session.identity
    if identity is None:
        return Client(session.repo, BY_SECRET[permission])
    gatekeeper = request.app[GATEKEEPER]
    decision = gatekeeper.admit_identified(session.repo, identity, session.entries)
    if isinstance(decision, Refused):
        return None
    grant = decision.grant
    if permission < grant.permission:
        grant = msgspec.structs.replace(grant, permission=permission, publish=NO_PROJECTS)
    again = partial(gatekeeper.admit_identified, session.repo, without_end(identity), session.entries)
    return Client(session.repo, grant, again)


def _person(request: web.Request, in_path: str | None) -> Client | Refused | None:
    """Return what the person may do with the repo in the path whom a trusted proxy names; None if it names nobody."""
    user_of = request.app.get(PROXY_USER)
    user = user_of(request) if user_of is not None and in_path is not None else None
    if user is None or in_path is None:
        return None
    name, gatekeeper = repo_name(in_path), request.app[GATEKEEPER]
    decision = gatekeeper.admit_identified(name, user)
    if isinstance(decision, Refused):
        return decision
    return Client(name, decision.grant, partial(gatekeeper.admit_identified, name, user))


def _both(session: Client | None, person: Client | None) -> Client | None:
    """Return what a session and a person may do together.

    Only one of them can be whom the logs name: the one that may do more, and of equals the session. So it alone
    publishes, but what either reads is read.
    """
    if session is None or person is None:
        return session or person
    more, less = (person, session) if _weight(person.grant) > _weight(session.grant) else (session, person)
    if more.grant.read.everything:
        return more
    grant = msgspec.structs.replace(more.grant, read=more.grant.read | less.grant.read)
    return msgspec.structs.replace(more, grant=grant)


def _weight(grant: Grant) -> tuple[Permission, bool, bool]:
    return grant.permission, grant.publish.everything, grant.read.everything


def _reason(request: web.Request) -> str:
    return NO_CREDENTIALS if session_cookie(request) is None else "session"
