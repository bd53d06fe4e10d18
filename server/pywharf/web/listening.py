"""Sockets and TLS: accepting connections, reading certificates again."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import socket

from aiohttp import web

from pywharf.core.errors import InvalidConfigError

_logger = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
_FULL_PAUSE_S = 0.01
_NO_RESOURCES_PAUSE_S = 1.0
_HANDSHAKE_S = 20.0

Seen = tuple[tuple[int, int, int, int] | None, ...]


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Raises InvalidConfigError where the pair cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key)
    return context


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # A password would be asked for on the terminal; an encrypted key is an error instead.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        msg = f"--tls_cert {cert} and --tls_key {key} cannot be used: {reason}."
        raise InvalidConfigError(msg) from error


async def watch_tls(context: ssl.SSLContext, cert: str, key: str, seen: Seen) -> None:
    """Read the pair again whenever it changes; a bad one is refused and the last good one stays."""
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        state = await asyncio.to_thread(files_state, cert, key)
        if state == seen:
            continue
        seen = state
        try:
            # Tried on another context first: a failed load could leave a certificate without its key.
            await asyncio.to_thread(tls_context, cert, key)
            _load(context, cert, key)
        except InvalidConfigError as error:
            _logger.error("The new certificate is refused, the last good one stays: %s", error)  # noqa: TRY400
        else:
            _logger.info("A new certificate is served.")


def files_state(*paths: str) -> Seen:
    """What files are like now; noted before reading them, it shows any change of what was read."""
    state: list[tuple[int, int, int, int] | None] = []
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError:
            state.append(None)
        else:
            state.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return tuple(state)


@asynccontextmanager
async def accepting(
    runner: web.AppRunner,
    listener: socket,
    *,
    context: ssl.SSLContext | None,
    backlog: int,
    max_connections: int,
) -> AsyncIterator[None]:
    """Accept connections within the context."""
    if not max_connections:
        site = web.SockSite(runner, listener, ssl_context=context, backlog=backlog)
        await site.start()
        try:
            yield
        finally:
            await site.stop()
        return
    listener.listen(backlog)
    listener.setblocking(False)  # noqa: FBT003 - the socket's own interface
    limited = _LimitedAccepting(runner, listener, context, max_connections)
    limited.go_on()
    try:
        yield
    finally:
        limited.stop()
        listener.close()


class _LimitedAccepting:
    """Accepts while fewer connections than the limit are served; the others wait in the backlog."""

    def __init__(
        self, runner: web.AppRunner, listener: socket, context: ssl.SSLContext | None, max_connections: int
    ) -> None:
        assert runner.server is not None  # noqa: S101 - the runner was set up
        self._server = runner.server
        self._listener = listener
        self._context = context
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def go_on(self) -> None:
        """Accept from now on; as long as the limit is reached, look again in a moment."""
        self._pause = None
        if len(self._server.connections) + len(self._opening) >= self._max_connections:
            self._wait(_FULL_PAUSE_S)  # the framework tells nobody when a connection ends
        else:
            self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Accept no more. Nothing that was accepted is lost, as it would be with a cancelled `sock_accept`."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self.go_on)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # another worker has it, or it went away
            return
        except OSError as error:  # no file descriptor or memory left
            _logger.error("A connection cannot be accepted now: %s.", error.strerror)  # noqa: TRY400
            self._wait(_NO_RESOURCES_PAUSE_S)
            return
        connection.setblocking(False)  # noqa: FBT003 - the socket's own interface
        opened = asyncio.ensure_future(
            self._loop.connect_accepted_socket(
                self._server,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S if self._context else None,
            )
        )
        self._opening.add(opened)
        opened.add_done_callback(self._opening.discard)
        # A failed handshake is the client's matter; asking for its error keeps the loop from reporting it.
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())
        if len(self._server.connections) + len(self._opening) >= self._max_connections:
            self._wait(_FULL_PAUSE_S)
