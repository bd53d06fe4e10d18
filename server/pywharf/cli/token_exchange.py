"""The command `pywharf token exchange`: get a token of a server for the OIDC token of a CI job.

It is for twine, poetry and others that know no trusted publishing of servers but PyPI. No token is ever an argument.
"""

import asyncio
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import click
import msgspec
from yarl import URL

from pywharf import __version__
from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.config.settings import ExchangeSettings
from pywharf.core.errors import InvalidConfigError, InvalidInputError, UnavailableError
from pywharf.core.struct_errors import convert

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_MAX_ANSWER_BYTES: Final = 64 * 1024
_MAX_TOKEN: Final = 8 * 1024
_REPO: Final = re.compile(r"(?P<base>.*?)/repo/(?P<repo>[^/]+)(/.*)?")
_NO_LETTER: Final = re.compile(r"[^A-Z0-9_]|^[^A-Z_]")
_STDIN: Final = "-"


class _Server:
    """The calls of one server, and of the service that gives GitHub's jobs their tokens."""

    def __init__(self, session: aiohttp.ClientSession, base: str, context: ssl.SSLContext) -> None:
        self._session = session
        self._base = base
        self._context = context

    async def audience(self) -> str:
        """Return the audience that the server asks for."""
        return _text(await self._call("GET", f"{self._base}/_/oidc/audience"), "audience")

    async def mint(self, token: str, repo: str | None) -> str:
        """Exchange an OIDC token."""
        query = f"?repo={quote(repo, safe='')}" if repo is not None else ""
        return _text(await self._call("POST", f"{self._base}/_/oidc/mint-token{query}", json={"token": token}), "token")

    async def of_github(self, environment: Mapping[str, str]) -> str:
        """Ask GitHub for the job's token."""
        try:
            url, secret = environment["ACTIONS_ID_TOKEN_REQUEST_URL"], environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
        except KeyError as error:
            raise InvalidConfigError(
                f"{error.args[0]} is not set: give the job of the workflow `permissions: id-token: write`."
            ) from None
        audience = await self.audience()
        asked = f"{url}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
        return _text(await self._call("GET", asked, headers={"Authorization": f"bearer {secret}"}), "value")

    async def _call(self, method: str, url: str, **options: Any) -> Mapping[str, object]:
        host = URL(url).host
        try:
            async with self._session.request(
                method, URL(url, encoded=True), allow_redirects=False, ssl=self._context, **options
            ) as response:
                raw = await response.content.read(_MAX_ANSWER_BYTES)
                while len(raw) < _MAX_ANSWER_BYTES and (more := await response.content.read(_MAX_ANSWER_BYTES)):
                    raw += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(
                f"{host} cannot be reached: {_printable(str(error)) or type(error).__name__}."
            ) from None
        said = _object_of(raw)
        if response.status != 200:  # noqa: PLR2004 - OK
            raise InvalidInputError(f"{host} answered {response.status}: {_reasons(said)}")
        return said


def _object_of(raw: bytes) -> Mapping[str, object]:
    """Return the JSON object of an answer; an empty one if it is something else."""
    try:
        said = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _text(said: Mapping[str, object], field: str) -> str:
    value = said.get(field)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise InvalidInputError(f"The answer holds no {field}; is this the URL of a pywharf server?")
    return value


def _reasons(said: Mapping[str, object]) -> str:
    """Return why a server refused, as far as its answer says that in the form of PyPI."""
    errors = said.get("errors")
    found = (
        [error.get("description") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    )
    return _printable(" ".join(text for text in found if isinstance(text, str))) or "no reason was given."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:1000]).strip()


def _address(url: str) -> tuple[str, str | None]:
    """Return the base of a server's URL, and the repo if it is the URL of one. Raises InvalidConfigError."""
    try:
        parsed = URL(url.rstrip("/"))
        if parsed.scheme != "https" or not parsed.host or parsed.user is not None or parsed.query_string:
            raise ValueError  # noqa: TRY301 - one message for every URL that does not fit
    except ValueError:
        raise InvalidConfigError(
            "SERVER_URL must be the https URL of a server, or of a repo (https://HOST/repo/NAME/simple/), without a "
            "secret."
        ) from None
    found = _REPO.fullmatch(str(parsed))
    return (found["base"], found["repo"]) if found is not None else (str(parsed).rstrip("/"), None)


def _stated(settings: ExchangeSettings) -> str | None:
    """Return the OIDC token of --file; None without one. Raises InvalidConfigError."""
    if settings.file is None:
        return None
    if settings.file == _STDIN:
        return _read_stdin()
    try:
        with Path(settings.file).open(encoding="ascii") as file:
            return _checked(file.read(_MAX_TOKEN + 2))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no token"
        raise InvalidConfigError(f"--file cannot be read: {reason}.") from None


def _read_stdin() -> str:
    if sys.stdin.isatty():
        raise InvalidConfigError("There is no OIDC token: give one on standard input or with --file.")
    return _checked(sys.stdin.read(_MAX_TOKEN + 2))


def _checked(text: str) -> str:
    token = text.strip()
    if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidConfigError("There is no OIDC token: the text is empty, over 8192 characters, or no token.")
    return token


async def _oidc_token(server: _Server, settings: ExchangeSettings, environment: Mapping[str, str]) -> str:
    """Return the OIDC token of --file, of the CI's environment, or of standard input."""
    stated = _stated(settings)
    if stated is not None:
        return stated
    if environment.get("GITHUB_ACTIONS") == "true":
        return await server.of_github(environment)
    if environment.get("GITLAB_CI"):
        variable = f"{_NO_LETTER.sub('_', (await server.audience()).upper())}_ID_TOKEN"
        token = environment.get(variable)
        if not token:
            raise InvalidConfigError(f"{variable} is not set: name it under `id_tokens` of the job.")
        return _checked(token)
    return _read_stdin()


async def exchange_token(url: str, settings: ExchangeSettings, environment: Mapping[str, str]) -> str:
    """Return a token of the server at a URL. Raises PywharfError."""
    base, repo = _address(url)
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise InvalidConfigError(f"--ca cannot be read: {error.strerror or error}.") from None
    async with aiohttp.ClientSession(
        timeout=_TIMEOUT,
        trust_env=True,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"pywharf/{__version__}", "Accept": "application/json"},
    ) as session:
        server = _Server(session, base, context)
        token = await _oidc_token(server, settings, environment)
        return await server.mint(token, settings.repo or repo)


def _run(server_url: str, **values: Any) -> None:
    settings = convert(values, ExchangeSettings, "pywharf token exchange")
    token = asyncio.run(exchange_token(server_url, settings, os.environ))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(f"::add-mask::{token}", err=True)
    click.echo(token)


exchange = Command(
    "exchange",
    callback=_run,
    params=[
        click.Argument(["server_url"], metavar="SERVER_URL", envvar=environment_name("server_url")),
        *options_of(ExchangeSettings),
    ],
    context_settings=CONTEXT,
    help="""Exchange the OIDC token of a CI job for a token that publishes for 15 minutes, and print it.

    SERVER_URL is the https URL of a server, or of a repo: then the token is for that repo alone. The OIDC token is read
    from --file, in GitHub Actions and GitLab CI from the job's environment, otherwise from standard input.

    \b
    Example, with twine:
      export TWINE_USERNAME=__token__ TWINE_PASSWORD="$(pywharf token exchange https://HOST/repo/NAME/simple/)"
      twine upload --repository-url https://HOST/repo/NAME/simple/ dist/*
    """,
)
