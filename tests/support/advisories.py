"""Feeds of advisories in OSV's format."""

import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pywharf.core.advisories.feed import compile_feed
from pywharf.core.advisories.store import AdvisoryStore, place_of
from pywharf.core.advisories.store_format import TRAILER, StoreMeta

Json = dict[str, Any]
MODIFIED = "2026-01-02T03:04:05Z"


def affected(
    name: str,
    versions: Sequence[str] | None = None,
    *ranges: Sequence[Json],
    ecosystem: str = "PyPI",
    kind: str = "ECOSYSTEM",
) -> Json:
    """Return one item of `affected`; each range is its events."""
    made: Json = {"package": {"ecosystem": ecosystem, "name": name}}
    if versions is not None:
        made["versions"] = list(versions)
    if ranges:
        made["ranges"] = [{"type": kind, "events": list(events)} for events in ranges]
    return made


def entry(identifier: str, *concerned: Json, modified: str = MODIFIED, **more: object) -> Json:
    """Return an entry about these packages."""
    summary = f"Advisory {identifier}"
    return {"id": identifier, "modified": modified, "summary": summary, "affected": list(concerned), **more}


def malware(name: str, *versions: str, modified: str = MODIFIED) -> Json:
    """Return a malware report; without versions about each one."""
    return entry(f"MAL-2026-{name}", affected(name, versions or None), modified=modified)


class _Stream(io.BytesIO):
    """A file that cannot be rewound, so that a zip gives each member's sizes after it."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation


def streamed_zip(entries: Iterable[Json | bytes]) -> bytes:
    """Return a zip as Go's library writes it."""
    return zipped(entries, _Stream())


def zipped(entries: Iterable[Json | bytes], made: io.BytesIO | None = None) -> bytes:
    made = io.BytesIO() if made is None else made
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, one in enumerate(entries):
            content = one if isinstance(one, bytes) else json.dumps(one).encode()
            archive.writestr(f"{number}.json", content)
    return made.getvalue()


def lines(entries: Iterable[Json | bytes]) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in entries)


def packed_lines(entries: Iterable[Json | bytes]) -> bytes:
    return gzip.compress(lines(entries))


FORMS: dict[str, Callable[[Iterable[Json | bytes]], bytes]] = {
    "zip": zipped,
    "streamed zip": streamed_zip,
    "lines": lines,
    "packed lines": packed_lines,
}


def compiled(
    feed: bytes, *, now: float | None = None, source: str = "test", validators: tuple[str, str] = ("", "")
) -> tuple[bytes, StoreMeta]:
    """Compile a feed in memory. Raises BadFeedError."""
    made = io.BytesIO()
    at = time.time() if now is None else now
    meta = compile_feed(io.BytesIO(feed), made, source=source, validators=validators, now=at)
    return made.getvalue(), meta


def opened(content: bytes) -> AdvisoryStore:
    """Open a compiled feed in memory. Raises BrokenStoreError."""
    place = place_of(content[-TRAILER.size :], len(content))
    tables = memoryview(content)[place.begin : place.begin + place.size]
    return AdvisoryStore(tables, place, lambda at, size: content[at : at + size])


def store_of(*entries: Json) -> AdvisoryStore:
    """Return the store of a feed of these entries."""
    return opened(compiled(lines(entries))[0])
