import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.metadata import parse_email

from pywharf.core import metadata
from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.metadata import (
    MAX_FIELD_NAMES,
    MAX_FIELDS,
    MAX_LINES,
    MAX_METADATA_BYTES,
    CoreMetadata,
    parse_metadata,
)

FILENAME = parse_upload_filename("foo_bar-1.0-py3-none-any.whl")
BOTH = b"Name: foo-bar\nVersion: 1.0\n"


OF_FORMER_SPECIFICATIONS = [
    ">=3.5.*",
    "3",
    ">=2.7, !=3.0.*, <=3.6.*",
    "~=3.5.*",
    ">=3.6<4",
    ">=2.6 !=3.0",
    ">=3." + "9" * 900,
]


def parse(raw: bytes) -> CoreMetadata:
    return parse_metadata(raw, FILENAME)


@pytest.mark.parametrize(
    ("raw", "requires_python"),
    [
        (BOTH, None),
        (b"Metadata-Version: 1.0\n" + BOTH, None),
        (b"Metadata-Version: 2.5\nImport-Name: foo\nImport-Namespace:\n" + BOTH, None),
        (b"Metadata-Version: 9.9\nNew-Field: x\n" + BOTH, None),
        (BOTH + b"Requires-Python: >=3.11\n", ">=3.11"),
        (BOTH + b"requires-python: >=3.8, !=3.9.*\n", ">=3.8, !=3.9.*"),
        (BOTH + b"Requires-Python: >=3.8,\n        <4\n", ">=3.8, <4"),
        (BOTH + b"Requires-Python:\n", None),
        *((BOTH + f"Requires-Python: {text}\n".encode(), text) for text in OF_FORMER_SPECIFICATIONS),
        (BOTH + b"Requires-Python: " + b">=1" * 333 + b"\n", ">=1" * 333),
        (BOTH + b"\nRequires-Python: >=99\n", None),  # in the description
        (BOTH.replace(b"\n", b"\r\n") + b"Requires-Python: ~=3.11\r\n\r\nText", "~=3.11"),
        (BOTH.replace(b"\n", b"\r") + b"Requires-Python: ~=3.11\r\rText", "~=3.11"),
        (b"Name: Foo.Bar\nVersion: v1.0.0\n", None),
        (BOTH + b"Summary: \xff\xfe not UTF-8\nAuthor: \xc3\xa9\n", None),
        (BOTH + b"Content-Type: multipart/mixed; boundary=x\n\n--x\nName: other\n", None),
        (BOTH + b"Content-Type: message/rfc822\n\n" * 5000, None),
        (BOTH + b"Content-Transfer-Encoding: base64\n\n!!!", None),
    ],
)
def test_read(raw, requires_python):
    parsed = parse(raw)
    assert FILENAME.has_project(parsed.name)
    assert FILENAME.has_version(parsed.version)
    assert parsed.requires_python == requires_python


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "names the project ''; the file name says 'foo-bar'"),
        (b"\n" + BOTH, "names the project ''"),
        (b"Version: 1.0\n", "names the project ''"),
        (b"Name: foo\nVersion: 1.0\n", "names the project 'foo'; the file name says 'foo-bar'"),
        (b"Name: foo bar\nVersion: 1.0\n", "names the project 'foo bar'"),
        (b"Name: foo-bar\nName: foo-bar\nVersion: 1.0\n", "names the project ''"),
        (b"Name: foo-bar\n", "has the version ''; the file name says '1.0'"),
        (b"Name: foo-bar\nVersion: 1.1\n", "has the version '1.1'; the file name says '1.0'"),
        (b"Name: foo-bar\nVersion: one\n", "has the version 'one'"),
        (b"Name: foo-bar\nVersion: 1.0\nVersion: 1.0\n", "has the version ''"),
        (b"Name: foo-bar\nnonsense\nVersion: 1.0\n", "has the version ''"),
        (BOTH + b"Requires-Python: 3 or so\n", "Requires-Python in 'foo_bar-1.0-py3-none-any.whl' is '3 or so'"),
        (BOTH + b"Requires-Python: >=3\nRequires-Python: >=4\n", "has two Requires-Python"),
        (BOTH + b"Requires-Python: >=3\xff\n", "one that is not UTF-8"),
        (BOTH + b"Requires-Python: >=1" + b".1" * 500 + b"\n", "has 1003 characters; at most 1000 are allowed"),
        (BOTH + b"Requires-Python: >=1" + b".1" * 4_600_000 + b"\n", "has 9200003 characters; at most 1000"),
        (BOTH + b"Requires-Python: >=" + b"9" * 5000 + b"\n", "has 5002 characters"),
        (BOTH + b"Requires-Python: ===3\x1b[31m\n", "characters that cannot be shown"),
        (BOTH + b"Requires-Python: >=3.5.*; x\n", "not a version specifier"),
        (b"Name: foo-bar\nVersion: " + b"9" * 4301 + b"\n", "has the version '999"),
        (b"Name: " + b"a" * 100_000 + b"\nVersion: 1.0\n", "names the project 'aaa"),
        (b"\x00\xff" * 100, "names the project ''"),
    ],
)
def test_refused(raw, reason):
    with pytest.raises(InvalidDistributionError) as raised:
        parse(raw)
    assert reason in str(raised.value)
    assert str(raised.value).isprintable()


