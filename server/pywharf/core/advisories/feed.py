"""Read a feed: a zip with one JSON file for each entry, or lines of JSON, plain or packed with gzip.

One bad entry is skipped and counted. A feed that is damaged as a whole, over a limit, or mostly unreadable is refused.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import msgspec

from pywharf.core.advisories.entry import MAX_ENTRY_BYTES, BadEntryError, parse_entry
from pywharf.core.advisories.store_format import StoreMeta
from pywharf.core.advisories.writing import Skipped, StoreWriter, TooLargeFeedError
from pywharf.core.errors import InvalidDistributionError
from pywharf.core.zip_format import UnreadableZipError
from pywharf.core.zip_reading import ZipReader

MAX_UNPACKED_BYTES: Final = 4 * 1024 * 1024 * 1024
MAX_MEMBERS: Final = 1_000_000
_FUTURE_S: Final = 86_400.0
"""Seconds that an entry's time may be ahead of this machine's clock and still count for the age of the feed."""
_MALWARE: Final = re.compile(rb'"id"\s*:\s*"MAL-')
_ZIP, _GZIP = b"PK", b"\x1f\x8b"
_SHOWN = "the feed"


class BadFeedError(ValueError):
    """A feed that cannot be used as a whole. The text continues a sentence."""


def compile_feed(  # noqa: PLR0913 - what is read, what is kept of it, and how fast
    feed: BinaryIO,
    store: BinaryIO,
    *,
    source: str,
    validators: tuple[str, str],
    now: float,
    pause: Callable[[], None] = lambda: None,
) -> StoreMeta:
    """Read a feed, and write the file of a compiled one; see `store_format`. `now`: Unix seconds.

    `pause` is called often, and may sleep.

    Raises BadFeedError, OSError.
    """
    writer = StoreWriter(store, pause)
    skipped = Skipped()
    try:
        for content in _entries(feed):
            pause()
            if content is None:
                fault = "it cannot be unpacked, or is too large"
            else:
                try:
                    entry = parse_entry(content)
                except BadEntryError as error:
                    fault = str(error)
                else:
                    if entry is None or writer.add(entry, content, now + _FUTURE_S):
                        continue
                    skipped.add(f"the feed has {entry.id} twice", malware=False)
                    continue
            skipped.add(fault, malware=content is not None and _MALWARE.search(content) is not None)
        meta = writer.finish(source, validators, skipped)
    except TooLargeFeedError as error:
        raise BadFeedError(str(error)) from error
    except (UnreadableZipError, InvalidDistributionError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise BadFeedError(f"it is damaged: {error}".rstrip(".")) from error
    if not meta.entries:
        raise BadFeedError(f"it has no entry about PyPI{_because(meta)}")
    if meta.skipped > meta.entries:
        raise BadFeedError(f"{meta.skipped} of its entries cannot be used, and only {meta.entries} can{_because(meta)}")
    return meta


def _because(meta: StoreMeta) -> str:
    return f" (the first fault: {meta.first_skipped})" if meta.first_skipped else ""


def _entries(feed: BinaryIO) -> Iterator[bytes | None]:
    """Yield the JSON of each entry; None for one that cannot be unpacked."""
    head = feed.read(2)
    feed.seek(0)
    if head == _ZIP:
        yield from _members(feed)
    elif head == _GZIP:
        with gzip.GzipFile(fileobj=feed) as unpacked:
            yield from _lines(unpacked)  # type: ignore[arg-type] # a GzipFile reads like any binary file
    else:
        yield from _lines(feed)


def _members(feed: BinaryIO) -> Iterator[bytes | None]:
    reader = ZipReader(feed, _SHOWN, MAX_MEMBERS)
    left = MAX_UNPACKED_BYTES
    for member in reader.members():
        if member.is_folder or not member.path.endswith(".json"):
            continue
        left -= member.size if member.size <= MAX_ENTRY_BYTES else 0
        if left < 0:
            raise _too_large()
        try:
            yield reader.read_member(member, MAX_ENTRY_BYTES)
        except (UnreadableZipError, InvalidDistributionError, zlib.error):
            yield None


def _lines(feed: BinaryIO) -> Iterator[bytes | None]:
    left = MAX_UNPACKED_BYTES
    while line := feed.readline(MAX_ENTRY_BYTES + 1):
        left -= len(line)
        if left < 0:
            raise _too_large()
        if len(line) > MAX_ENTRY_BYTES and not line.endswith(b"\n"):
            yield None
            while (line := feed.readline(MAX_ENTRY_BYTES)) and not line.endswith(b"\n"):
                left -= len(line)
                if left < 0:
                    raise _too_large()
        elif not line.isspace():
            _check_end(line)
            yield line.strip()


def _check_end(line: bytes) -> None:
    """Raise BadFeedError if the feed ends within this line, as a copy does that was interrupted."""
    if line.endswith(b"\n") or not line.startswith(b"{"):
        return
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadFeedError("its last line is cut off") from None


def _too_large() -> BadFeedError:
    return BadFeedError(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
