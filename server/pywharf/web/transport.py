"""Whether a browser uses TLS, and what depends on it: the session cookie's name and Strict-Transport-Security."""

from aiohttp import hdrs, web

from pywharf.web.client_address import is_from_trusted_proxy
from pywharf.web.keys import TRUSTED_PROXIES

_COOKIE = "pywharf_session"
_HOST_COOKIE = f"__Host-{_COOKIE}"
"""Browsers accept this name only over TLS and from this host; no other host of the domain can set it (RFC 6265bis)."""
_STRICT_TRANSPORT = "max-age=31536000"
"""One year, in seconds. Other hosts of the domain are not included."""


def is_secure(request: web.Request) -> bool:
    """Return whether the browser uses TLS, with this server or with the proxy in front of it.

    If proxies are named, only they are believed. Otherwise everybody is: a client that lies harms only itself.
    """
    proxied = request.headers.get("X-Forwarded-Proto")
    if proxied is None or (request.app[TRUSTED_PROXIES].networks and not is_from_trusted_proxy(request)):
        return request.secure
    # With several proxies the first value counts: it is from the proxy that the browser connects to.
    return request.secure or proxied.partition(",")[0].strip().lower() == "https"


def cookie_name(request: web.Request) -> str:
    """Return the name of the session cookie for this browser."""
    return _HOST_COOKIE if is_secure(request) else _COOKIE


def session_cookie(request: web.Request) -> str | None:
    """Return the session cookie as the browser sent it. Other cookies are skipped: they may be many and long."""
    wanted = cookie_name(request)
    for header in request.headers.getall(hdrs.COOKIE, ()):
        for pair in header.split(";"):
            name, equals, value = pair.strip().partition("=")
            if equals and name == wanted:
                return value.strip('"')
    return None


def secure_transport(request: web.Request, response: web.StreamResponse) -> None:
    """Make a browser that uses TLS never use plain HTTP with this host again (RFC 6797)."""
    if is_secure(request):
        response.headers["Strict-Transport-Security"] = _STRICT_TRANSPORT
