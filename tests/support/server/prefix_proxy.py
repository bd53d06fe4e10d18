"""A proxy like many ingresses: it serves a server under a path prefix, strips the prefix and changes no response."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


@contextlib.contextmanager
def behind_prefix(url: str, prefix: str) -> Iterator[str]:
    """Proxy the server at `url` within the context; yields the proxy's URL with the prefix and no trailing slash."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            inner = self.path.removeprefix(prefix)
            if not self.path.startswith(prefix) or not inner.startswith("/"):
                self.send_error(404, "outside of the prefix")
                return
            parts = urlsplit(url)
            length = int(self.headers.get("Content-Length", 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            try:
                connection.request(
                    self.command, inner, self.rfile.read(length), {**headers, "Host": self.headers["Host"]}
                )
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _PER_HOP | {"content-length"}:
                    self.send_header(name, value)
            if answer.status not in {204, 304}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_POST = _pass_on  # noqa: N815 - the handler's own interface

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}{prefix}"
        finally:
            proxy.shutdown()
            thread.join()
