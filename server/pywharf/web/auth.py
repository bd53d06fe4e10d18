"""Authentication: by the Authorization header or what a browser sends, for the repo in the path or that they name."""

import base64
import binascii
import functools
from collections.abc import Callable
from functools import partial

from aiohttp import web

from pywharf.core.access.deciding import Grant
from pywharf.core.access.identities import without_end
from pywharf.core.access.permission import Permission
from pywharf.core.access.projects import NO_PROJECTS
from pywharf.core.errors import NO_CREDENTIALS, ForbiddenError, UnauthenticatedError
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.redaction import Redacted
from pywharf.index.bounded_repository import BoundedRepository, SeenRepository
from pywharf.serving.gatekeeper import Admitted, Decision, Refused
from pywharf.web.browsers import browser_client, repo_name
from pywharf.web.client_address import client_address
from pywharf.web.keys import GATEKEEPER, GRANT, REPO, REPOS


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
    own_secret: str | None = None
    decide_again: Callable[[], Decision] | None = None
    header = request.headers.get("Authorization")
    if header is not None:
        sent = parse_authorization(header)
        name, decision = await _by_header(request, sent, in_path, needed)
        if isinstance(decision, Refused):
            raise UnauthenticatedError.wrong_secret(decision.reason, decision.subject)
        grant = decision.grant
        if not sent.secret and grant.permission < needed:
            raise UnauthenticatedError.wrong_secret(NO_CREDENTIALS)
        if decision.identity is not None:
            # A proof that ends while a file arrives was right when the upload began.
            decide_again = partial(app[GATEKEEPER].admit_identified, name, without_end(decision.identity))
        elif sent.secret and app[GATEKEEPER].uses_storage_auth(name):
            own_secret = sent.secret
    else:
        client = await browser_client(request, in_path, needed)
        name, grant, decide_again = client.repo, client.grant, client.decide_again
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
    return Access(seen, grant, own_secret, decide_again)


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
    decision = await gatekeeper.admit_identity(repo_name(in_path), sent.secret, needed, address)
    if decision is not None:
        return repo_name(in_path), decision
    if sent.repo is None:
        raise UnauthenticatedError.wrong_secret()
    await gatekeeper.admit(sent.repo, sent.secret, needed, address)  # takes as long as a repo's right name
    raise UnauthenticatedError("The user name must be the repo's name, as it stands in the path.", "wrong-user-name")


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
    return Sent(repo_name(user) or None, secret)


def _text(raw: bytes) -> str:
    """Decode UTF-8, as the challenge asks for; otherwise Latin-1, which clients of requests (pip, twine) send."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
