import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.errors import RangeNotSatisfiableError
from pywharf.core.ranges import parse_range

SIZE = 100


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-0", (0, 0)),
        ("bytes=0-9", (0, 9)),
        ("bytes=90-", (90, 99)),
        ("bytes=0-", (0, 99)),
        ("bytes=99-", (99, 99)),
        ("bytes=50-99", (50, 99)),
        ("bytes=50-100", (50, 99)),
        ("bytes=50-9999999999999999999", (50, 99)),
        ("bytes=-1", (99, 99)),
        ("bytes=-100", (0, 99)),
        ("bytes=-9999999999999999999", (0, 99)),
        ("BYTES=1-2", (1, 2)),
        (" bytes = 1 - 2 ", (1, 2)),
        ("bytes=0-1,5-6", None),
        ("bytes=0-1, nonsense", None),
        ("items=0-1", None),
        ("seconds=nonsense", None),
    ],
)
def test_range(header, wanted):
    assert parse_range(header, SIZE) == wanted


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("bytes=100-", "Range is 'bytes=100-'; the file has 100 bytes."),
        ("bytes=100-200", "the file has 100 bytes"),
        ("bytes=5-4", "the file has 100 bytes"),
        ("bytes=-0", "the file has 100 bytes"),
        ("", "write it as 'bytes=FIRST-LAST', 'bytes=FIRST-' or 'bytes=-COUNT'"),
        ("bytes", "write it as"),
        ("bytes 0-1", "write it as"),
        ("bytes=", "write it as"),
        ("bytes=-", "write it as"),
        ("bytes=a-b", "write it as"),
        ("bytes=1-2-3", "write it as"),
        ("bytes=--1", "write it as"),
        ("bytes=0x1-2", "write it as"),
        ("bytes=\u0661-", "write it as"),
        ("bytes=" + "1" * 20 + "-", "write it as"),
        ("bytes=" + "1" * 10000, "write it as"),
    ],
)
def test_refused(header, reason):
    with pytest.raises(RangeNotSatisfiableError) as raised:
        parse_range(header, SIZE)
    assert reason in str(raised.value)
    assert raised.value.size == SIZE
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_no_byte_of_an_empty_file(header):
    with pytest.raises(RangeNotSatisfiableError):
        parse_range(header, 0)


@given(st.integers(0, 150), st.integers(0, 150), st.integers(1, 120))
def test_as_slicing_does(first, last, size):
    content = bytes(i % 251 for i in range(size))
    for header, expected in [
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[-last:] if last else b""),
    ]:
        try:
            wanted = parse_range(header, size)
        except RangeNotSatisfiableError:
            assert not expected, header
        else:
            assert wanted is not None
            assert content[wanted[0] : wanted[1] + 1] == expected, header


@given(st.text(max_size=30), st.integers(0, 50))
def test_any_header_is_a_range_or_refused(header, size):
    for value in (header, f"bytes={header}"):
        try:
            wanted = parse_range(value, size)
        except RangeNotSatisfiableError:
            continue
        assert wanted is None or 0 <= wanted[0] <= wanted[1] < size
