import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.html_tags import Tag, start_tags

NAMES = frozenset({"a", "base", "meta"})


def tags(text: str) -> list[tuple[str, dict[str, str]]]:
    return [(tag.name, tag.attributes) for tag in start_tags(text, NAMES)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("text & <b>more</b>", []),
        ("<a>", [("a", {})]),
        ("<a href=x>", [("a", {"href": "x"})]),
        ("<A HREF='x y'>", [("a", {"href": "x y"})]),
        ('<a href="x>y">', [("a", {"href": "x>y"})]),
        ("<a\n\thref = 'x'\n>", [("a", {"href": "x"})]),
        ("<a href='x'data-yanked>", [("a", {"href": "x", "data-yanked": ""})]),
        ("<a href='x' href='y'>", [("a", {"href": "x"})]),
        ("<a href=x/>", [("a", {"href": "x/"})]),
        ("<a href='x'/>", [("a", {"href": "x"})]),
        ("<a title=it's href=x>", [("a", {"title": "it's", "href": "x"})]),
        ('<a href="&lt;&#38;&amp;&quot;&gt;&#x26;&zzz;">', [("a", {"href": '<&&">&&zzz;'})]),
        ("<a href='&#xD800;&#0;'>", [("a", {"href": "\ufffd\ufffd"})]),
        ("<a =x>", [("a", {"=x": ""})]),
        ("<ab><meta><base><link>", [("meta", {}), ("base", {})]),
        ("</a><a/><a>", [("a", {}), ("a", {})]),
        ("<!-- <a href=no> --><a href=x>", [("a", {"href": "x"})]),
        ("<!--><a href=x>", [("a", {"href": "x"})]),
        ("<!-- <a href=no>", []),
        ("<!DOCTYPE html><?xml ?><![CDATA[ <a href=x>", [("a", {"href": "x"})]),
        ("<a href=x", []),
        ("<a href='x>", []),
        ("<a href='x'><a href='y", [("a", {"href": "x"})]),
        ("< a href=x>", []),
        ("<<a href=x>", [("a", {"href": "x"})]),
    ],
)
def test_start_tags(text, found):
    assert tags(text) == found


def test_attributes_beyond_a_hundred_are_ignored():
    ((_, found),) = tags("<a " + " ".join(f"x{i}" for i in range(1000)) + ">")
    assert len(found) == 100


HOSTILE = [
    "<a ",
    "<a",
    "<!--",
    "<!",
    "<![",
    "<",
    "</",
    "<?",
    "<a href='",
    "<a b=\"c' d='e\" ",
    "<a b = ",
    "<a ==",
    "&#",
]


@pytest.mark.parametrize("part", [*HOSTILE, "<a   \n", "<a b='&#11111;' "])
def test_time_grows_with_the_length_only(part):
    text = part * (400_000 // len(part))
    started = time.process_time()
    assert sum(1 for _ in start_tags(text, NAMES)) == 0
    assert time.process_time() - started < 2, "0.1 s is usual; the standard library's parser takes a minute"


def test_endless_character_reference():
    with pytest.raises(ValueError, match="digits"):
        tags(f"<a href='&#{'1' * 5000};'>")


class _Reference(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Tag] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(Tag(tag, {key: value or "" for key, value in reversed(attrs)}))


words = st.text(
    st.characters(codec="ascii", exclude_characters="<>\"'&=/`", exclude_categories=["Cc", "Zs"]), min_size=1
)
attributes = st.lists(st.tuples(words, st.sampled_from(['"', "'"]), words | st.just("a b")), max_size=3)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "meta", "b"]), attributes, st.sampled_from(["", "text", "<!-- x -->"])))
)
def test_plain_pages_are_read_as_by_the_standard_library(parts):
    text = "".join(
        f"<{name}" + "".join(f" {key}={quote}{value}{quote}" for key, quote, value in given_) + f">{after}"
        for name, given_, after in parts
    )
    assert tags(text) == [tuple(tag) for tag in _Reference(text).found if tag.name in NAMES]


@given(st.text(alphabet="<>a!-=\"'/ &#x;\n", max_size=80))
def test_any_text_ends(text):
    assert all(name in NAMES for name, _ in tags(text))
