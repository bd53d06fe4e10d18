"""What handlers report to the audit log. Only this module takes an event's origin from a request."""

import re
import secrets

import msgspec
from aiohttp import web

from pywharf.core.audit import Event, Origin
from pywharf.web.client_address import client_address, is_from_trusted_proxy
from pywharf.web.keys import AUDIT_LOG, GRANT, REPO, REQUEST_ID

_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_ID_BYTES = 12


def write(request: web.Request, event: Event) -> None:
    """Write an event of this request. Repo, subject and entry are the request's where the event has none of its own."""
    grant, repo = request.get(GRANT), request.get(REPO)
    if event.repo is None and repo is not None:
        event = msgspec.structs.replace(event, repo=repo)
    if event.subject is None and grant is not None:
        event = msgspec.structs.replace(event, subject=grant.subject, entry=grant.entry)
    request.app[AUDIT_LOG].write(event, Origin(client_address(request), request_id(request)))


def request_id(request: web.Request) -> str:
    """Return the request's id: that of a trusted proxy, or a new random one, the same at each call."""
    known = request.get(REQUEST_ID)
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        is_taken = _ID.fullmatch(given) and is_from_trusted_proxy(request)
        known = request[REQUEST_ID] = given if is_taken else secrets.token_hex(_ID_BYTES)
    return known
