"""The HTTP client of one repo of a running server: its pins and its pages."""

import asyncio
import base64
import contextlib
import netrc
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from pywharf import __version__
from pywharf.core.errors import (
    ForbiddenError,
    InvalidConfigError,
    InvalidInputError,
    NotFoundError,
    PywharfError,
    RateLimitedError,
    StorageFullError,
    UnavailableError,
    UpstreamError,
    WrongContentError,
)
from pywharf.core.model import File
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.core.redaction import Redacted
from pywharf.egress.policy import proxy_for
from pywharf.egress.sessions import read
from pywharf.index.ports.cache_store import Pin
from pywharf.index.upstream.pages import ACCEPT, parse_page

_REPO: Final = re.compile(r"(?P<base>.*?/repo/(?P<repo>[^/]+))(/simple)?")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=120, connect=15)
_MAX_PINS_BYTES: Final = 64 * 1024 * 1024
_MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
_MAX_ANSWER_BYTES: Final = 64 * 1024
_LONGEST_S: Final = 6 * 3600.0
"""Seconds for one file, however often the server answers that it is not done."""
_PAUSE_S: Final = 1.0
_MAX_RETRY_S: Final = 60
_WRONG_CONTENT: Final = f"urn:pywharf:problem:{WrongContentError.code}"
_FULL: Final = HTTPStatus.INSUFFICIENT_STORAGE


class RepoAddress(msgspec.Struct, frozen=True):
    """The address of a repo."""

    base: str
    """URL up to the repo's name, without a slash at its end."""
    repo: str


@warmed_up
class _Pins(msgspec.Struct, frozen=True):
    pins: tuple[Pin, ...]


def parse_address(url: str) -> RepoAddress:
    """Parse the URL of a repo. Raises InvalidConfigError, whose text does not show the URL: it may hold a secret."""
    try:
        parsed = URL(url.rstrip("/"))
        found = _REPO.fullmatch(str(parsed))
        if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.user is not None or found is None:
            raise ValueError  # noqa: TRY301 - one message for every URL that does not fit
        if parsed.query_string or parsed.fragment:
            raise ValueError  # noqa: TRY301
    except ValueError:
        raise InvalidConfigError(
            "URL must be that of a repo, https://HOST/repo/NAME/simple/, without credentials: give them with "
            "--secret_env or --secret_file, or in netrc."
        ) from None
    return RepoAddress(found["base"], found["repo"])


def credentials_of_netrc(host: str, path: str | None) -> tuple[str, str] | None:
    """Return user name and password of a host; None without an entry. Raises InvalidConfigError."""
    file = Path(path) if path else Path.home() / ".netrc"
    try:
        found = netrc.netrc(str(file)).authenticators(host)
    except OSError:
        return None
    except (netrc.NetrcParseError, UnicodeDecodeError):
        raise InvalidConfigError("The netrc file cannot be read: see its form in the manual of curl.") from None
    return None if found is None or not found[2] else (found[0], found[2])


