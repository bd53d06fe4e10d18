"""Listening sockets and TLS: accepting connections, reloading certificates."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT, socket

from aiohttp import web

from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.web.connections import Connection, Connections

_logger = logging.getLogger(__name__)
_POLL_INTERVAL_S = 1.0
_FULL_PAUSE_S = 0.01
_NO_RESOURCES_PAUSE_S = 0.25
_HANDSHAKE_S = 20.0
_MAX_ACCEPTS_PER_WAKEUP = 16
_UNREAD_MS = 120_000
"""Milliseconds after which the kernel cuts off a client that reads nothing of what it was sent."""

Seen = tuple[tuple[int, int, int, int] | None, ...]


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Create the TLS context of a certificate and its key. Raises InvalidConfigError if they cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key)
    return context


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # Without `password`, an encrypted key would prompt on the terminal; it is an error instead.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidConfigError(f"--tls_cert {cert} and --tls_key {key} cannot be used: {reason}.") from error


async def watch_tls(context: ssl.SSLContext, cert: str, key: str, seen: Seen) -> None:
    """Reload the certificate and key whenever they change. A bad pair is refused and the last good one kept."""
    while True:
        await asyncio.sleep(_POLL_INTERVAL_S)
        state = await asyncio.to_thread(files_state, cert, key)
        if state == seen:
            continue
        seen = state
        try:
            # Try another context first: a failed load could leave a certificate without its key.
            await asyncio.to_thread(tls_context, cert, key)
            _load(context, cert, key)
        except InvalidConfigError as error:
            _logger.error("The new certificate is refused, the last good one stays: %s", error)  # noqa: TRY400
        else:
            _logger.info("A new certificate is served.")


def files_state(*paths: str) -> Seen:
    """Return the files' current state. Taken before they are read, it reveals any later change."""
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
async def accepting(  # noqa: PLR0913 - its parts, all by name
    runner: web.AppRunner,
    listener: socket,
    *,
    connections: Connections,
    settings: Mapping[str, object],
    backlog: int,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Accept connections within the context. `settings` are the framework's settings of each connection."""
    listener.listen(backlog)
    listener.setblocking(False)  # noqa: FBT003 - the socket's own interface
    assert runner.server is not None  # noqa: S101 - the runner was set up
    server = runner.server
    acceptor = _Acceptor(lambda: Connection(server, connections, **settings), listener, context, connections)
    acceptor.go_on()
    try:
        yield
    finally:
        acceptor.stop()
        listener.close()


class _Acceptor:
    """The acceptor of one socket. It closes idle connections to make room; otherwise clients wait in the backlog."""

    def __init__(
        self,
        protocols: Callable[[], Connection],
        listener: socket,
        context: ssl.SSLContext | None,
        connections: Connections,
    ) -> None:
        self._protocols = protocols
        self._listener = listener
        self._context = context
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None

    def go_on(self) -> None:
        """Start or resume accepting."""
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Stop accepting. No accepted connection is lost, as it would be with a cancelled `sock_accept`."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self.go_on)

    def _accept(self) -> None:
        # Accept a limited number, so that open connections continue to be served.
        for _ in range(_MAX_ACCEPTS_PER_WAKEUP):
            if self._connections.is_full:
                self._connections.log("All connections of the %s are in use; those that wait longest are closed.")
                if not self._connections.make_room():
                    self._wait(_FULL_PAUSE_S)
                    return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # another worker took it, or the client left
                return
            except OSError as error:  # no file descriptor or memory left
                self._connections.log(f"A connection of the %s cannot be accepted now: {reason_of(error)}.")
                self._connections.make_room()
                self._wait(_NO_RESOURCES_PAUSE_S)
                return
            self._open(connection)

    def _open(self, connection: socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket's own interface
        with contextlib.suppress(OSError):  # a kernel without this option
            connection.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, _UNREAD_MS)
        opened = asyncio.ensure_future(
            self._loop.connect_accepted_socket(
                self._protocols,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S if self._context else None,
            )
        )
        self._connections.opening(opened)
        # A failed handshake is the client's fault. Retrieving its exception keeps the loop from logging it.
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())
