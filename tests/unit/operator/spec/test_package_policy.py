"""What one policy may hold: the schema bounds the * of a pattern, and the operator how many must be tried."""

import re
from typing import Any

import msgspec
import pytest

from pywharf_operator.spec.forms import NAME_PATTERN, PROJECT_PATTERN
from pywharf_operator.spec.package_policy import PackagePolicySpec

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
