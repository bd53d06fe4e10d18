"""What the pages of other indexes weigh: a hostile index fills no more memory than the bound."""

import tracemalloc

import pytest
from cachetools import LRUCache

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.upstream.page_weight import MAX_HELD_BYTES, weight_of

COMMON = 800
TEXTS = ("filename", "sha256", "upload_time", "requires_python", "metadata_sha256", "yanked", "location", "provenance")


def page(count: int, **texts: str) -> Project:
    files = tuple(File(**{"filename": f"foo-{n}.0.zip", "sha256": "0" * 64} | texts) for n in range(count))  # type: ignore[arg-type]
    return Project(name=ProjectName("foo"), files=files)


def test_common_pages_are_held_as_before():
    text = {"upload_time": "2026-11-22T18:09:00.000000Z", "requires_python": ">=3.11", "metadata_sha256": "0" * 64}
    common = page(1000, **text, location="https://files.test/packages/ab/cd/" + "e" * 80)
    assert weight_of(common) < 1000 * COMMON
    assert MAX_HELD_BYTES // COMMON == 200_000


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("letter", ["x", "é", "語", "𝒳"])  # noqa: RUF001 - one, two and four bytes each
def test_every_text_counts_with_its_bytes_in_memory(field, letter):
    text = letter * 16_000
    least = 16_000 * (1 if ord(letter) < 256 else 2 if ord(letter) < 65_536 else 4)
    assert weight_of(page(10, **{field: text})) > 10 * least


def test_texts_of_vanished_files_and_of_the_status_count():
    assert weight_of(Project(name=ProjectName("foo"), status_reason="x" * 16_000)) > 16_000
    assert weight_of(page(0), {"x" * 16_000: "0" * 64}) > 16_000


def test_a_hostile_index_fills_no_more_than_the_bound():
    bound = 2_000_000
    held: LRUCache[int, Project] = LRUCache(bound, weight_of)
    tracemalloc.start()
    try:
        for n in range(200):
            held[n] = page(5, yanked=f"{n}" + "語" * 16_000, location=f"{n}" + "x" * 16_000)
        assert tracemalloc.get_traced_memory()[0] < 1.2 * bound
    finally:
        tracemalloc.stop()
    assert 0 < len(held) < 200
