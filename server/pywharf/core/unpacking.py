"""Unpack the body of an HTTP response without ever holding more than a limit. Pure."""

import zlib

_WINDOWS = {"": None, "identity": None, "gzip": 31, "x-gzip": 31}
_STEP = 256 * 1024
"""Maximum bytes that are unpacked in one step."""
ACCEPTED = "gzip"
"""The value to send as Accept-Encoding."""


class TooLargeBodyError(ValueError):
    """A body over its limit."""


class Body:
    """The body of one response, fed as it arrives. `longest` is its maximum bytes after unpacking."""

    def __init__(self, encoding: str, longest: int) -> None:
        """Start with an empty body. Raises ValueError for an encoding that was not requested."""
        name = encoding.strip().lower()
        if name not in _WINDOWS:
            raise ValueError(f"it is encoded as {name[:40]!r}, which was not asked for")
        self._window = _WINDOWS[name]
        self._unpacking = zlib.decompressobj(self._window) if self._window is not None else None
        self._longest = longest
        self._content = bytearray()

    def __len__(self) -> int:
        return len(self._content)

    def feed(self, received: bytes) -> None:
        """Add the next bytes. Raises TooLargeBodyError over the limit, and ValueError for a badly packed body."""
        while received:
            received = self._feed(received)

    def _feed(self, received: bytes) -> bytes:
        """Add the bytes of one gzip member, and return those of the next."""
        if self._unpacking is None or self._window is None:
            self._add(received[: self._longest + 1 - len(self._content)])
            return b""
        if self._unpacking.eof:  # a gzip file may have several members
            self._unpacking = zlib.decompressobj(self._window)
        is_more = True
        while not self._unpacking.eof and (received or is_more):
            try:
                unpacked = self._unpacking.decompress(received, _STEP)
            except zlib.error as error:
                raise ValueError("it is not packed as it says") from error
            received, is_more = self._unpacking.unconsumed_tail, len(unpacked) == _STEP
            self._add(unpacked)
        return self._unpacking.unused_data

    def _add(self, content: bytes) -> None:
        self._content += content
        if len(self._content) > self._longest:
            raise TooLargeBodyError(f"it has over {self._longest} bytes")

    def whole(self) -> bytes:
        """Return the whole content. Raises ValueError if its end is missing."""
        if self._unpacking is not None and not self._unpacking.eof and len(self._content):
            raise ValueError("its end is missing")
        return bytes(self._content)
