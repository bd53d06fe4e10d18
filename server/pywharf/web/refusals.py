"""What a refused request leads to: a line in the audit log, and for wrong secrets a brake.

A credential is always checked first. Only a wrong one is counted and, past a number, answered late and with 429. So
whoever sends wrong ones from an address, a right one from the same address is answered as fast as ever.
"""

import base64
import binascii
import math

from aiohttp import hdrs, web

from pywharf.core.audit import Refusal
from pywharf.core.errors import (
    ForbiddenError,
    PywharfError,
    TooManyWrongSecretsError,
    UnauthenticatedError,
    WithheldError,
)
from pywharf.web import audit
from pywharf.web.client_address import client_address
from pywharf.web.keys import BRAKE, METRICS
from pywharf.web.transport import session_cookie

_MAX_NAME = 63


async def wrong_secret(request: web.Request, repo: str, error: UnauthenticatedError) -> PywharfError:
    """Count a wrong secret that a client sent for a repo, and audit it. Returns the error to answer with.

    Handlers call it that read a secret from elsewhere than the Authorization header, and answer for themselves; errors
    that they raise come here by `refused`. `repo` is as the client wrote it, whether or not it exists; "" where no repo
    is meant.
    """
    repo = repo.lower()[:_MAX_NAME]
    wait_s = await request.app[BRAKE].wrong(client_address(request), repo)
    answer = TooManyWrongSecretsError(math.ceil(wait_s)) if wait_s else error
    _audit(request, answer, error.reason or str(error), repo)
    return answer


async def refused(request: web.Request, error: PywharfError) -> PywharfError:
    """Audit the refusal that an error is, if it is one. Returns the error to answer with."""
    if isinstance(error, UnauthenticatedError):
        name, secret = _presented(request)
        if secret:
            return await wrong_secret(request, request.match_info.get("repo") or name, error)
        if request.headers.get(hdrs.AUTHORIZATION) is None and session_cookie(request) is not None:
            # A session that has ended is nobody's guess, so it is not counted.
            _audit(request, error, "The session is not valid, or is another repo's.", request.match_info.get("repo"))
    elif isinstance(error, ForbiddenError | WithheldError):
        _audit(request, error, str(error), request.match_info.get("repo"))
    return error


def _presented(request: web.Request) -> tuple[str, str]:
    """Return the user name and the secret that the request presents; a malformed header counts as a secret.

    An empty password is none: pip sends it first if the URL has a user name alone.
    """
    scheme, _, rest = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "basic":
        return "", rest.strip()
    try:
        user, colon, secret = base64.b64decode(rest.strip(), validate=True).decode("latin-1").partition(":")
    except (ValueError, binascii.Error):
        return "", rest
    return user, secret if colon else rest


def _audit(request: web.Request, answer: PywharfError, reason: str, repo: str | None) -> None:
    request.app[METRICS].refusals.labels(answer.status).inc()
    event = Refusal(
        repo=repo,
        status=answer.status,
        reason=reason,
        project=request.match_info.get("project"),
        filename=request.match_info.get("filename"),
    )
    audit.write(request, event)
