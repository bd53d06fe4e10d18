"""Questions about advisories as OSV's API asks them, and their answers, one bounded page at a time."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from pywharf.core.advisories.entry import ECOSYSTEM
from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.errors import InvalidInputError, InvalidNameError
from pywharf.core.filenames import MAX_VERSION
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.core.struct_errors import decode_body

MAX_QUERIES: Final = 1000
"""Queries in one batch, as OSV has it."""
MAX_PAGE: Final = 1000
"""Entries in the answer to one query; the rest is on further pages."""
MAX_BATCH: Final = 3000
"""Entries in the answer to a batch."""
_PIECE_BYTES: Final = 64 * 1024
"""Bytes of an answer that are in memory: a client that reads slowly costs only that."""
_AFTER: Final = "after:"
"""A page's token says after which entry the page begins."""
_PURL: Final = "pkg:pypi/"

_Text = Annotated[str, Meta(max_length=1024)]


class _Package(msgspec.Struct, frozen=True):
    name: _Text = ""
    ecosystem: _Text = ""
    purl: _Text = ""


@warmed_up
class _Asked(msgspec.Struct, frozen=True):
    package: _Package | None = None
    version: _Text = ""
    commit: _Text = ""
    page_token: _Text = ""


@warmed_up
class _AskedBatch(msgspec.Struct, frozen=True):
    queries: list[msgspec.Raw] = []
    """They are counted before any is decoded."""


class Query(msgspec.Struct, frozen=True):
    """One question."""

    project: ProjectName | None
    """None: of something else than a project of PyPI, about which nothing is known here."""
    version: str | None
    """None: any version."""
    after: str = ""
    """The identifier after which the page begins."""


def parse_query(body: bytes) -> Query:
    """Parse the body of POST /v1/query. Raises InvalidInputError."""
    return _query(decode_body(body, _Asked))


def parse_batch(body: bytes) -> list[Query]:
    """Parse the body of POST /v1/querybatch. Raises InvalidInputError."""
    asked = decode_body(body, _AskedBatch).queries
    if len(asked) > MAX_QUERIES:
        raise InvalidInputError(f"The batch has {len(asked)} queries; send at most {MAX_QUERIES}.")
    return [_query(decode_body(one, _Asked, f"queries[{number}]")) for number, one in enumerate(asked)]


def _query(asked: _Asked) -> Query:
    package = asked.package
    if asked.page_token and not asked.page_token.startswith(_AFTER):
        raise InvalidInputError("page_token is not one that this server gave.")
    if package is None:
        if not asked.commit:
            raise InvalidInputError("A query names a package, or a commit.")
        return Query(None, None)
    name, version, is_known = package.name, asked.version, package.ecosystem == ECOSYSTEM
    if package.purl:
        if name or package.ecosystem:
            raise InvalidInputError("A package has a purl, or a name and an ecosystem, not both.")
        name, of_purl, is_known = _read_purl(package.purl)
        if of_purl and version:
            raise InvalidInputError("The version is in the purl, or in the field version, not both.")
        version = version or of_purl
    elif not name or not package.ecosystem:
        raise InvalidInputError("A package has a name and an ecosystem, or a purl.")
    after = asked.page_token.removeprefix(_AFTER)
    try:
        project = normalize(name) if is_known else None
    except InvalidNameError:
        project = None
    return Query(project, version[: MAX_VERSION + 1] or None, after)


def _read_purl(purl: str) -> tuple[str, str, bool]:
    """Return a package URL's name and version, and whether it is of PyPI."""
    if not purl.lower().startswith(_PURL):
        return "", "", False
    bare = purl[len(_PURL) :].partition("#")[0].partition("?")[0]
    name, _, version = bare.partition("@")
    return unquote(name), unquote(version), True


def identifiers(store: AdvisoryStore, query: Query) -> list[str]:
    """Return the entries that answer a query, beginning with its page, in the order of pages."""
    if query.project is None:
        return []
    found = store.of_project(query.project) if query.version is None else store.matching(query.project, query.version)
    return sorted(one.id for one in found if one.id > query.after)


def answer(store: AdvisoryStore, body: bytes) -> Iterator[bytes]:
    """Yield the answer to POST /v1/query, as pieces of JSON. Blocks. Raises InvalidInputError and as `whole_page`."""
    yield from whole_page(store, identifiers(store, parse_query(body)))


def answer_batch(store: AdvisoryStore, body: bytes) -> Iterator[bytes]:
    """Yield the answer to POST /v1/querybatch, as pieces of JSON, one for each query. Raises InvalidInputError."""
    known: dict[Query, list[str]] = {}
    room = MAX_BATCH
    before = b'{"results":['
    for one in parse_batch(body):
        found = known.get(one)
        if found is None:
            found = known[one] = identifiers(store, one)
        page = brief_page(store, found, one.after, room)
        room -= len(page.get("vulns", ()))
        yield before + msgspec.json.encode(page)
        before = b","
    yield b"]}" if before == b"," else before + b"]}"


def brief_page(store: AdvisoryStore, found: Sequence[str], after: str, room: int) -> dict[str, Any]:
    """Return one result of a batch: at most `room` entries, each with the time of its change."""
    shown = found[: min(room, MAX_PAGE)]
    page: dict[str, Any] = {}
    if shown:
        page["vulns"] = [{"id": one, "modified": _time(store.modified(one))} for one in shown]
    if len(shown) < len(found):
        page["next_page_token"] = _AFTER + (shown[-1] if shown else after)
    return page


def whole_page(store: AdvisoryStore, found: Sequence[str]) -> Iterator[bytes]:
    """Yield the answer to a query, as pieces of JSON, with whole entries. Blocks. Raises OSError, BrokenStoreError."""
    piece = bytearray(b'{"vulns":[')
    count, last = 0, ""
    for one in found:
        if count == MAX_PAGE:
            break
        content = store.entry(one)
        if content is None:
            continue
        piece += b"," + content if count else content
        count, last = count + 1, one
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if not count:
        yield b"{}"
        return
    if last != found[-1]:
        piece += b'],"next_page_token":' + msgspec.json.encode(_AFTER + last) + b"}"
    else:
        piece += b"]}"
    yield bytes(piece)


def _time(unix_s: float | None) -> str:
    return datetime.fromtimestamp(unix_s or 0.0, UTC).isoformat().replace("+00:00", "Z")
