"""What handlers report to the audit log. Only this module takes an event's origin from a request."""

import re
import secrets

import msgspec
from aiohttp import web

from pywharf.core.audit import Event, Origin
from pywharf.web.client_address import client_address, is_from_trusted_proxy
from pywharf.web.keys import AUDIT_LOG, ENTRY, REPO, REQUEST_ID, SUBJECT

_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_ID_BYTES = 12


def write(request: web.Request, event: Event) -> None:
    """Write an event of this request. A repo that it does not name is the request's."""
    repo = request.get(REPO)
    if event.repo is None and repo is not None:
        event = msgspec.structs.replace(event, repo=repo)
    request.app[AUDIT_LOG].write(event, origin_of(request))


def name_client(request: web.Request, subject: str | None, entry: str | None = None) -> None:
    """Note as whom the client was let in, and by which entries, for the audit log and the access log."""
    if subject is not None:
        request[SUBJECT] = subject
    if entry is not None:
        request[ENTRY] = entry


def origin_of(request: web.Request) -> Origin:
    """Return where a request came from, and as whom."""
    return Origin(
        address=client_address(request),
        request_id=request_id(request),
        subject=request.get(SUBJECT),
        entry=request.get(ENTRY),
    )


def request_id(request: web.Request) -> str:
    """Return the request's id: that of a trusted proxy, or a new random one, the same at each call."""
    known = request.get(REQUEST_ID)
    if known is None:
        given = request.headers.get("X-Request-Id")
        is_given = given is not None and _ID.fullmatch(given) and is_from_trusted_proxy(request)
        known = request[REQUEST_ID] = given if given is not None and is_given else secrets.token_hex(_ID_BYTES)
    return known
