"""Check the page cache: a page is built once, dropped for lack of room, and built again if its source differs."""

import asyncio
import gzip
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.names import RepoName
from pywharf.index.page_cache import Page, PageCache

KEY = ("repo", "project")
REPO = RepoName("repo")


class Source:
    """A source that compares by value, as a project's part of an index does, and counts the comparisons."""

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
async def test_a_page_is_made_once_for_concurrent_requests(large):
    cache, source, made = PageCache(10_000), Source(1), []

    def make():
        made.append(1)
        return Page(b"page")

    pages = await asyncio.gather(*(cache.get_or_make(KEY, source, make, repo=REPO, large=large) for _ in range(20)))
    assert {id(page) for page in pages} == {id(pages[0])}
    assert len(made) == 1


class Slow:
    """A function that waits for a signal in its thread before it returns a page, and counts its calls."""

    def __init__(self, body: bytes = b"page") -> None:
        self.body = body
        self.made = 0
        self.began, self.go_on = threading.Event(), threading.Event()

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.began.wait, 20)

    def __call__(self) -> Page:
        self.made += 1
        self.began.set()
        assert self.go_on.wait(20)
        return Page(self.body)


async def test_a_page_is_made_once_for_all_who_ask_while_an_older_one_is_made():
    cache, old, new = PageCache(10_000), Slow(b"old"), Slow(b"new")
    asking_old = [asyncio.create_task(cache.get_or_make(KEY, Source(1), old, repo=REPO, large=True)) for _ in range(5)]
    await old.until_begun()
    asking_new = [asyncio.create_task(cache.get_or_make(KEY, Source(2), new, repo=REPO, large=True)) for _ in range(5)]
    await new.until_begun()
    old.go_on.set()
    assert {page.body for page in await asyncio.gather(*asking_old)} == {b"old"}
    new.go_on.set()
    assert {page.body for page in await asyncio.gather(*asking_new)} == {b"new"}
    assert (old.made, new.made) == (1, 1)
    assert (await cache.get_or_make(KEY, Source(2), new, repo=REPO, large=True)).body == b"new"
    assert new.made == 1


async def test_a_client_that_goes_away_ends_nothing_for_the_others():
    cache, slow = PageCache(10_000), Slow()
    asking = [asyncio.create_task(cache.get_or_make(KEY, Source(1), slow, repo=REPO, large=True)) for _ in range(5)]
    await slow.until_begun()
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    slow.go_on.set()
    assert {page.body for page in await asyncio.gather(*asking[1:])} == {b"page"}
    assert (asking[0].cancelled(), slow.made) == (True, 1)


async def test_a_page_too_large_to_keep_is_made_once_for_concurrent_requests():
    cache, slow = PageCache(1_000), Slow(b"x" * 5_000)
    slow.go_on.set()
    asking = [cache.get_or_make(KEY, Source(1), slow, repo=REPO, large=True) for _ in range(5)]
    assert {len(page.body) for page in await asyncio.gather(*asking)} == {5_000}
    assert slow.made == 1


@pytest.mark.parametrize("large", [False, True])
async def test_a_page_that_cannot_be_made_is_tried_again(large):
    cache, tries = PageCache(10_000), []

    def make():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("broken")
        return Page(b"page")

    with pytest.raises(ValueError, match="broken"):
        await cache.get_or_make(KEY, Source(1), make, repo=REPO, large=large)
    assert (await cache.get_or_make(KEY, Source(1), make, repo=REPO, large=large)).body == b"page"


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3), st.integers(0, 3_000)), max_size=30))
def test_pages_never_take_more_than_they_may(puts):
    cache = PageCache(5_000)
    for key, source, size in puts:
        page = Page(b"x" * size)
        cache.put(key, source, page)
        kept = [cache.get(k, s) for k in "abcde" for s in range(4)]
        assert sum(p.weight for p in kept if p) <= 5_000
        assert (page in kept) is (page.weight <= 5_000)


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
