"""Authentication: by the Authorization header or the browser's session, for the repo in the path or that they name."""

import base64
import binascii
import functools
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
from pywharf.core.names import ProjectName, RepoName, parse_repo_name
from pywharf.core.redaction import Redacted
from pywharf.index.bounded_repository import BoundedRepository, SeenRepository
from pywharf.serving.gatekeeper import Admitted, Decision, Refused
from pywharf.serving.sessions import Session, Sessions
from pywharf.web.client_address import client_address
from pywharf.web.keys import GATEKEEPER, GRANT, PROXY_USER, REPO, REPOS, SESSIONS
from pywharf.web.transport import session_cookie


class Access(Redacted, frozen=True):
    """What a request's client may do, and with which repo."""

    repository: SeenRepository
    grant: Grant
    own_secret: str | None
    """The client's secret, set only if the storage itself granted it access."""
    decide_again: Callable[[], Decision] | None = None
    """Returns what the current configuration says about the client; None if no access entry decided."""

    def require_publish(self, project: ProjectName) -> None:
        """Raise ForbiddenError if the client may not, or may no longer, publish to the project or change it.

        A file may take long to arrive, and an entry that was removed meanwhile grants nothing.
        """
        publish = self.grant.publish
        if self.decide_again is not None:
            decision = self.decide_again()
            publish = decision.grant.publish if isinstance(decision, Admitted) else NO_PROJECTS
        if not publish.allows(project):
            raise ForbiddenError(
                f"{_entries(self.grant, 'does', 'do')} not allow publishing to the project {project!r}."
            )


class Sent(Redacted, frozen=True):
    """What an Authorization header says."""

    repo: RepoName | None
    """The user name, if it may be a repo's."""
    secret: str


async def authorize(request: web.Request, needed: Permission) -> Access:
    """Return the client's access to the request's repo, which allows what is needed.

    Raises UnauthenticatedError for missing or wrong credentials, the same whether or not the repo exists. Raises
    ForbiddenError if valid credentials do not allow it. Errors of the repo itself are raised only after both.
    """
    app = request.app
    in_path = request.match_info.get("repo")
    own_secret, identity = None, None
    header = request.headers.get("Authorization")
    if header is not None:
        sent = parse_authorization(header)
        name, decision = await _by_header(request, sent, in_path, needed)
        if isinstance(decision, Refused):
            raise UnauthenticatedError.wrong_secret(decision.reason, decision.subject)
        grant, identity = decision.grant, decision.identity
        if not sent.secret and grant.permission < needed:
            raise UnauthenticatedError.wrong_secret(NO_CREDENTIALS)
        if sent.secret and identity is None and app[GATEKEEPER].uses_storage_auth(name):
            own_secret = sent.secret
    else:
        name, grant = await _without_header(request, in_path, needed)
        if grant.permission < needed:
            raise UnauthenticatedError("Send the repo's name as the user name and its secret as the password.")
    request[REPO] = name
    if grant.subject:
        request[GRANT] = grant
    if grant.permission < needed:
        raise ForbiddenError(
            f"{_entries(grant, 'allows', 'allow')} reading only."
            if grant.entry
            else "This secret allows reading only; publishing needs the repo's write secret."
        )
    repository = app[REPOS].repository(name)
    seen = repository if grant.read.everything else BoundedRepository(repository, grant.read)
    if identity is None or needed is not Permission.WRITE:
        return Access(seen, grant, own_secret)
    # A proof that ends while a file arrives was right when the upload began.
    return Access(seen, grant, None, partial(app[GATEKEEPER].admit_identified, name, without_end(identity)))


async def _by_header(
    request: web.Request, sent: Sent, in_path: str | None, needed: Permission
) -> tuple[RepoName, Decision]:
    """Return the repo that the client means and what it may do there. Raises UnauthenticatedError."""
    gatekeeper, address = request.app[GATEKEEPER], client_address(request)
    if in_path is None or (sent.repo is not None and in_path.lower() == sent.repo):
        if sent.repo is None:
            raise UnauthenticatedError.wrong_secret("no-repo")
        return sent.repo, await gatekeeper.admit(sent.repo, sent.secret, needed, address)
    # The password may say who the client is; the user name then says nothing.
    decision = await gatekeeper.admit_identity(_repo_name(in_path), sent.secret, address)
    if decision is not None:
        return _repo_name(in_path), decision
    if sent.repo is None:
        raise UnauthenticatedError.wrong_secret()
    await gatekeeper.admit(sent.repo, sent.secret, needed, address)  # takes as long as a repo's right name
    raise UnauthenticatedError("The user name must be the repo's name, as it stands in the path.", "wrong-user-name")


