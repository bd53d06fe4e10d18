"""The HTTP client of OIDC issuers: discovery, then the keys, bounded in time and size and without redirects."""

import asyncio
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pywharf.core.access.identity_document import MAX_JWKS_BYTES
from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.unpacking import ACCEPTED, TooLargeBodyError
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions, read

_DISCOVERY: Final = "/.well-known/openid-configuration"
_ACCEPT: Final = "application/json, application/jwk-set+json"
"""Kubernetes sends its keys as the second type alone."""
_TOTAL_S: Final = 10.0
"""Seconds for both requests together."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=_TOTAL_S, connect=5, sock_read=5)


class KeysUnavailableError(Exception):
    """Keys that could not be fetched. The text continues a sentence about the issuer."""


class IssuerKeysClient:
    """A client that sends no credentials and keeps no cookies."""

    def __init__(self, user_agent: str, egress: Egress, *, total_s: float = _TOTAL_S) -> None:
        self._egress = egress
        self._total_s = total_s
        self._headers = {"User-Agent": user_agent, "Accept": _ACCEPT, "Accept-Encoding": ACCEPTED}

    async def fetch(self, issuer: str) -> object:
        """Return the JWK set of an issuer, as JSON. Raises KeysUnavailableError."""
        # Sessions of its own: fetches are rare, and each issuer may be connected to without being on the list.
        sessions = Sessions(self._egress_to(issuer), _TIMEOUT, self._headers)
        try:
            async with asyncio.timeout(self._total_s):
                found = await self._json(sessions, issuer.rstrip("/") + _DISCOVERY, issuer)
                return await self._json(sessions, _address_of_keys(found, issuer), issuer)
        except TimeoutError as error:  # before ClientError: aiohttp's timeouts are both
            raise KeysUnavailableError("its host did not answer in time") from error
        except EndpointNotAllowedError as error:
            raise KeysUnavailableError(str(error)) from error
        except TooLargeBodyError as error:
            raise KeysUnavailableError(f"its answer has over {MAX_JWKS_BYTES} bytes") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise KeysUnavailableError("its certificate is not trusted; name its CA with SSL_CERT_FILE") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            raise KeysUnavailableError(f"it cannot be reached ({reason})") from error
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise KeysUnavailableError(f"its answer cannot be read ({type(error).__name__})") from error
        finally:
            await sessions.aclose()

    def _egress_to(self, issuer: str) -> Egress:
        """Return the policy with the issuer's own host: who decides whom the server believes names it."""
        allowed = self._egress.allowed
        return self._egress if allowed is None else Egress((*allowed, urlsplit(issuer).netloc))

    @staticmethod
    async def _json(sessions: Sessions, url: str, issuer: str) -> object:
        session, proxy = sessions.way(url, configured=issuer)
        async with session.get(url, proxy=proxy, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise KeysUnavailableError(f"its host answers {response.status}")
            found: object = msgspec.json.decode(await read(response, MAX_JWKS_BYTES))
            return found


def _address_of_keys(discovered: object, issuer: str) -> str:
    """Return the `jwks_uri` of a discovery document, which must be this issuer's and as protected."""
    if not isinstance(discovered, dict) or discovered.get("issuer") != issuer:
        raise KeysUnavailableError("its discovery document is of another issuer")
    address = discovered.get("jwks_uri")
    parts = urlsplit(address) if isinstance(address, str) else None
    if parts is None or parts.scheme not in {"https", urlsplit(issuer).scheme} or not parts.hostname:
        raise KeysUnavailableError("its discovery document has no https URL of keys")
    if "@" in parts.netloc:
        raise KeysUnavailableError("its discovery document has a URL of keys with user info")
    return str(address)
