"""A proxy between a client and a server that forwards everything and records each request with its credentials."""

import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from support.background import in_background

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True)
class Recorded:
    """A recorded request. `user` and `secret` come from its basic authentication; None if it had none."""

    method: str
    path: str
    status: int
    user: str | None
    secret: str | None
    requested_range: str | None
    agent: str
    length: int
    """Bytes of the response body."""


class Recorder:
    """The proxy. Clients use `url` (without a trailing slash) instead of the server's."""

    def __init__(self, target: str, context: ssl.SSLContext | None) -> None:
        self.url = ""
        self.requests: list[Recorded] = []
        self._target = target
        self._context = context
        self._cuts: dict[str, int] = {}

    def cut_after(self, filename: str, length: int) -> None:
        """Cut the connection after that many bytes of a file, once."""
        self._cuts[filename] = length

    async def _pass_on(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        body = await request.read()
        async with session.request(
            request.method,
            self._target + request.raw_path,
            headers=headers,
            data=body or None,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            self._record(request, answer.status, len(content))
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            cut = self._cuts.pop(request.path.rpartition("/")[2], None)
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
            await response.prepare(request)
            if request.method != "HEAD":
                await response.write(content[:cut])
            if cut is not None:
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write_eof()
            return response

    def _record(self, request: web.Request, status: int, length: int) -> None:
        user, secret = _credentials(request.headers.get("Authorization"))
        self.requests.append(
            Recorded(
                request.method,
                request.raw_path,
                status,
                user,
                secret,
                request.headers.get("Range"),
                request.headers.get("User-Agent", ""),
                length,
            )
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Forward requests within the context, on a free port."""
        async with aiohttp.ClientSession(
            auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers={"User-Agent", "Accept"}
        ) as session:
            app = web.Application(client_max_size=_MAX_BODY)

            async def pass_on(request: web.Request) -> web.StreamResponse:
                return await self._pass_on(request, session)

            app.router.add_route("*", "/{path:.*}", pass_on)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context)
                await site.start()
                self.url = f"{'https' if self._context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
                yield
            finally:
                await runner.cleanup()


@contextlib.contextmanager
def recording(target: str, context: ssl.SSLContext | None = None) -> Iterator[Recorder]:
    """Run a recorder in front of `target` (no trailing slash) in a thread; with a `context` it uses TLS."""
    recorder = Recorder(target, context)
    with in_background(recorder.serving(), "recorder"):
        yield recorder


def _credentials(header: str | None) -> tuple[str | None, str | None]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None, None
    user, _, secret = base64.b64decode(encoded).decode().partition(":")
    return user, secret