class Credentials(Redacted, frozen=True):
    """What is sent to the server. The password is read again after a 401, because pods' tokens expire."""

    user: str
    password: Callable[[], str]

    def header(self) -> str:
        """Return the value of the Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password()}".encode()).decode()


class RepoClient:
    """The calls of one repo. Use it as an asynchronous context."""

    def __init__(self, address: RepoAddress, credentials: Credentials | None, context: ssl.SSLContext) -> None:
        self._address = address
        self._credentials = credentials
        self._context = context
        self._proxy = proxy_for(address.base)
        self._header: str | None = None
        self._stack = contextlib.AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=_TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": f"pywharf/{__version__}"},
            )
        )
        return self

    async def __aexit__(self, *_of_error: object) -> None:
        await self._stack.aclose()

    async def pins(self) -> tuple[Pin, ...]:
        """Return the repo's pins."""
        status, body, _ = await self._call("GET", f"{self._address.base}/-/pins/", most=_MAX_PINS_BYTES)
        if status != HTTPStatus.OK:
            raise _error(status, body)
        try:
            return msgspec.json.decode(body, type=_Pins).pins
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise InvalidInputError("The answer holds no pins; is this the URL of a pywharf server?") from None

    async def page(self, project: ProjectName) -> tuple[File, ...]:
        """Return the files that the project's page lists. Raises NotFoundError, UpstreamError, UnavailableError."""
        url = f"{self._address.base}/simple/{project}/"
        status, body, kind = await self._call("GET", url, most=_MAX_PAGE_BYTES, accept=ACCEPT)
        if status != HTTPStatus.OK:
            raise _error(status, body)
        return (await asyncio.to_thread(parse_page, project, body, kind, url)).files

    async def pin(self, project: ProjectName, filename: str, sha256: str) -> int:
        """Pin a file, and wait for it.

        Returns:
            The status: 201 if it is new, 200 if it was pinned or needs no pin.
        """
        deadline = asyncio.get_running_loop().time() + _LONGEST_S
        while True:
            status, body, _ = await self._call("PUT", self._pin_url(project, filename), json={"sha256": sha256})
            if status in {HTTPStatus.OK, HTTPStatus.CREATED}:
                return status
            if status != HTTPStatus.ACCEPTED:
                raise _error(status, body)
            if asyncio.get_running_loop().time() > deadline:
                raise UpstreamError("It is still being fetched; run the command again.")
            await asyncio.sleep(_PAUSE_S)

    async def unpin(self, project: ProjectName, filename: str) -> None:
        """Remove a pin. A missing one is ignored."""
        status, body, _ = await self._call("DELETE", self._pin_url(project, filename))
        if status != HTTPStatus.NO_CONTENT:
            raise _error(status, body)

    def _pin_url(self, project: ProjectName, filename: str) -> str:
        return f"{self._address.base}/-/pins/{project}/{quote(filename, safe='')}"

    async def _call(
        self, method: str, url: str, *, most: int = _MAX_ANSWER_BYTES, accept: str = "application/json", **options: Any
    ) -> tuple[int, bytes, str]:
        """Return status, body and content type. A refused password is read again once."""
        for is_last in (False, True):
            sent = self._authorization()
            async with self._asked(method, url, accept, sent, options) as response:
                if response.status == HTTPStatus.UNAUTHORIZED:
                    body = b""
                elif response.status == HTTPStatus.TOO_MANY_REQUESTS:
                    raise RateLimitedError("The server limits the rate of requests.", _retry_after(response))
                else:
                    body = await read(response, most)
                status, kind = response.status, response.headers.get("Content-Type", "")
            if status != HTTPStatus.UNAUTHORIZED:
                return status, body, kind
            if self._header == sent:  # otherwise another call has read it again meanwhile
                self._header = None
            if is_last or self._credentials is None:
                break
        raise InvalidConfigError(
            "The server asks for credentials, or refuses these: give the repo's write secret or a token with "
            "--secret_env, --secret_file, or in netrc."
        )

    def _authorization(self) -> str | None:
        if self._header is None and self._credentials is not None:
            self._header = self._credentials.header()
        return self._header

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, url: str, accept: str, authorization: str | None, options: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None  # noqa: S101 - within the context
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        if authorization is not None:
            headers["Authorization"] = authorization
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                proxy=self._proxy,
                ssl=self._context,
                allow_redirects=False,
                **options,
            ) as response:
                yield response
        except aiohttp.ClientConnectorCertificateError as error:
            raise InvalidConfigError("The server's certificate is not trusted; name its CA with --ca.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = _printable(str(error)) or type(error).__name__
            raise UnavailableError(f"The server cannot be reached: {reason}.") from error
        except ValueError as error:
            raise UpstreamError(f"The server's answer cannot be read: {error}.") from error


def _error(status: int, body: bytes) -> PywharfError:
    """Return the error that an answer stands for, with the server's own sentence."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = {}
    detail, kind = (said.get("detail"), said.get("type")) if isinstance(said, dict) else (None, None)
    sentence = _printable(detail if isinstance(detail, str) else "") or f"The server answers {status}."
    if status == _FULL:
        return StorageFullError(sentence)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and kind != _WRONG_CONTENT:
        return UnavailableError(sentence)
    if status == HTTPStatus.FORBIDDEN:
        return ForbiddenError(sentence)
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(sentence)
    return InvalidInputError(sentence)


def _retry_after(response: aiohttp.ClientResponse) -> int:
    try:
        return min(max(int(response.headers.get("Retry-After", "")), 1), _MAX_RETRY_S)
    except ValueError:
        return _MAX_RETRY_S


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:1000]).strip()
