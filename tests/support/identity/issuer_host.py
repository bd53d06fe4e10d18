"""A host of JSON documents: an OIDC issuer or an API server whose answers and faults a test chooses."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.certificates import Certificates
from support.identity.tokens import SigningKey, jwks
from support.waiting import until

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


class IssuerHost:
    """A running host; set a document or a fault for the requests that follow."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        """By path; another path is answered 404."""
        self.status = 200
        self.location = ""
        self.hangs = False
        """Whether it sends the beginning, then nothing more."""
        self.asked: list[str] = []
        """The paths that were requested."""
        self.received: list[dict[str, Any]] = []
        """The documents that were posted."""
        self.authorizations: list[str | None] = []
        self.url = ""
        self.ended = threading.Event()

    def publish(self, *keys: SigningKey, **changed: object) -> None:
        """Publish these keys; `changed` are fields of the discovery document."""
        found = {"issuer": self.url, "jwks_uri": self.url + KEYS, **changed}
        self.documents = {DISCOVERY: json.dumps(found).encode(), KEYS: json.dumps(jwks(*keys)).encode()}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        self.authorizations.append(request.headers["Authorization"])
        if request.command == "POST":
            self.received.append(json.loads(request.rfile.read(int(request.headers["Content-Length"]))))
        body = self.documents.get(request.path)
        request.send_response(self.status if body is not None else 404)
        if self.location:
            request.send_header("Location", self.location)
        body = body or b"{}"
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Connection", "close")
        request.end_headers()
        if self.hangs:
            request.wfile.write(body[: len(body) // 2])
            self.ended.wait(60)
            return
        request.wfile.write(body)


async def settled() -> None:
    """Wait until the transports of a client that was closed are closed, too: TLS says goodbye to its peer."""
    loop: Any = asyncio.get_running_loop()
    await until(lambda: len(loop._selector.get_map()) <= 1, "the transports to close")  # noqa: SLF001 - no call tells it


@contextlib.contextmanager
def issuer_host(tls: Certificates | None = None) -> Iterator[IssuerHost]:
    """Run a host on a free loopback port."""
    host = IssuerHost()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                host.answer(self)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.server_context().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    host.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        host.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
