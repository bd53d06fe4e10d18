"""Check files that are passed on without a copy: the part that was asked for, and the end that waits for the digest."""

import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest

from pywharf.core.errors import BusyError, WrongContentError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports import StreamContent
from pywharf.index.upstream.file_fetching import Arriving
from pywharf.index.upstream.passing_through import passed_through
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.spool import WITHHELD
from pywharf.index.upstream.wanted_file import WantedFile
from support.server.cached_files import Counted

CONTENT = bytes(range(256)) * 1024
SIZE = len(CONTENT)
SOURCE = Source(url="https://index.example/simple/")


class Fetcher:
    """Sends the content in pieces of odd sizes."""

    def __init__(self, content: bytes, announced: int | None) -> None:
        self._content, self._announced = content, announced

    @contextlib.asynccontextmanager
    async def fetch(
        self, url: str, filename: str, source: Source, kind: str, *, prepare: object = None
    ) -> AsyncIterator[Arriving]:
        assert (url, filename, source, kind) == ("https://files.example/x", "x", SOURCE, "passed")
        assert prepare is None
        yield Arriving(self._announced, self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 7919):
            yield self._content[start : start + 7919]


def wanted(size: int | None = SIZE, digest: str | None = None) -> WantedFile:
    sha256 = hashlib.sha256(CONTENT).hexdigest() if digest is None else digest
    file = File(filename="x", sha256=sha256, size=size, location="https://files.example/x#sha256=0")
    return WantedFile(SOURCE, ProjectName("x"), file, 10 * SIZE)


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, SIZE - 1), (0, 0), (SIZE - 1, SIZE - 1), (5, 8000), (7919, 15837), (SIZE // 2, SIZE - 1), (0, SIZE - 2)],
)
@pytest.mark.parametrize("size", [SIZE, None])
async def test_the_part_that_was_asked_for_is_passed_on(first, last, size):
    counted = Counted()
    content = passed_through(Fetcher(CONTENT, SIZE), wanted(size), counted, SIZE)
    assert content.size == SIZE
    assert b"".join([piece async for piece in content.open(first, last)]) == CONTENT[first : last + 1]
    assert (counted.fetches, counted.upstream_bytes) == ({"fetched": 1}, SIZE)


@pytest.mark.parametrize(
    "fetcher",
    [
        Fetcher(CONTENT[::-1], SIZE),
        Fetcher(CONTENT[:-1], None),
        Fetcher(CONTENT + b"x", None),
        Fetcher(CONTENT, SIZE + 1),
    ],
    ids=["other", "shorter", "longer", "announced"],
)
@pytest.mark.parametrize(("first", "last"), [(0, SIZE - 1), (0, 99_999)])
async def test_wrong_content_never_comes_to_its_end(fetcher, first, last):
    counted = Counted()
    content = passed_through(fetcher, wanted(), counted, SIZE)
    received: list[bytes] = []
    with pytest.raises(WrongContentError):
        await collect(content, first, last, received)
    assert len(b"".join(received)) <= last + 1 - WITHHELD
    assert counted.fetches == {"wrong": 1}


async def collect(content: StreamContent, first: int, last: int, received: list[bytes]) -> None:
    async for piece in content.open(first, last):
        received.append(piece)  # noqa: PERF401 - what came before the error counts


def test_a_file_whose_size_nobody_says_must_wait():
    with pytest.raises(BusyError):
        passed_through(Fetcher(CONTENT, None), wanted(None), Counted(), None)
