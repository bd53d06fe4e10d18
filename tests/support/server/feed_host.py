"""A host of a feed of advisories: conditional requests, and faults to choose."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FeedHost:
    """A running host; set `content` or a fault for the requests that follow."""

    def __init__(self) -> None:
        self.content = b""
        self.status = 200
        self.location = ""
        self.hangs = False
        """Whether it sends the beginning, then nothing more."""
        self.announced: int | None = None
        """A length to announce instead of the true one."""
        self.answers: list[int] = []
        """The statuses that were answered."""
        self.url = ""
        self.ended = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        etag = f'"{hashlib.sha256(self.content).hexdigest()}"'
        status = self.status
        if status == 200 and request.headers["If-None-Match"] == etag:
            status = 304
        self.answers.append(status)
        request.send_response(status)
        request.send_header("ETag", etag)
        if self.location:
            request.send_header("Location", self.location)
        body = self.content if status == 200 else b""
        request.send_header("Content-Length", str(len(body) if self.announced is None else self.announced))
        request.send_header("Connection", "close")
        request.end_headers()
        if self.hangs:
            request.wfile.write(body[: len(body) // 2])
            self.ended.wait(60)
            return
        request.wfile.write(body)


@contextlib.contextmanager
def hosting() -> Iterator[FeedHost]:
    """Run a host on a free loopback port."""
    host = FeedHost()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                host.answer(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_port}/feed.zip"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        host.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
