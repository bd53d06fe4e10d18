"""The address of the client that sent a request, behind trusted proxies as they report it.

It counts for the access log, the audit log, wrong secrets and every limit by address. Nothing else reads the address
of the connection.
"""

from aiohttp import web

from pywharf.core.addresses import plain
from pywharf.core.forwarded import TrustedProxies
from pywharf.web.keys import TRUSTED_PROXIES

_FORWARDED_FOR = "X-Forwarded-For"


def client_address(request: web.Request) -> str:
    """Return the client's address, "" if the connection has none."""
    return address_behind(request.app[TRUSTED_PROXIES], request)


def address_behind(proxies: TrustedProxies, request: web.BaseRequest) -> str:
    """Return the client's address behind these proxies. Without any, no header is looked at."""
    peer = request.remote or ""
    if proxies.networks and _FORWARDED_FOR in request.headers:
        return proxies.client_of(peer, ",".join(request.headers.getall(_FORWARDED_FOR)))
    return plain(peer)


def is_from_trusted_proxy(request: web.Request) -> bool:
    """Return whether a trusted proxy sent the request, so that what it reports about the client counts."""
    return request.app[TRUSTED_PROXIES].trusts(request.remote or "")
