import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.errors import InvalidInputError, NotAcceptableError
from pywharf.core.negotiation import PageFormat, accepts_gzip, negotiate

JSON, HTML, TEXT = PageFormat.JSON, PageFormat.HTML, PageFormat.TEXT_HTML
J, H = JSON.value, HTML.value
PIP = f"{J}, {H}; q=0.1, text/html; q=0.01"
UV = f"{J}, {H};q=0.2, text/html;q=0.01"
CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", TEXT),
        (" , ,", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("application/*", HTML),
        ("text/html", TEXT),
        ("TEXT/HTML", TEXT),
        ("text/html; charset=utf-8", TEXT),
        ('text/html;level="1"', TEXT),
        (J, JSON),
        (H, HTML),
        (J.upper(), JSON),
        (PIP, JSON),
        (UV, JSON),
        (CHROMIUM, TEXT),
        (f"{J}, {H}, text/html", TEXT),  # equally preferred: the format that PEP 503 promised
        (f"{J};q=0.9, {H}", HTML),
        (f"{J};q=0.001, {H};q=0, text/html;q=0", JSON),
        (f"{H};q=0.5, */*;q=0.1", HTML),
        (f"{J};q=0, */*", TEXT),
        ("text/html;q=0, */*", HTML),
        ("text/html;q=0, application/vnd.pypi.simple.v1+html;q=0, */*;q=0.1", JSON),
        ("text/*;q=0.2, text/html;q=0.1, application/*;q=0.15", HTML),  # the most specific pattern counts for each
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", HTML),
        (f"application/vnd.pypi.simple.latest+json;q=0.5, {J};q=0.1, {H};q=0.3", JSON),
        (f"{J};q=1.000", JSON),
        (f"{J};Q=0.5", JSON),
        ("application/json", TEXT),  # generic JSON, not a format of the Simple API (PEP 691)
        ("application/json, text/plain", TEXT),
        ("application/json;q=0.1", TEXT),
        (f"application/json, {J};q=0.1", JSON),
        ("application/json, text/html;q=0", HTML),
        (f"application/vnd.pypi.simple.v2+json, {J};q=0.1", JSON),
    ],
)
def test_format(accept, chosen):
    assert negotiate(accept) is chosen


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.pypi.simple.v2+json",
        "application/json;q=0",
        f"application/json, text/html;q=0, {H};q=0, {J};q=0",
        "image/*",
        "text/plain",
        "text/html;q=0",
        "image/png, text/html;q=0.",
        "*/*;q=0",
        "*/*;q=0.000",
        "application/vnd.pypi.simple.v1+json;q=0, text/html;q=0",
    ],
)
def test_no_format(accept):
    with pytest.raises(NotAcceptableError, match="allows none of text/html, ") as raised:
        negotiate(accept)
    assert accept in str(raised.value)
    assert J in str(raised.value)


@pytest.mark.parametrize(
    "accept",
    [
        "html",
        "*",
        "*/html",
        "text/",
        "/html",
        "text/html/more",
        "text html",
        "text/html;q",
        "text/html;q=",
        "text/html;q=2",
        "text/html;q=-1",
        "text/html;q=1.001",
        "text/html;q=0.1234",
        "text/html;q=a",
        "text/html;;",
        "text/\nhtml",
        "text/html, \0",
        "t\u00e9xt/html",
        '";q=1"',
    ],
)
def test_malformed(accept):
    with pytest.raises(InvalidInputError, match="is not a media range such as") as raised:
        negotiate(accept + ",*/*")
    assert str(raised.value).isprintable()


def test_endless_header():
    with pytest.raises(InvalidInputError, match="over 4096 characters"):
        negotiate("text/html," * 1000)


@given(st.text(alphabet='text/html*,;q=01. "application', max_size=60))
def test_any_header_is_answered(accept):
    try:
        assert negotiate(accept) in PageFormat
    except (NotAcceptableError, InvalidInputError) as error:
        assert str(error).isprintable()  # noqa: PT017


quality = st.sampled_from([0, 1, 200, 500, 999, 1000])


@given(quality, quality, quality)
def test_the_most_wanted_format_is_chosen(json_q, html_q, text_q):
    wanted = {TEXT: text_q, HTML: html_q, JSON: json_q}
    accept = ", ".join(f"{f.value};q={q / 1000:.3f}" for f, q in wanted.items())
    if not any(wanted.values()):
        with pytest.raises(NotAcceptableError):
            negotiate(accept)
    else:
        assert wanted[negotiate(accept)] == max(wanted.values())


def test_content_types():
    assert {f.content_type for f in PageFormat} == {J, H, "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("gzip, deflate", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0", False),
        ("gzip; q=0.001", True),
        ("x-gzip", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("identity;q=1, *;q=0", False),
        ("br, zstd", False),
        ("gzip;q=nonsense", False),
        ("gzip;q=2", False),
        (",,;;=", False),
        ("notgzip", False),
    ],
)
def test_gzip(accept_encoding, gzip):
    assert accepts_gzip(accept_encoding) is gzip


@given(st.text(max_size=40))
def test_any_encodings_are_answered(accept_encoding):
    assert accepts_gzip(accept_encoding) in {True, False}
