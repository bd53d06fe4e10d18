"""The HTTP client of a feed of advisories: conditional requests, bounded in time, size and redirects."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final

import aiohttp
import msgspec
from yarl import URL

from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.errors import UpstreamError
from pywharf.egress.following import following
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions

MAX_BYTES: Final = 1024 * 1024 * 1024
TOTAL_S: Final = 900.0
"""Seconds for a whole feed, including its redirects."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)
_CHUNK = 1024 * 1024
_MAX_VALIDATOR = 512


class Validators(msgspec.Struct, frozen=True):
    """What a feed's host said by which a later request can ask for a newer one."""

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """Return the headers of a conditional request."""
        given = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in given.items() if value}


class FeedUnavailableError(Exception):
    """A feed that could not be fetched. The text continues a sentence, and holds no path of the URL."""


class FeedClient:
    """A client that sends no credentials and keeps no cookies."""

    def __init__(self, url: str, user_agent: str, egress: Egress) -> None:
        self._url = URL(url)
        self._egress = egress
        self._sessions = Sessions(egress, _TIMEOUT, {"User-Agent": user_agent})

    async def fetch(
        self, target: Path, known: Validators, *, longest: int = MAX_BYTES, total_s: float = TOTAL_S
    ) -> Validators | None:
        """Write the feed to a file, and return its validators; None if it is still the known one.

        Raises FeedUnavailableError, OSError.
        """
        # A packed feed is kept as it is, so that its packing is undone in one place and within its limits.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", **known.headers()}
        try:
            async with (
                asyncio.timeout(total_s),
                following(self._sessions, self._egress, self._url, configured=self._url, headers=headers) as (
                    response,
                    _,
                ),
            ):
                if response.status == HTTPStatus.NOT_MODIFIED and known.headers():
                    return None
                if response.status != HTTPStatus.OK:
                    raise FeedUnavailableError(f"its host answers {response.status}")
                await self._receive(response, target, longest)
                return Validators(_validator(response, "ETag"), _validator(response, "Last-Modified"))
        except TimeoutError as error:  # before ClientError: aiohttp's timeouts are both
            raise FeedUnavailableError("its host did not send it in time") from error
        except EndpointNotAllowedError as error:
            raise FeedUnavailableError(str(error)) from error
        except UpstreamError as error:
            raise FeedUnavailableError(str(error).rstrip(".")) from error
        except aiohttp.ClientError as error:
            reason = str(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            raise FeedUnavailableError(f"it cannot be fetched ({reason})") from error
        except ValueError as error:
            raise FeedUnavailableError(f"its host's answer cannot be read ({error})") from error

    @staticmethod
    async def _receive(response: aiohttp.ClientResponse, target: Path, longest: int) -> None:
        if (response.content_length or 0) > longest:
            raise _too_large(longest)
        with await asyncio.to_thread(target.open, "wb") as file:
            left = longest
            pending = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise _too_large(longest)
                pending += chunk
                if len(pending) >= _CHUNK:
                    await asyncio.to_thread(_write, file, bytes(pending))
                    pending.clear()
            await asyncio.to_thread(_write, file, bytes(pending))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sessions.aclose()


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()


def _too_large(longest: int) -> FeedUnavailableError:
    return FeedUnavailableError(f"it has over {longest} bytes")


def _validator(response: aiohttp.ClientResponse, name: str) -> str:
    value = response.headers.get(name, "")
    return value if len(value) <= _MAX_VALIDATOR else ""
