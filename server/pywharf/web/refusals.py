"""What a refused request leads to: a line in the audit log, and for wrong secrets a brake.

A credential is always checked first. Only a wrong one is counted and, past a number, answered late and with 429. So a
right one is answered as fast as ever, although others send wrong ones from the same address.
"""

import math

from aiohttp import hdrs, web

from pywharf.core.audit import Refusal
from pywharf.core.errors import (
    NO_CREDENTIALS,
    ForbiddenError,
    PywharfError,
    TooManyWrongSecretsError,
    UnauthenticatedError,
    WithheldError,
)
from pywharf.web import audit
from pywharf.web.auth import parse_authorization
from pywharf.web.client_address import client_address
from pywharf.web.keys import BRAKE, GATEKEEPER, METRICS, UPLOADED

_MAX_NAME = 63
_NAMED_BY_USER = ("/simple", "/index_mtime")
"""The addresses at which the user name says which repo is meant."""


async def wrong_secret(
    request: web.Request, repo: str, error: PywharfError, reason: str, subject: str | None = None
) -> PywharfError:
    """Count a wrong secret that a client sent for a repo, and audit it. Returns the error to answer with.

    Handlers call it that read a secret or token from elsewhere than the Authorization header, and answer with what it
    returns: `error`, or TooManyWrongSecretsError. For the header, the application calls `refused`.

    Parameters:
        request: The request.
        repo: The name as the client wrote it, whether or not the repo exists; "" where no repo is meant. The audit log
            has it only if it exists: people type a secret where the name should be.
        error: The answer as long as the client is not braked.
        reason: Why, for the audit log alone.
        subject: Who the client is, if it proved that.
    """
    repo = repo.lower()[:_MAX_NAME]
    wait_s = await request.app[BRAKE].wrong(client_address(request), repo)
    answer = TooManyWrongSecretsError(math.ceil(wait_s)) if wait_s else error
    _audit(request, answer, reason, repo=repo, subject=subject)
    return answer


async def refused(request: web.Request, error: PywharfError) -> PywharfError:
    """Audit the refusal that an error is, if it is one. Returns the error to answer with."""
    if isinstance(error, UnauthenticatedError):
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is not None:
            return await _wrong_header(request, header, error)
        if error.reason != NO_CREDENTIALS:
            # A session that has ended, or a person whom a proxy names, is nobody's guess, so it is not counted.
            _audit(request, error, error.reason, subject=error.subject)
    elif isinstance(error, ForbiddenError | WithheldError):
        _audit(request, error, str(error))
    return error


async def _wrong_header(request: web.Request, header: str, error: UnauthenticatedError) -> PywharfError:
    try:
        sent = parse_authorization(header)
    except UnauthenticatedError:
        sent = None
    if sent is not None and not sent.secret:
        return error  # pip sends an empty password first if the URL has a user name alone
    repo = request.match_info.get("repo")
    # At other addresses the user name means nothing, and a guesser could choose another one each time.
    if repo is None and sent is not None and request.path.startswith(_NAMED_BY_USER):
        repo = sent.repo
    return await wrong_secret(request, repo or "", error, error.reason, error.subject)


def _audit(
    request: web.Request, answer: PywharfError, reason: str, *, repo: str | None = None, subject: str | None = None
) -> None:
    request.app[METRICS].refusals.labels(answer.status).inc()
    named = (repo or request.match_info.get("repo") or "").lower()
    uploaded = request.get(UPLOADED)
    event = Refusal(
        repo=named if request.app[GATEKEEPER].is_known(named) else None,
        subject=subject or None,
        status=answer.status,
        reason=reason,
        project=request.match_info.get("project") if uploaded is None else uploaded.project,
        filename=request.match_info.get("filename") if uploaded is None else uploaded.filename,
    )
    audit.write(request, event)
