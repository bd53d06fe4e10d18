"""The person whom an authenticating proxy names in a request's headers."""

from aiohttp import web

from pywharf.core.access.identities import ProxyUser
from pywharf.core.access.proxy_users import proxy_user_of
from pywharf.web.client_address import is_from_trusted_proxy

_USER = "X-Forwarded-User"
_GROUPS = "X-Forwarded-Groups"


def proxy_user(request: web.Request) -> ProxyUser | None:
    """Return the person, if a trusted proxy names one. Only a server with `--proxy_headers` asks.

    The browser sends nothing of its own that proves who it is. So a change must come from a page of this server
    (`is_same_origin`), as with a session's cookie.
    """
    if _USER not in request.headers or not is_from_trusted_proxy(request):
        return None
    return proxy_user_of(request.headers.getall(_USER), request.headers.getall(_GROUPS, ()))
