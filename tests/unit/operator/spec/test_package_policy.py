"""What one policy may hold: its parts that are stricter than their types."""

import re
from typing import Any

import msgspec
import pytest

from pywharf_operator.spec.forms import NAME_PATTERN, PROJECT_PATTERN
from pywharf_operator.spec.package_policy import PackagePolicySpec, PolicyException

TARGETS = [{"kind": "PackageServer", "name": "main"}]


def parse(**fields: Any) -> PackagePolicySpec:
    return msgspec.convert({"targetRefs": TARGETS} | fields, PackagePolicySpec)


@pytest.mark.parametrize("text", ["a", "a-b", "*", "a*", "*a", "a-*", "*-a", "*.*", "a*b*c*d*e", "****", "A_b.*"])
def test_patterns_that_are_taken(text: str) -> None:
    assert re.fullmatch(NAME_PATTERN.pattern, text)
    assert re.fullmatch(PROJECT_PATTERN.pattern, text)


@pytest.mark.parametrize("text", ["", "-*", "*-", "a-", "a b", "a*b*c*d*e*f", "*****", "a\n"])
def test_patterns_that_are_refused(text: str) -> None:
    assert not re.fullmatch(PROJECT_PATTERN.pattern, text)


def test_patterns_that_must_be_tried_are_bounded() -> None:
    denials = [{"project": f"*-{n}"} for n in range(250)]
    statuses = [{"project": f"a*{n}", "status": "archived"} for n in range(250)]
    beginnings = [f"acme-{n}-*" for n in range(1_000)]
    parse(deny=denials, status=statuses, allowOnly=["*", *beginnings])
    with pytest.raises(msgspec.ValidationError, match=r"501 patterns have a \* that is not their end"):
        parse(deny=denials, status=statuses, allowOnly=["*", *beginnings, "*-x"])


def exception(**changes: Any) -> PolicyException:
    fields = {"project": "a", "of": ["Deny"], "until": "2027-01-31T00:00:00Z", "reason": "approved"}
    return msgspec.convert(fields | changes, PolicyException)


@pytest.mark.parametrize("until", ["0001-01-01T00:00:00+01:00", "9998-12-31T23:59:59Z", "9999-01-01T00:30:00+01:00"])
def test_ends_that_can_be_written(until: str) -> None:
    exception(until=until)


@pytest.mark.parametrize("until", ["9999-01-01T00:00:00Z", "9998-12-31T23:30:00-01:00", "9999-12-31T23:59:59-01:00"])
def test_an_end_that_utc_may_have_no_year_for(until: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="until must be before the year 9999"):
        exception(until=until)


@pytest.mark.parametrize("reason", ["x", " a\n b ", "line\r\nline\n"])
def test_reasons(reason: str) -> None:
    assert exception(reason=reason).reason == reason


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_a_blank_reason(reason: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        exception(reason=reason)
