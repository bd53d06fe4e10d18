"""Plain HTTP requests to a server under test."""

import base64
import http.client
import json
import re
import secrets
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30.0
SOURCE: str | None = None
"""The address of this machine from which servers at 127.0.0.1 are asked; None: the system's choice."""

Headers = Mapping[str, str]
FormField = tuple[str, str | bytes] | tuple[str, str, bytes]
"""A form field: name and value, or name, file name and content."""


@dataclass(frozen=True)
class Reply:
    """A complete response. `str` shows what is needed to understand a failed assertion."""

    status: int
    reason: str
    headers: Message
    body: bytes

    def __str__(self) -> str:
        shown = self.body[:500].decode("utf-8", "replace")
        return f"{self.status} {self.reason}\n{self.headers}{shown}"

    def header(self, name: str) -> str | None:
        """Return a header's value; several values of one name are joined."""
        values = self.headers.get_all(name)
        return None if values is None else ", ".join(values)

    def json(self) -> Any:
        """Parse the body, which must be JSON."""
        return json.loads(self.body)


def basic(user_and_secret: str) -> str:
    """Return the value of an Authorization header for `NAME:SECRET`."""
    return "Basic " + base64.b64encode(user_and_secret.encode()).decode()


def call(
    url: str,
    method: str = "GET",
    *,
    auth: str | None = None,
    headers: Headers | None = None,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Reply:
    """Send one request on its own connection, without following redirects. `auth` is NAME:SECRET."""
    connection = connect(url, context=context, timeout_s=timeout_s)
    try:
        return ask(connection, url, method, auth=auth, headers=headers, body=body)
    finally:
        connection.close()


def connect(
    url: str, *, context: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S
) -> http.client.HTTPConnection:
    """Return a connection to the server of `url`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    source = _source(parts.hostname)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(
            parts.hostname, parts.port, context=context, timeout=timeout_s, source_address=source
        )
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s, source_address=source)


def _source(host: str | None) -> tuple[str, int] | None:
    return (SOURCE, 0) if SOURCE is not None and host == "127.0.0.1" else None


def ask(
    connection: http.client.HTTPConnection,
    url: str,
    method: str = "GET",
    *,
    auth: str | None = None,
    headers: Headers | None = None,
    body: bytes | None = None,
) -> Reply:
    """Send one request on a connection that stays open if the server allows it."""
    parts = urlsplit(url)
    sent = dict(headers or {})
    if auth is not None:
        sent["Authorization"] = basic(auth)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request(method, target, body, sent)
    return reply_of(connection)


def reply_of(connection: http.client.HTTPConnection) -> Reply:
    """Read the response to the request that was sent on a connection."""
    response = connection.getresponse()
    return Reply(response.status, response.reason, response.headers, response.read())


def form(*fields: FormField) -> tuple[bytes, str]:
    """Return a multipart form's body and its Content-Type."""
    boundary = secrets.token_hex(16)
    body = b"".join(_part(boundary, f) for f in fields)
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, given: FormField) -> bytes:
    name, content = given[0], given[-1]
    filename = f'; filename="{given[1]!s}"' if len(given) == 3 else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n'
    if filename:
        head += "Content-Type: application/octet-stream\r\n"
    return f"{head}\r\n".encode() + (content if isinstance(content, bytes) else content.encode()) + b"\r\n"


def raw(url: str, *pieces: bytes, leave: bool = False, timeout_s: float = TIMEOUT_S) -> bytes:
    """Send bytes unchanged and read until the server closes the connection.

    With `leave` the sending side is closed first, as when a client's program ends.
    """
    with dial(url, timeout_s=timeout_s) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if leave:
            connection.shutdown(socket.SHUT_WR)
        return read_to_end(connection)


def dial(url: str, *, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """Open a connection without sending any HTTP."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    return socket.create_connection(address, timeout_s, source_address=_source(parts.hostname))


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = bytearray()
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received += piece
    return bytes(received)


def statuses(received: bytes) -> list[int]:
    """Return the status of each response in the bytes of a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]


def request_head(method: str, target: str, headers: Iterable[str] | Sequence[str] = ()) -> bytes:
    """Return a request's complete head as bytes. It is encoded as Latin-1, so that a test can send any byte."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode("latin-1")
