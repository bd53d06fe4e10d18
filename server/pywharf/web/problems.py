"""The only mapping of errors to HTTP answers: RFC 9457 for API clients, a page for browsers."""

import msgspec
from aiohttp import web

from pywharf.core.errors import (
    ChangeIncompleteError,
    MethodNotAllowedError,
    NotFoundError,
    PywharfError,
    RangeNotSatisfiableError,
    TooManyWrongSecretsError,
    UnauthenticatedError,
    UnavailableError,
    WithheldError,
)
from pywharf.web.audit import request_id
from pywharf.web.pages import PAGE_HEADERS, problem_page, root_of
from pywharf.web.transport import cookie_name

PROBLEM_TYPE = "application/problem+json"
_CHALLENGE = 'Basic realm="pywharf", charset="UTF-8"'
_MAX_REASON = 200


def prefers_html(request: web.Request) -> bool:
    """Return whether the client asks for HTML, as a browser does and a package manager or a script does not."""
    return request.headers.get("Accept", "").lstrip().startswith("text/html")


def _is_browser(request: web.Request) -> bool:
    return prefers_html(request) and request.headers.get("User-Agent", "").startswith("Mozilla/")


def _challenge_of_browsers(request: web.Request) -> str:
    """Return the challenge for which a browser shows our page with its form; for Basic it would open its own dialog."""
    return f'Cookie realm="pywharf", form-action="{root_of(request)}login", cookie-name="{cookie_name(request)}"'


def nothing_at(request: web.Request) -> NotFoundError:
    """Return the error for an address that does not exist here."""
    return NotFoundError(f"There is nothing at {request.rel_url.raw_path[:200]!r}.")


def _members_of(error: PywharfError) -> dict[str, object]:
    """Return what an error's JSON says besides (RFC 9457, section 3.2)."""
    match error:
        case ChangeIncompleteError():
            return {"changed": error.changed}
        case WithheldError():
            return {"policy": error.policy, "rule": error.rule, "reason": error.reason, "until": error.until}
        case _:
            return {}


def problem(request: web.Request, error: PywharfError) -> web.Response:
    """Return the answer for an error. Its reason phrase is the beginning of the message, because twine shows it."""
    detail = str(error)
    headers = {
        "Cache-Control": "no-store",
        "Vary": "Accept, Authorization, Cookie",
        "X-Request-Id": request_id(request),
    }
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = _challenge_of_browsers(request) if _is_browser(request) else _CHALLENGE
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(sorted(error.allowed))
    if isinstance(error, RangeNotSatisfiableError):
        headers["Content-Range"] = f"bytes */{error.size}"
    reason = "".join(c if c.isprintable() and c.isascii() else " " for c in detail[:_MAX_REASON]).strip()
    if prefers_html(request):
        body = problem_page(request, error)
        content_type = "text/html"
    else:
        said = {
            "type": f"urn:pywharf:problem:{error.code}",
            "title": error.title,
            "status": error.status,
            "detail": detail,
        }
        body = msgspec.json.encode(said | _members_of(error))
        content_type = PROBLEM_TYPE
    response = web.Response(
        status=error.status,
        reason=reason or error.title,
        body=body,
        content_type=content_type,
        headers=headers,
    )
    if content_type == "text/html":
        response.charset = "utf-8"
        response.headers.update(PAGE_HEADERS)
    return braked(response, error)


def braked(response: web.Response, error: PywharfError) -> web.Response:
    """Return the answer, which asks for a pause and ends the connection if too many wrong secrets were sent."""
    if isinstance(error, TooManyWrongSecretsError):
        response.headers["Retry-After"] = str(error.retry_after_s)
        response.force_close()  # each further attempt costs its sender a connection
    return response