HOSTILE = {
    "fields of many names": b"".join(b"X-%x: a\n" % i for i in range(100_000)),
    "one name more than allowed": b"".join(b"X-%x: a\n" % i for i in range(MAX_FIELD_NAMES)),
    "many fields": b"A: a\n" * (MAX_METADATA_BYTES // 5),
    "one field more than allowed": b"A: a\n" * MAX_FIELDS,
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_too_many_fields_are_refused_soon(fields):
    started = time.process_time()
    with pytest.raises(InvalidDistributionError, match="has more than 20000 fields, or 200 names of them"):
        parse(BOTH + fields)
    assert time.process_time() - started < 2


def test_a_field_of_too_many_lines_is_refused():
    """Old tools write the description as a field. One with as many lines as allowed is read."""
    most = BOTH + b"Description: a\n" + b" b\n" * (MAX_LINES - 3)
    assert parse(most).version == "1.0"
    with pytest.raises(InvalidDistributionError, match="have 100001 lines; at most 100000 are allowed"):
        parse(most + b" c\r\n")


def test_many_fields_of_a_real_project_are_read():
    raw = BOTH + b"Requires-Dist: bar[x] (>=1.0); extra == 'y'\n" * (MAX_FIELDS - 2)
    assert parse(raw).requires_python is None


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_read_or_refused(raw, after_both):
    try:
        parsed = parse(BOTH + raw if after_both else raw)
    except InvalidDistributionError as error:
        shown = str(error)
    else:
        shown = parsed.requires_python or "-"
    assert shown.isprintable()


@given(
    st.lists(st.sampled_from([b"Name", b": ", b"foo-bar", b"\n", b"\r", b" ", b"Version", b"1.0", b"Content-Type:"]))
)
def test_any_lines_are_read_or_refused(parts):
    try:
        parsed = parse(b"".join(parts))
    except InvalidDistributionError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert FILENAME.has_project(parsed.name)


def test_a_blank_line_first_is_read_in_an_sdist():
    """Old sdists have one. A wheel's METADATA must not: clients read it, too, and would find no fields."""
    assert parse_metadata(b"\n" + BOTH, parse_upload_filename("foo-bar-1.0.tar.gz")).version == "1.0"


NAMES = (
    "Name",
    "name",
    "VERSION",
    "Version",
    "Requires-Python",
    "Content-Type",
    "MIME-Version",
    "Summary",
    "From",
    "X y",
)
LINES = st.one_of(
    st.builds(
        "{}:{}".format, st.sampled_from(NAMES), st.sampled_from((" foo", "  1.0 \t", "", " multipart/mixed", " é"))
    ),
    st.builds("{}:{}".format, st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"), max_size=8)),
    st.sampled_from((" continued", "no colon", "From x", ":", "-: x", "")),
)


@given(lines=st.lists(LINES, max_size=6), end=st.sampled_from(("", "\n")))
def test_plain_fields_are_what_the_parser_of_emails_finds(lines, end):
    raw = ("\n".join(lines) + end).encode().replace(b"\r", b"")
    try:
        expected, unclear = parse_email(raw)
    except Exception as error:  # noqa: BLE001 - whatever it is
        with pytest.raises(type(error)):
            metadata._parsed(raw)  # noqa: SLF001
        return
    found, found_unclear = metadata._parsed(raw)  # noqa: SLF001
    needed = ("name", "version", "requires_python")
    assert [found.get(name) for name in needed] == [expected.get(name) for name in needed]
    assert ("requires-python" in found_unclear) == ("requires-python" in unclear)
