"""POST /initialize/: replace the configuration of a running server that does not read it from a file.

The original left this open to everybody. Here it is off unless a secret is set, and requires that secret.
"""

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiohttp import hdrs, web

from pywharf.core.errors import (
    NO_CREDENTIALS,
    ForbiddenError,
    InvalidConfigError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from pywharf.serving.config_source import ConfigSource, SubmittedConfig
from pywharf.serving.worker_digests import ServedConfigs
from pywharf.web.forms import read_small_form

_ALL_WORKERS_S = 10.0
_POLL_INTERVAL_S = 0.05
_FIELDS = ("config", "admin_secret")
_MAX_FORM_BYTES = 16 * 1024 * 1024
_FORM_S = 60.0


class Initializer:
    """The handler that checks a configuration, passes it to every worker and waits until each serves it."""

    def __init__(self, secret: str | None, source: ConfigSource, folder: Path | None, served: ServedConfigs) -> None:
        self._secret = secret
        self._source = source
        self._served = served
        self._folder = folder
        """The private folder that the workers share; None if this server accepts no configuration."""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer POST /initialize/: `config` and `admin_secret` are form fields or files.

        The secret is sent as `Authorization: Bearer SECRET` or as the password of basic authentication.
        """
        if self._secret is None or self._folder is None:
            raise NotFoundError("This server takes no configuration here: it was started without --initialize_secret.")
        if not self._is_authorized(request, self._secret):
            reason = "initialize" if hdrs.AUTHORIZATION in request.headers else NO_CREDENTIALS
            raise UnauthenticatedError(
                "Send the secret of --initialize_secret as 'Authorization: Bearer SECRET'.", reason
            )
        if not self._source.takes_submissions:
            raise ForbiddenError("This server's configuration comes from a file; change that file, it is watched.")
        submitted = await _read_form(request)
        loaded = await asyncio.to_thread(self._source.load_submitted, submitted)
        async with _submission_lock(self._folder / "turn"):
            await asyncio.to_thread(_write, self._folder / "submitted.json", submitted)
            await self._wait_for_workers(loaded.digest)
        return web.Response(text="Done\n")

    @staticmethod
    def _is_authorized(request: web.Request, secret: str) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except ValueError:
                return False
        elif scheme.lower() != "bearer":
            return False
        digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, secret))
        return hmac.compare_digest(*digests)

    async def _wait_for_workers(self, digest: str) -> None:
        end = time.monotonic() + _ALL_WORKERS_S
        while time.monotonic() < end:
            if await asyncio.to_thread(self._served.common) == digest:
                return
            await asyncio.sleep(_POLL_INTERVAL_S)
        raise UnavailableError("The configuration was taken, but not every worker serves it yet; ask /readyz.")


@contextlib.asynccontextmanager
async def _submission_lock(path: Path) -> AsyncIterator[None]:
    """Hold the lock that all workers share: every worker serves one submission before the next is written."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + _ALL_WORKERS_S
        while not _locked(descriptor):
            if time.monotonic() > end:
                raise UnavailableError("Another configuration is just being taken; try again.")
            await asyncio.sleep(_POLL_INTERVAL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _read_form(request: web.Request) -> SubmittedConfig:
    if request.content_type not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise InvalidConfigError(
            f"Content-Type is {request.content_type[:80]!r}; send a form (multipart or urlencoded)."
        )
    form = await read_small_form(request, _MAX_FORM_BYTES, _FORM_S)
    texts: dict[str, str] = {}
    for field in _FIELDS:
        value = form.get(field, "")
        try:
            texts[field] = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError as error:
            raise InvalidConfigError(f"{field} is not UTF-8 text.") from error
    if not texts["config"]:
        raise InvalidConfigError("The form has no field 'config' with the TOML text or file.")
    return SubmittedConfig(texts["config"], texts["admin_secret"])


def _write(path: Path, submitted: SubmittedConfig) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(submitted))
    temporary.replace(path)
