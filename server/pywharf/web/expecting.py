"""Clients that wait for 100 Continue before they send a body: `Expect: 100-continue` (RFC 9110, section 10.1.1).

It is sent once the credentials are checked and the body is wanted. A client that is refused need not send its body.
"""

from aiohttp import HttpVersion11, hdrs, web

_ASKED: web.RequestKey[bool] = web.RequestKey("asked_for_body", bool)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def leave_to_handler(_request: web.Request) -> None:
    """Send nothing yet. By default the framework sends 100 before it calls a handler."""


async def ask_for_body(request: web.Request) -> None:
    """Send 100 Continue if the client waits for it. A second call does nothing."""
    if is_waiting(request):
        request[_ASKED] = True
        await request.writer.write(_CONTINUE)
        # 100 Continue does not count towards the size of the answer.
        request.writer.output_size = 0


def is_waiting(request: web.Request) -> bool:
    """Return whether the client still waits for 100 Continue: it may send the body or another request next."""
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or request.version < HttpVersion11 or request.get(_ASKED, False):
        return False
    return expected.strip().lower() == "100-continue"
