"""Pages kept as bytes: made once, dropped when they take too much, made again when their source differs."""

import asyncio
import gzip

import pytest

from pywharf.index.pages import Page, PageCache

KEY = ("repo", "project")


class Source:
    """Compares by its value, as a project's part of an index does, and counts how often."""

    compared = 0

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        Source.compared += 1
        return self.value == other.value

    def __hash__(self):
        return hash(self.value)


@pytest.fixture(autouse=True)
def _count_from_zero():
    Source.compared = 0


def test_an_equal_source_is_compared_once_and_then_known():
    cache = PageCache(10_000)
    page = Page(b"page")
    cache.put(KEY, Source(1), page)
    after_a_reload = Source(1)
    assert [cache.get(KEY, after_a_reload) for _ in range(5)] == [page] * 5
    assert Source.compared == 1


def test_another_source_has_no_page():
    cache = PageCache(10_000)
    cache.put(KEY, Source(1), Page(b"page"))
    assert cache.get(KEY, Source(2)) is None
    assert cache.get(("repo", "other"), Source(1)) is None


@pytest.mark.parametrize("large", [False, True])
async def test_a_page_is_made_once_for_all_who_ask_at_once(large):
    cache, source, made = PageCache(10_000), Source(1), []

    def make():
        made.append(1)
        return b"page"

    pages = await asyncio.gather(*(cache.get_or_make(KEY, source, make, large=large) for _ in range(20)))
    assert {id(page) for page in pages} == {id(pages[0])}
    assert len(made) == 1


def test_the_least_recently_used_pages_are_dropped():
    cache = PageCache(3 * Page(b"x" * 1000).weight)
    for name in "abc":
        cache.put(name, name, Page(b"x" * 1000))
    assert cache.get("a", "a") is not None
    cache.put("d", "d", Page(b"x" * 1000))
    assert [name for name in "abcd" if cache.get(name, name) is not None] == ["a", "c", "d"]


def test_a_page_larger_than_the_cache_is_not_kept():
    cache = PageCache(2_000)
    cache.put("a", "a", Page(b"x" * 10))
    cache.put("a", "b", Page(b"x" * 5_000))
    assert cache.get("a", "a") is None
    assert cache.get("a", "b") is None


@pytest.mark.parametrize(("size", "compressed"), [(10, False), (5_000, True), (200_000, True)])
async def test_the_gzip_form_is_worth_it_or_none(size, compressed):
    page = Page(b"x" * size)
    found = await page.gzipped()
    assert (found is not None) is compressed
    assert found is None or gzip.decompress(found) == page.body
    assert page.etag != page.gzip_etag
