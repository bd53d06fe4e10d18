"""Many clients that download one file concurrently, at little cost of their own."""

import hashlib
import socket
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from support.server.calling import basic, request_head
from support.server.pull_through import in_threads

_SAMPLE_S = 0.02
_TIMEOUT_S = 100.0


class Counted:
    """A client that reads a file and drops its bytes, as cheaply as the system allows."""

    def __init__(self, url: str, path: str, auth: str, size: int, *, checked: bool) -> None:
        self._address = urlsplit(url).hostname, urlsplit(url).port
        headers = ["Host: x", "Connection: close", f"Authorization: {basic(auth)}"]
        self._head = request_head("GET", path, headers)
        self._size, self._checked = size, checked
        self.outcome = ""

    def run(self) -> None:
        """Send the request. `outcome` is then the digest, or the number of bytes, or what went wrong."""
        try:
            with socket.create_connection(self._address, _TIMEOUT_S) as connection:
                connection.sendall(self._head)
                self.outcome = self._read(connection)
        except OSError as error:
            self.outcome = repr(error)

    def _read(self, connection: socket.socket) -> str:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(4096)
            if not piece:
                return f"no response: {received!r}"
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return head.decode()
        digest, count = hashlib.sha256(body), len(body)
        buffer = bytearray(256 * 1024)
        while count < self._size:
            # MSG_TRUNC drops what a TCP socket has received instead of copying it.
            number = connection.recv_into(buffer, 0, 0 if self._checked else socket.MSG_TRUNC)
            if not number:
                break
            digest.update(memoryview(buffer)[:number]) if self._checked else None
            count += number
        return digest.hexdigest() if self._checked else str(count)


def download_at_once(clients: Sequence[Counted]) -> Iterator[None]:
    """Run all clients concurrently. Yields now and then until all have ended."""
    with in_threads([threading.Thread(target=client.run) for client in clients]):
        while not all(client.outcome for client in clients):
            yield
            threading.Event().wait(_SAMPLE_S)
