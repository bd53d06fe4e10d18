"""Check that no text of a client can break a line of a log."""

import pytest

from pywharf.core.log_text import log_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größer", "größer"),
        ("a\nb\r\x1b[31m\x00", "a?b??[31m?"),
        ("\u2028\u202e\ud800", "???"),
        ("x" * 20, "x" * 10),
        ("", ""),
    ],
)
def test_what_is_shown(text, shown):
    assert log_text(text, 10) == shown
