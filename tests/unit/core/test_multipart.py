"""Check the parser of forms: what it finds, wherever the body is cut, and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.multipart import FormParser, Part

TYPE = "multipart/form-data; boundary=b"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n-\r\n--'
    b'\r\n--b \t\r\ncontent-type: text/plain\r\nContent-Disposition: form-data; name=c; filename="d; e"\r\n\r\n'
    b"\r\n--b\r\nContent-Disposition: form-data; name=f\r\n\r\n\r\n\r\n--b--\r\n"
)
FOUND = [("a", None, b"one\r\n-\r\n--"), ("c", "d; e", b""), ("f", None, b"\r\n")]

Found = list[tuple[str, str | None, bytes]]


def parse(pieces: list[bytes], content_type: str = TYPE) -> Found:
    """Return the name, file name and content of each part."""
    parser = FormParser(content_type)
    found: Found = []
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, Part):
                found.append((event.name, event.filename, b""))
            else:
                assert event
                found[-1] = (*found[-1][:2], found[-1][2] + event)
    parser.close()
    return found


def part(*headers: str, content: bytes = b"x") -> bytes:
    return "\r\n".join(["--b", *headers, "", ""]).encode() + content + b"\r\n--b--"


def named(disposition: str) -> bytes:
    return part(f"Content-Disposition: form-data; {disposition}")


@pytest.mark.parametrize("size", range(1, len(FORM) + 1))
def test_a_form_is_the_same_in_pieces_of_any_size(size):
    assert parse([FORM[start : start + size] for start in range(0, len(FORM), size)]) == FOUND


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_end_may_come_first(size):
    """Old versions of setuptools begin with one."""
    body = b"\r\n" + FORM
    assert parse([body[start : start + size] for start in range(0, len(body), size)]) == FOUND


@given(st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\r\n--b", b"")), max_size=5), st.integers(1, 60))
def test_any_content_is_found_again(contents, size):
    head = b'\r\n--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    body = b"".join(head + content for content in contents) + b"\r\n--b--"
    assert [content for _, _, content in parse([body[at : at + size] for at in range(0, len(body), size)])] == contents


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data;boundary=b", "b"),
        ('Multipart/Form-Data; charset=utf-8; BOUNDARY="b c" ; x=y', "b c"),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk", "----WebKitFormBoundary7MA4YWxk"),
        (f"multipart/form-data; boundary={'b' * 70}", "b" * 70),
    ],
)
def test_a_boundary_is_read(content_type, boundary):
    assert parse([FORM.replace(b"--b", f"--{boundary}".encode())], content_type) == FOUND


@pytest.mark.parametrize(
    "content_type",
    ["", "multipart/form-data", "a; boundary=", 'a; boundary=""', f"a; boundary={'b' * 71}", "a; boundary*=utf-8''b"],
)
def test_a_type_without_a_usable_boundary_is_refused(content_type):
    with pytest.raises(ValueError, match="no boundary"):
        FormParser(content_type)


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ("name=a", "a", None),
        ("NAME = a ; filename=b.whl;", "a", "b.whl"),
        ('name="a;b=\\"c\\\\"', 'a;b="c\\', None),
        ("name=a*", "a*", None),
        ("name=a; filename=b; filename*=UTF-8'en'%c3%a9", "a", "\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("name*=''a", "a", None),
        ('name=""', "", None),
    ],
)
def test_names_are_read(disposition, name, filename):
    assert parse([named(disposition)]) == [(name, filename, b"x")]


REFUSED = [
    (b"", "ends before its last boundary"),
    (b"--b\r\n", "ends before its last boundary"),
    (part("Content-Disposition: form-data; name=a")[:-2], "ends before its last boundary"),
    (b"preamble\r\n--b--", "does not begin with its boundary"),
    (b"--c--\r\n", "does not begin with its boundary"),
    (b"--bc\r\n\r\n--b--", "not alone on its line"),
    (b"--b" + b" " * 100 + b"\r\n", "not alone on its line"),
    (b"--b--\r\nmore", "something follows"),
    (b"--b--" + b"\r\n" * 60, "something follows"),
    (part("nonsense"), "cannot be read: 'nonsense'"),
    (part("X : y"), "cannot be read"),
    (part("X: y", " folded"), "cannot be read"),
    (part("X: a\x00"), "cannot be read"),
    (part(*(f"X{number}: y" for number in range(17))), "over 16 headers"),
    (part(f"X: {'y' * 4096}", "Content-Disposition: form-data; name=a"), "over 4096 bytes"),
    (part(f"X: {'y' * 4096}", "Content-Disposition: form-data; name*=rot13''a"), "send UTF-8"),
    (b"--b\r\nX: " + b"y" * 8192, "over 4096 bytes"),
    (part("X: a", "x: a"), "'x' twice"),
    (b"--b\r\nX: \xff\r\n\r\n\r\n--b--", "utf-8"),
    (b"--b\r\n\r\n\r\n--b--", "no headers"),
    (part(), "no headers"),
    (part("X: y"), "has no name"),
    (part("Content-Disposition: form-data"), "has no name"),
    (part("Content-Disposition: attachment; name=a"), "Content-Disposition of a part"),
    (part("Content-Disposition: form-data; name=a", "Content-Type: Multipart/mixed"), "is a form itself"),
    (part("Content-Disposition: form-data; name=a", "Content-Transfer-Encoding: base64"), "send it as it is"),
    (named('name="a'), "Content-Disposition of a part"),
    (named("name=a b"), "Content-Disposition of a part"),
    (named("name"), "Content-Disposition of a part"),
    (named("name=a; name=b"), "'name' twice"),
    (named("name*=punycode''a"), "send UTF-8"),
    (named("name*0=puny; name*1=code''a"), "send it as one"),
    (named("name*=a"), "send UTF-8"),
    (named("name*=utf-8'a"), "send it plainly"),
    (named("name*=utf-8''%ff"), "utf-8"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED)
def test_what_is_no_form_is_refused_with_the_reason(body, reason):
    with pytest.raises(ValueError, match=reason):
        parse([body])
    with pytest.raises(ValueError, match=reason):
        parse([body[at : at + 1] for at in range(len(body))])
