"""The client of the API server's TokenReview (authentication.k8s.io/v1), bounded in time and size."""

import asyncio
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.unpacking import ACCEPTED, TooLargeBodyError
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions, read

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_TOTAL_S: Final = 5.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=_TOTAL_S, connect=3, sock_read=5)
_MAX_BYTES: Final = 64 * 1024
_MAX_FILE: Final = 64 * 1024
_NO_AUDIENCE: Final = "pywharf-checks-its-right"
"""An audience that no token has: what the API server answers does not matter, only whether it does."""
_POD: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


class ReviewUnavailableError(Exception):
    """A review that did not take place. The text continues a sentence, and holds no token."""


class ReviewForbiddenError(ReviewUnavailableError):
    """The server's own ServiceAccount lacks the right to create reviews."""


class ReviewedUser(msgspec.Struct, frozen=True):
    """Whom a token belongs to."""

    username: str = ""


@warmed_up
class ReviewStatus(msgspec.Struct, frozen=True):
    """What the API server says about a token."""

    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: ReviewedUser = ReviewedUser()


@warmed_up
class _Review(msgspec.Struct, frozen=True):
    status: ReviewStatus = ReviewStatus()


class ApiServer(msgspec.Struct, frozen=True):
    """Where the API server is, and what the server authenticates to it with."""

    url: str
    ca_path: str | None = None
    """Its authority (PEM), which may change; None: what Kubernetes mounts into a pod."""
    credential_path: str | None = None
    """The server's own token, which the kubelet renews; None: what Kubernetes mounts into a pod."""


class TokenReviewClient:
    """A client of one API server. The flag names it, so `--allowed_endpoints` does not concern it."""

    def __init__(self, server: ApiServer, user_agent: str) -> None:
        self._server = server
        self._url = server.url.rstrip("/") + _PATH
        self._sessions = Sessions(Egress(), _TIMEOUT, {"User-Agent": user_agent, "Accept-Encoding": ACCEPTED})
        self._trusting: tuple[bytes, ssl.SSLContext] | None = None
        """The authority that was read last, with the context that trusts it."""

    async def review(self, token: str, audience: str) -> ReviewStatus:
        """Ask whether the API server knows a token, for this audience. Raises ReviewUnavailableError."""
        spec = {"token": token, "audiences": [audience]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            async with asyncio.timeout(_TOTAL_S):
                own, context = await asyncio.to_thread(self._credentials)
                return await self._post(body, own, context)
        except TimeoutError as error:  # before OSError and ClientError: it is both
            raise ReviewUnavailableError("the API server did not answer in time") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise ReviewUnavailableError("the API server's certificate is not of --token_review_ca_file") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            raise ReviewUnavailableError(f"the API server cannot be reached ({reason})") from error
        except TooLargeBodyError as error:
            raise ReviewUnavailableError(f"the API server's answer has over {_MAX_BYTES} bytes") from error
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise ReviewUnavailableError(f"the API server's answer cannot be read ({type(error).__name__})") from error

    async def check_right(self) -> None:
        """Ask about the server's own token, to learn whether it may ask. Raises ReviewUnavailableError."""
        own, _ = await asyncio.to_thread(self._credentials)
        await self.review(own, _NO_AUDIENCE)

    async def _post(self, body: dict[str, Any], own: str, context: ssl.SSLContext) -> ReviewStatus:
        session, proxy = self._sessions.way(self._url, configured=self._url)
        headers = {
            "Authorization": f"Bearer {own}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        async with session.post(
            self._url,
            data=msgspec.json.encode(body),
            headers=headers,
            proxy=proxy,
            ssl=context,
            allow_redirects=False,
        ) as response:
            if response.status == HTTPStatus.UNAUTHORIZED:
                raise ReviewUnavailableError("the API server refuses this server's own token (401)")
            if response.status == HTTPStatus.FORBIDDEN:
                raise ReviewForbiddenError(
                    "this server's ServiceAccount may not create tokenreviews (403); bind it to system:auth-delegator"
                )
            if response.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
                raise ReviewUnavailableError(f"the API server answers {response.status}")
            return msgspec.json.decode(await read(response, _MAX_BYTES), type=_Review).status

    def _credentials(self) -> tuple[str, ssl.SSLContext]:
        """Read the own token and the authority, which change while the server runs. Blocks."""
        try:
            own = _read(self._server.credential_path or f"{_POD}/token").decode("ascii").strip()
            authority = _read(self._server.ca_path or f"{_POD}/ca.crt")
            if self._trusting is None or self._trusting[0] != authority:
                self._trusting = authority, ssl.create_default_context(cadata=authority.decode("ascii"))
        except (OSError, ValueError) as error:  # an SSLError is an OSError, a UnicodeDecodeError a ValueError
            raise ReviewUnavailableError(
                "the files of --token_review_token_file and --token_review_ca_file cannot be read "
                f"({type(error).__name__})"
            ) from error
        if not own or not own.isprintable():
            raise ReviewUnavailableError("the file of --token_review_token_file holds no token")
        return own, self._trusting[1]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sessions.aclose()


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_MAX_FILE)
