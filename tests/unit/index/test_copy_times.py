"""Upload times that others wrote, of any form."""

import pytest

from pywharf.index.copying.times import of_seconds, of_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-07-14T02:40:00Z", 1_500_000_000.0),
        ("2017-07-14T02:40:00.500000+00:00", 1_500_000_000.5),
        ("2017-07-14T04:40:00+02:00", 1_500_000_000.0),
        ("2017-07-14T02:40:00", 1_500_000_000.0),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_texts(text, seconds):
    assert of_text(text) == seconds


@pytest.mark.parametrize("seconds", [1e20, -1e20, float("inf"), float("nan")])
def test_seconds_that_are_no_time(seconds):
    assert of_seconds(seconds) is None
