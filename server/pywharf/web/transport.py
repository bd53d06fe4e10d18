"""Whether a browser speaks TLS, and what follows from it: the session cookie's name, and that it goes on to do so."""

from aiohttp import hdrs, web

_COOKIE = "pywharf_session"
_HOST_COOKIE = f"__Host-{_COOKIE}"
"""Browsers take it only over TLS and from this very host: no other host of the domain can set it (RFC 6265bis)."""
_STRICT_TRANSPORT = "max-age=31536000"
"""A year. Other hosts of the domain are not spoken for."""


def is_secure(request: web.BaseRequest) -> bool:
    """Whether the browser speaks TLS, with this server or with the proxy before it."""
    # Of several proxies the first one speaks with the browser.
    proxied = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
    return request.secure or proxied.lower() == "https"


def cookie_name(request: web.BaseRequest) -> str:
    """The name of the session's cookie for this browser."""
    return _HOST_COOKIE if is_secure(request) else _COOKIE


def session_cookie(request: web.BaseRequest) -> str | None:
    """The session's cookie as the browser sent it. Only this one is looked for: others may be many and long."""
    wanted = cookie_name(request)
    for header in request.headers.getall(hdrs.COOKIE, ()):
        for pair in header.split(";"):
            name, equals, value = pair.strip().partition("=")
            if equals and name == wanted:
                return value.strip('"')
    return None


async def secure_transport(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Have a browser that speaks TLS never speak plain HTTP with this host again (RFC 6797)."""
    if is_secure(request):
        response.headers["Strict-Transport-Security"] = _STRICT_TRANSPORT
