"""Byte ranges of a request (RFC 9110, section 14)."""

import re

from pywharf.core.errors import RangeNotSatisfiableError

_SPEC = re.compile(r"\s*(?:(\d{1,19})\s*-\s*(\d{0,19})|-\s*(\d{1,19}))\s*\Z", re.ASCII)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and last byte, inclusive, of the requested range; None means to send everything.

    Other units and headers with several ranges are ignored, as the RFC allows. Raises RangeNotSatisfiableError for a
    malformed header and for a range outside the file.
    """
    if header is None:
        return None
    unit, equals, specs = header.partition("=")
    if equals and unit.strip().lower() != "bytes":
        return None
    if equals and "," in specs:
        return None
    matched = _SPEC.match(specs) if equals else None
    if matched is None:
        raise RangeNotSatisfiableError(
            f"Range is {header[:100]!r}; write it as 'bytes=FIRST-LAST', 'bytes=FIRST-' or 'bytes=-COUNT'.", size
        )
    first_text, last_text, suffix = matched.groups()
    if suffix is not None:
        first, last = max(0, size - int(suffix)), size - 1
    else:
        first, last = int(first_text), min(int(last_text) if last_text else size - 1, size - 1)
    if first > last:
        raise RangeNotSatisfiableError(f"Range is {header[:100]!r}; the file has {size} bytes.", size)
    return first, last
