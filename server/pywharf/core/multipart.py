"""Parse a form of type multipart/form-data (RFC 7578) piece by piece, as it arrives.

A client's headers never choose a codec: some of Python's codecs take hours for a megabyte (punycode). Each byte is read
a fixed number of times, whatever the form holds.
"""

import functools
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import msgspec

_MAX_HEADERS = 16
_MAX_HEAD_BYTES = 4096
"""Bytes of one part's headers. Clients send up to three headers and a file name of at most 240 characters."""
_MAX_SOUGHT_BYTES = 8192
"""Bytes in which the end of a part's headers is sought, so that the error names the worst fault of long ones."""
_MAX_BLANK_BYTES = 100
"""Blank bytes after a boundary on its line, and after the last one."""
_END = b"\r\n"
_BOUNDARY = re.compile(r";\s*boundary\s*=\s*(?:\"([ -!#-~]{1,70})\"|([!#-:<-~]{1,70})(?=\s*(?:;|\Z)))", re.IGNORECASE)
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER = re.compile(rf"({_WORD}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*({_WORD})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";]*))")
_TRANSFER_ENCODINGS = {"binary", "8bit", "7bit"}
UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
"""The names by which clients call the only charset that the server reads."""


class Part(msgspec.Struct, frozen=True):
    """The beginning of a field or file; its content follows."""

    name: str
    filename: str | None
    """None for a field."""
    head_bytes: int


_Step = tuple[Part | bytes | None, int]
"""What was found, and the position after what was read. Nothing and the same position: more must arrive."""


class FormParser:
    """A parser of one form. Each method raises ValueError with the reason if the form cannot be read."""

    def __init__(self, content_type: str) -> None:
        found = _BOUNDARY.search(content_type)
        if found is None:
            raise ValueError("its Content-Type has no boundary of 1 to 70 characters")
        self._delimiter = b"\r\n--" + (found[1] or found[2]).encode()
        self._next: Callable[[FormParser, bytes, int], _Step] = FormParser._first_boundary
        self._left = _END
        """Bytes that are not parsed yet. A line end comes before the form, because a boundary begins with one."""

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Yield the parts that begin in `data`, each followed by the pieces of its content. Exhaust the iterator."""
        buffer, at = self._left + data, 0
        while True:
            event, after = self._next(self, buffer, at)
            if event is not None:
                yield event
            elif after == at:
                self._left = buffer[at:]
                return
            at = after

    def close(self) -> None:
        """Check that the form has ended."""
        if self._next is not FormParser._epilogue:
            raise ValueError("it ends before its last boundary")

    def _first_boundary(self, buffer: bytes, at: int) -> _Step:
        begin = at + 2 if buffer.startswith(b"\r\n\r\n", at) else at  # some old clients begin with a line end
        if len(buffer) - begin < len(self._delimiter):
            return None, at
        if not buffer.startswith(self._delimiter, begin):
            raise ValueError("it does not begin with its boundary")
        self._next = FormParser._boundary_line
        return None, begin + len(self._delimiter)

    def _boundary_line(self, buffer: bytes, at: int) -> _Step:
        """Read the rest of the line of a boundary; "--" is the mark of the last one."""
        if buffer.startswith(b"--", at):
            self._next = FormParser._epilogue
            return None, at + 2
        end = buffer.find(_END, at, at + _MAX_BLANK_BYTES)
        if end < 0 and len(buffer) - at < _MAX_BLANK_BYTES:
            return None, at
        if end < 0 or buffer[at:end].strip(b" \t"):
            raise ValueError("a boundary is not alone on its line")
        self._next = FormParser._head
        return None, end + 2

    def _head(self, buffer: bytes, at: int) -> _Step:
        if buffer.startswith(_END, at):
            raise ValueError("a part of it has no headers, and so no name")
        end = buffer.find(_END + _END, at, at + _MAX_SOUGHT_BYTES)
        if end < 0 and len(buffer) - at < _MAX_SOUGHT_BYTES:
            return None, at
        part = _part(buffer[at:end]) if end >= 0 else None
        if part is None or part.head_bytes > _MAX_HEAD_BYTES:
            raise ValueError(f"the headers of a part have over {_MAX_HEAD_BYTES} bytes; send fewer")
        self._next = FormParser._content
        return part, end + 4

    def _content(self, buffer: bytes, at: int) -> _Step:
        found = buffer.find(self._delimiter, at)
        if found < 0:  # what has arrived may end within a boundary
            end = max(at, len(buffer) - len(self._delimiter) + 1)
            return buffer[at:end] or None, end
        self._next = FormParser._boundary_line
        return buffer[at:found] or None, found + len(self._delimiter)

    def _epilogue(self, buffer: bytes, at: int) -> _Step:
        if len(buffer) - at > _MAX_BLANK_BYTES or buffer[at:].strip():
            raise ValueError("something follows its last boundary")
        return None, at


@functools.lru_cache(maxsize=256)  # a client's fields have the same headers in every form
def _part(head: bytes) -> Part:
    """Parse a part's headers."""
    headers: dict[str, str] = {}
    for line in head.decode().split("\r\n"):
        found = _HEADER.fullmatch(line)
        if found is None or len(headers) == _MAX_HEADERS:
            raise ValueError(f"a part has over {_MAX_HEADERS} headers, or one that cannot be read: {line[:80]!r}")
        name = found[1].lower()
        if name in headers:
            raise ValueError(f"a part has its header {name[:80]!r} twice")
        headers[name] = found[2]
    if headers.get("content-type", "").lstrip().lower().startswith("multipart/"):
        raise ValueError("a part of it is a form itself")
    parameters = _parameters(headers.get("content-disposition", ""))
    name = parameters.get("name")
    if name is None:
        raise ValueError("a part of it has no name")
    transfer = headers.get("content-transfer-encoding", "binary").strip()
    if transfer.lower() not in _TRANSFER_ENCODINGS:
        raise ValueError(f"{name[:80]!r} has the Content-Transfer-Encoding {transfer[:80]!r}; send it as it is")
    return Part(name, parameters.get("filename"), len(head))


def _parameters(disposition: str) -> dict[str, str]:
    """Return the parameters of a Content-Disposition. An encoded one (RFC 5987) comes before a plain one."""
    kind, semicolon, _ = disposition.partition(";")
    plain: dict[str, str] = {}
    encoded: dict[str, str] = {}
    at = len(kind)
    while found := _PARAMETER.match(disposition, at):
        at = found.end()
        key, quoted, token = found.groups()
        name, star, piece = key.lower().partition("*")
        if piece:
            raise ValueError(f"a part's {name[:80]!r} comes in pieces (RFC 2231); send it as one")
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
        known = encoded if star else plain
        if name in known:
            raise ValueError(f"a part has its {name[:80]!r} twice")
        known[name] = _decoded(name, value) if star else value
    if disposition[at:].strip(" \t;") or (semicolon and kind.strip().lower() != "form-data"):
        raise ValueError(f"the Content-Disposition of a part cannot be read: {disposition[:200]!r}")
    return plain | encoded


def _decoded(name: str, value: str) -> str:
    """Decode an encoded parameter, such as `filename*=utf-8''a.whl`."""
    charset, _, rest = value.partition("'")
    _, quote, text = rest.partition("'")
    if charset.strip() and charset.strip().lower() not in UTF_8:
        raise ValueError(f"a part's {name[:80]!r} is in {charset[:80]!r}; send UTF-8")
    if not quote:
        raise ValueError(f"a part's {name[:80]!r} is not encoded as RFC 5987 says; send it plainly")
    return unquote(text, "utf-8", "strict")
