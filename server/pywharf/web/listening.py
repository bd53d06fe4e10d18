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

Seen = tuple[tuple[int, int, int] | None, ...]


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
    state: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError:
            state.append(None)
        else:
            state.append((status.st_ino, status.st_mtime_ns, status.st_size))
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
    task = asyncio.create_task(_accept_limited(runner, listener, context, max_connections))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        listener.close()


async def _accept_limited(
    runner: web.AppRunner, listener: socket, context: ssl.SSLContext | None, max_connections: int
) -> None:
    """Accept while fewer than the limit are served; the others wait in the backlog."""
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None  # noqa: S101 - the runner was set up
    opening: set[asyncio.Task[object]] = set()
    while True:
        while len(server.connections) + len(opening) >= max_connections:  # noqa: ASYNC110
            await asyncio.sleep(_FULL_PAUSE_S)  # the framework tells nobody when a connection ends
        try:
            connection, _ = await loop.sock_accept(listener)
        except ConnectionError:  # it went away while it waited
            continue
        except OSError as error:  # no file descriptor or memory left
            _logger.error("A connection cannot be accepted now: %s.", error.strerror)  # noqa: TRY400
            await asyncio.sleep(_NO_RESOURCES_PAUSE_S)
            continue
        opened = asyncio.ensure_future(
            loop.connect_accepted_socket(
                server, connection, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S if context else None
            )
        )
        opening.add(opened)
        opened.add_done_callback(opening.discard)
        # A failed handshake is the client's matter; asking for its error keeps the loop from reporting it.
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())
