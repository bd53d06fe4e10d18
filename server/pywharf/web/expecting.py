"""Clients that wait for a word before they send a body: `Expect: 100-continue` (RFC 9110, section 10.1.1).

The word is given once the credentials are checked and the body is wanted. A client that is refused need not send it.
"""

from aiohttp import HttpVersion11, hdrs, web

_ASKED: web.RequestKey[bool] = web.RequestKey("asked_for_body", bool)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def leave_to_handler(request: web.Request) -> None:
    """Send nothing yet. The framework would send 100 before it calls a handler."""
    del request


async def ask_for_body(request: web.Request) -> None:
    """Send 100 Continue where the client waits for it; a second call does nothing."""
    if is_waiting(request):
        request[_ASKED] = True
        await request.writer.write(_CONTINUE)
        # It is no part of the answer, whose length is counted.
        request.writer.output_size = 0


def is_waiting(request: web.Request) -> bool:
    """Whether the client still waits for the word, so that what it sends next may be the body or another request."""
    if request.version < HttpVersion11 or request.get(_ASKED, False):
        return False
    return request.headers.get(hdrs.EXPECT, "").strip().lower() == "100-continue"