def _repo_name(raw: str) -> RepoName:
    """Return a name that a path has; "" for what cannot be a repo's."""
    try:
        return parse_repo_name(raw)
    except InvalidNameError:
        return RepoName("")


def _entries(grant: Grant, one: str, several: str) -> str:
    """Return the beginning of a sentence about the entries of a grant, with its verb for one or for several."""
    subject, verb = ("entries", several) if "," in grant.entry else ("entry", one)
    return f"The access {subject} {grant.entry!r} {verb}"


@functools.lru_cache(maxsize=1024)  # clients send the same header with every request
def parse_authorization(header: str) -> Sent:
    """Parse an Authorization header of the scheme Basic (RFC 7617) or Bearer (RFC 6750).

    Raises UnauthenticatedError.
    """
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() == "bearer" and encoded.strip():
            return Sent(None, encoded.strip())
        if scheme.lower() != "basic":
            raise ValueError  # noqa: TRY301 - one message for every form that does not fit
        user, colon, secret = _text(base64.b64decode(encoded.strip(), validate=True)).partition(":")
        if not colon:
            raise ValueError  # noqa: TRY301
    except (ValueError, binascii.Error):
        raise UnauthenticatedError(
            "The Authorization header must be 'Basic' with the base64 form of NAME:SECRET, or 'Bearer' with a token.",
            "malformed-header",
        ) from None
    return Sent(_repo_name(user) or None, secret)


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
    if not sessions.verify(cookie, session, request.app[GATEKEEPER].credentials(session.repo)):
        return None
    return None if await sessions.is_ended(session) else session


async def session_grant(request: web.Request) -> tuple[RepoName, Grant] | None:
    """Return the repo of the browser's session and what it grants now; None without a valid session."""
    session = await valid_session(request)
    if session is None:
        return None
    permission = session.permission_at(time.time())
    identity = session.identity
    if identity is None:
        return session.repo, BY_SECRET[permission]
    if permission is Permission.NONE:
        return session.repo, NO_GRANT
    decision = request.app[GATEKEEPER].admit_identified(session.repo, identity, session.entries)
    if isinstance(decision, Refused):
        return session.repo, NO_GRANT
    grant = decision.grant
    if permission < grant.permission:
        grant = msgspec.structs.replace(grant, permission=permission, publish=NO_PROJECTS)
    return session.repo, grant


async def _without_header(request: web.Request, in_path: str | None, needed: Permission) -> tuple[RepoName, Grant]:
    """Return the repo and grant of the browser's session, or else those of a client without credentials."""
    person = _by_proxy(request, in_path)
    found = person or await session_grant(request)
    if found is not None and (in_path is None or in_path.lower() == found[0]):
        if needed is Permission.WRITE and not is_same_origin(request, strict=True):
            raise ForbiddenError("A browser's session publishes only from this server's own pages.")
        if found[1].permission is not Permission.NONE:
            return found
    name = _repo_name(in_path or "")
    if not name:
        return name, NO_GRANT
    return name, BY_SECRET[permission_of(None, request.app[GATEKEEPER].credentials(name))]


def _by_proxy(request: web.Request, in_path: str | None) -> tuple[RepoName, Grant] | None:
    """Return the repo in the path and what the person may do there whom a trusted proxy names; None if nothing."""
    user_of = request.app.get(PROXY_USER)
    user = user_of(request) if user_of is not None and in_path is not None else None
    if user is None or in_path is None:
        return None
    name = _repo_name(in_path)
    decision = request.app[GATEKEEPER].admit_identified(name, user)
    return (name, decision.grant) if isinstance(decision, Admitted) else None


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
