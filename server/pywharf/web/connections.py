"""The connections of one port: how many are open, which are idle, and which idle ones are closed to make room."""

import asyncio
import logging
import select
import time

from aiohttp import web
from aiohttp.typedefs import Handler

_logger = logging.getLogger(__name__)
_FIRST_REQUEST_S = 30.0
"""Seconds for the head of a connection's first request. Later requests have the keep-alive timeout."""
_MAX_HEAD_BYTES = 64 * 1024
_NEW_S = 0.25
"""Seconds that a connection without a request is kept although others wait: its request may be on its way."""
_KEPT_S = 3.0
"""The same for a connection between two requests, in seconds."""
_MAX_CHECKED = 16
"""Most idle connections, of each kind (new or kept), that are checked to make room for one."""
_LOG_EVERY_S = 60.0
_HEAD_END = b"\r\n\r\n"
_TOO_LARGE_DETAIL = f"The head of a request may have {_MAX_HEAD_BYTES} bytes; send shorter headers.\n".encode()
_TOO_LARGE = b"\r\n".join(
    [
        b"HTTP/1.1 431 Request Header Fields Too Large",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(_TOO_LARGE_DETAIL),
        b"Connection: close",
        b"",
        _TOO_LARGE_DETAIL,
    ]
)


class Connections:
    """The open connections of one port, limited in number. When full, it closes those that have been idle longest."""

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self._what = what
        self._open: set[Connection] = set()
        self._opening: dict[asyncio.Task[object], float] = {}
        self._new: dict[Connection, float] = {}
        self._kept: dict[Connection, float] = {}
        """Monotonic time since when each is idle, longest first: `_new` before any request, `_kept` between two."""
        self._logged_at = -_LOG_EVERY_S

    @property
    def is_full(self) -> bool:
        """Whether no further connection may be opened."""
        return len(self._open) + len(self._opening) >= self.most

    def opening(self, task: asyncio.Task[object]) -> None:
        """Count a connection that is being opened, until its handshake is done."""
        self._opening[task] = time.monotonic()
        task.add_done_callback(lambda done: self._opening.pop(done, None))

    def make_room(self) -> bool:
        """Close the connection that has been idle longest, if for long enough. Returns whether one was closed."""
        now = time.monotonic()
        for task, since in self._opening.items():
            if now - since <= _NEW_S:
                break
            if not task.cancelling():
                task.cancel()
                return True
        for waiting, grace in ((self._new, _NEW_S), (self._kept, _KEPT_S)):
            for checked, (connection, since) in enumerate(waiting.items()):
                if now - since <= grace or checked == _MAX_CHECKED:
                    break
                if not connection.has_unread():
                    self.begun(connection)  # closing takes a moment; this connection must not be chosen twice
                    connection.abort()
                    return True
        return False

    def log(self, message: str) -> None:
        """Log a recurring warning, at most one a minute."""
        if time.monotonic() - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            _logger.warning(message, self._what)

    def opened(self, connection: "Connection") -> None:
        """Count an open connection, which waits for its first request."""
        self._open.add(connection)
        self._new[connection] = time.monotonic()

    def begun(self, connection: "Connection") -> None:
        """Note that the connection is no longer idle."""
        self._new.pop(connection, None)
        self._kept.pop(connection, None)

    def done(self, connection: "Connection") -> None:
        """Note that the connection is idle again."""
        if connection in self._open:
            self._kept[connection] = time.monotonic()

    def lost(self, connection: "Connection") -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self.begun(connection)


class Connection(web.RequestHandler):
    """The framework's connection, which also reports when it is idle and limits what it reads meanwhile."""

    __slots__ = ("_connections", "_deadline", "_head_bytes", "_head_came", "_tail", "_working")

    def __init__(self, server: web.Server, connections: Connections, **settings: object) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)  # type: ignore[arg-type]
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._working = False
        self._head_came = False
        """Whether a request's head has arrived. Its body or another request follows, which the framework limits."""
        self._head_bytes = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the first request (see asyncio.Protocol)."""
        super().connection_made(transport)
        self._connections.opened(self)
        self._deadline = asyncio.get_running_loop().call_later(_FIRST_REQUEST_S, self.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection and its deadline (see asyncio.Protocol)."""
        self._drop_deadline()
        self._connections.lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer 431 to a head that is too large; otherwise pass the bytes on (see asyncio.Protocol)."""
        if not self._working and not self._is_head(data):
            transport = self.transport
            if transport is not None:
                transport.write(_TOO_LARGE)
            self.force_close()
            return
        super().data_received(data)

    def _is_head(self, data: bytes) -> bool:
        """Return whether bytes that arrive while no request runs may belong to a request's head."""
        if self._head_came:
            return True
        # Empty lines before a request are not part of its head.
        seen = self._tail + (data if self._head_bytes else data.lstrip(b"\r\n"))
        if (end := seen.find(_HEAD_END)) >= 0:
            self._head_came = True
            return self._head_bytes + end <= _MAX_HEAD_BYTES
        self._tail = seen[-len(_HEAD_END) + 1 :]
        self._head_bytes += len(data)
        return self._head_bytes <= _MAX_HEAD_BYTES

    def begin(self) -> None:
        """Note that a request runs."""
        self._drop_deadline()
        self._working = True
        self._connections.begun(self)

    def end(self, *, body_came: bool) -> None:
        """Note that the request has ended. The framework reads the rest of its body."""
        self._working = False
        self._head_came = not body_came
        self._head_bytes, self._tail = 0, b""
        self._connections.done(self)

    def abort(self) -> None:
        """Close the connection without waiting for the client."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def has_unread(self) -> bool:
        """Return whether unread bytes have arrived from a client that has not hung up."""
        socket = None if self.transport is None else self.transport.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN | select.POLLRDHUP)
        found = poll.poll(0)
        return bool(found) and not found[0][1] & (select.POLLRDHUP | select.POLLHUP | select.POLLERR)

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Working:
    """Mark a request's connection as busy within the context. Every request pays for this; a generator is slow."""

    __slots__ = ("_connection", "_request")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        connection = request.protocol
        self._connection = connection if isinstance(connection, Connection) else None

    def __enter__(self) -> None:
        if self._connection is not None:
            self._connection.begin()

    def __exit__(self, *exc_info: object) -> None:
        if self._connection is not None:
            self._connection.end(body_came=self._request.content.is_eof())


@web.middleware
async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Mark connections as busy: the middleware of an application that has no other for this."""
    with Working(request):
        return await handler(request)
