import json
from typing import Any

import msgspec
import pytest

from pywharf.core.errors import InvalidConfigError
from pywharf.core.policy.document import check_document, parse_document, rule_count
from pywharf.core.policy.model import MAX_POLICIES, MAX_RULES, Cooldown, Deny, Policy, PolicyDocument

GOOD: dict[str, Any] = {"name": "ns/p", "deny": [{"project": "six", "versions": "==1.0", "reason": "stolen"}]}


def parse(*policies: dict[str, Any]) -> PolicyDocument:
    return parse_document(json.dumps({"policies": policies}).encode())


def test_a_document_reads_back_equal() -> None:
    document = parse(GOOD)
    assert parse_document(msgspec.json.encode(document)) == document
    assert parse_document(b"{}") == PolicyDocument()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"deny": [{"project": "six", "versions": "one"}]}, "'ns/p' cannot be used: the versions 'one' of 'six'"),
        ({"yank": [{"project": "six", "versions": "==1.*.2"}]}, "'ns/p' cannot be used"),
        (
            {"deny": [{"project": "six", "versions": ",".join(f"!={n}" for n in range(21))}]},
            "a rule about 'six' has 21 version specifiers; at most 20 are allowed",
        ),
        ({"deny": [{"project": "*a*b*c*d*"}]}, r"'ns/p' cannot be used: the pattern '\*a.* has more than 4 \*"),
        ({"allow_only": ["a*b*c*d*e*f"]}, r"the pattern 'a\*.* has more than 4 \*"),
        (
            {"status": [{"project": f"*-{n}", "status": "archived"} for n in range(501)]},
            r"'ns/p' cannot be used: 501 patterns have a \* that is not their end; at most 500 may",
        ),
        ({"cooldown": {"minimum_age_s": 1, "projects": [f"*{n}*" for n in range(501)]}}, "501 patterns"),
        ({"deny": [{"project": ""}]}, "cannot be read"),
        ({"deny": [{"project": "six", "sha256": "A" * 64}]}, "cannot be read"),
        ({"deny": [{"project": "six", "until": 1}]}, "cannot be read"),
        ({"cooldown": {"minimum_age_s": -1}}, "cannot be read"),
        ({"exceptions": [{"project": "six", "of": ["Deny"], "reason": "x"}]}, "cannot be read"),
        ({"status": [{"project": "six", "status": "active"}]}, "cannot be read"),
    ],
)
def test_a_bad_policy_refuses_the_whole_document(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        parse({"name": "ns/good"}, {"name": "ns/p"} | policy)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"policies": null}', b"[" * 100_000])
def test_a_document_that_is_none(content: bytes) -> None:
    with pytest.raises(InvalidConfigError, match="cannot be read"):
        parse_document(content)


def test_two_policies_of_one_name() -> None:
    with pytest.raises(InvalidConfigError, match="Two policies are named 'ns/p'"):
        parse(GOOD, GOOD)


def test_beginnings_and_names_are_not_bounded_as_other_patterns_are() -> None:
    parse({"name": "ns/p", "allow_only": ["*", *(f"a-{n}" for n in range(2_000)), *(f"b-{n}*" for n in range(2_000))]})


def test_an_exception_needs_an_end() -> None:
    document = PolicyDocument(
        policies=(
            msgspec.convert(
                {
                    "name": "ns/p",
                    "exceptions": [{"project": "six", "of": ["Deny"], "until": float("inf"), "reason": "x"}],
                },
                Policy,
            ),
        )
    )
    with pytest.raises(InvalidConfigError, match="an exception of 'six' has no end"):
        check_document(document)


def test_rules_are_counted_and_bounded() -> None:
    policy = Policy(name="ns/p", cooldown=Cooldown(minimum_age_s=1, projects=("a", "b")), allow_only=("c",))
    assert rule_count(policy) == 3
    assert rule_count(msgspec.structs.replace(policy, advisories="Report")) == 4
    many = tuple(Deny(project=f"p{number}", versions=f"=={number}") for number in range(MAX_RULES))
    check_document(PolicyDocument(policies=(Policy(name="ns/p", deny=many),)))
    with pytest.raises(InvalidConfigError, match=f"have {MAX_RULES + 3} rules; a server takes {MAX_RULES}"):
        check_document(PolicyDocument(policies=(Policy(name="ns/q", deny=many), policy)))


@pytest.mark.parametrize(
    "fields", [{}, {"allow_only": ()}, {"cooldown": Cooldown(minimum_age_s=1, projects=())}, {"advisories": "Block"}]
)
def test_every_policy_counts(fields: dict[str, Any]) -> None:
    assert rule_count(Policy(name="ns/p", **fields)) == 1


def test_policies_are_bounded() -> None:
    many = tuple(Policy(name=f"ns/{number}", allow_only=()) for number in range(MAX_POLICIES + 1))
    check_document(PolicyDocument(policies=many[1:]))
    with pytest.raises(InvalidConfigError, match=f"are {MAX_POLICIES + 1} policies; a server takes {MAX_POLICIES}"):
        check_document(PolicyDocument(policies=many))


def test_a_pattern_that_must_be_tried_counts_as_ten() -> None:
    costly = tuple(f"*-{number}" for number in range(3))
    policy = Policy(
        name="ns/p",
        cooldown=Cooldown(minimum_age_s=1, projects=("*", "acme-*", costly[0])),
        allow_only=("a", costly[1]),
        deny=(Deny(project=costly[2]), Deny(project="six")),
    )
    assert rule_count(policy) == 4 + 3 * 10


def test_costly_patterns_are_bounded_for_all_policies_together() -> None:
    names = [f"ns/{letter}" for letter in "abc"]
    many = tuple(Deny(project=f"*-{number}") for number in range(500))
    full = tuple(Policy(name=name, deny=many) for name in names[:2])
    check_document(PolicyDocument(policies=full))
    over = Policy(name=names[2], deny=(Deny(project="six"),))
    with pytest.raises(InvalidConfigError) as caught:
        check_document(PolicyDocument(policies=(over, *full)))
    assert str(caught.value) == (
        f"The policies have 10001 rules; a server takes {MAX_RULES}. Most of them has 'ns/a': 5000, 5000 of them for "
        "500 patterns with a * that is not their end, each of which counts as 10."
    )
