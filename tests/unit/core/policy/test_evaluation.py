"""What each rule does, and what odd files and times do."""

import math
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.evaluation import CompiledDocument, Verdict, compile_policies
from pywharf.core.policy.model import (
    Cooldown,
    Deny,
    Policy,
    PolicyDocument,
    PolicyException,
    SetStatus,
    Yank,
)

DAY = 86_400
NOW = datetime(2026, 11, 27, tzinfo=UTC).timestamp()
REPO = RepoName("team-a")
DIGEST, OTHER = "a" * 64, "b" * 64
OLD = "2020-01-01T00:00:00Z"


class Feed:
    """Advisories about versions of litellm."""

    revision = "1"

    def concerns_malware(self, project: ProjectName) -> bool:
        return project == "litellm"

    def malware_id(self, project: ProjectName, version: str | None) -> str | None:
        assert project == "litellm"
        return "MAL-2" if version == "1.82.7" else None


def project(name: str, *files: File | str, **more: Any) -> Project:
    made = (File(filename=f, sha256=DIGEST, upload_time=OLD) if isinstance(f, str) else f for f in files)
    return Project(name=ProjectName(name), files=tuple(made), **more)


def uploaded(upload_time: str | None) -> File:
    return File(filename="six-1.0.tar.gz", sha256=DIGEST, upload_time=upload_time)


def evaluate(what: Project, *policies: Policy, now: float = NOW, foreign: bool = True, **more: Any) -> Verdict:
    return compile_policies(PolicyDocument(policies=policies), REPO).evaluate(what, foreign=foreign, now=now, **more)


def of(**fields: Any) -> Policy:
    return Policy(**({"name": "ns/p"} | fields))


def reported(verdict: Verdict) -> list[tuple[str, str, float | None]]:
    return [(one.rule, one.reason, one.until) for one in verdict.withheld]


WEEK = of(cooldown=Cooldown(minimum_age_s=7 * DAY))


@pytest.mark.parametrize(
    ("upload_time", "expected"),
    [
        ("2026-11-20T00:00:00Z", []),
        ("2026-11-20T00:00:01Z", [("Cooldown", "younger than 7d", NOW + 1)]),
        ("2026-11-20T00:00:00.500000Z", [("Cooldown", "younger than 7d", NOW + 0.5)]),
        ("2026-11-20T00:00:00.000000000Z", []),
        ("2026-11-20T02:00:00+02:00", []),
        ("2026-11-20t00:00:00z", []),
        ("2026-11-20 00:00:01Z", [("Cooldown", "younger than 7d", NOW + 1)]),
        ("2026-11-19T23:59:60Z", []),
        ("2026-11-20T23:59:60Z", [("Cooldown", "younger than 7d", NOW + DAY)]),
        ("2030-01-01T00:00:00Z", [("Cooldown", "younger than 7d", datetime(2030, 1, 8, tzinfo=UTC).timestamp())]),
        ("0001-01-01T00:00:00Z", []),
        ("0001-01-01T00:00:00+14:00", []),
        ("9999-12-31T23:59:59Z", [("Cooldown", "younger than 7d", None)]),
        ("9999-12-31T23:59:60Z", [("Cooldown", "its upload time cannot be read", None)]),
        (None, [("Cooldown", "its upload time is missing", None)]),
        *(
            (odd, [("Cooldown", "its upload time cannot be read", None)])
            for odd in (
                "",
                "2020-01-01T00:00:00",
                "2020-01-01",
                "20200101T000000Z",
                "2020-13-01T00:00:00Z",
                "2020-02-30T00:00:00Z",
                "2020-01-01T24:00:00Z",
                "2020-01-01T00:00:61Z",
                "2020-W01-1T00:00:00Z",
                "2020-01-01T00:00:00,5Z",
                "2020-01-01T00:00:00Z\n",
                "2020-01-01T00:00:00+99:99",
                "\u0662020-01-01T00:00:00Z",
                "0000-01-01T00:00:00Z",
                "1577836800",
                "yesterday",
                "2020-01-01T00:00:00." + "0" * 100 + "Z",
            )
        ),
    ],
)
def test_cooldown(upload_time: str | None, expected: list[tuple[str, str, float | None]]) -> None:
    verdict = evaluate(project("six", uploaded(upload_time)), WEEK)
    assert reported(verdict) == expected
    assert verdict.next_change == (expected[0][2] if expected else None)


def test_cooldown_is_about_upstream_files() -> None:
    young = project("six", uploaded("2026-11-26T00:00:00Z"))
    assert evaluate(young, WEEK, foreign=False) == Verdict(young)


def test_cooldown_of_a_new_file_of_an_old_release() -> None:
    wheel = File(filename="six-1.0-py3-none-any.whl", sha256=OTHER, upload_time="2026-11-26T00:00:00Z")
    verdict = evaluate(project("six", wheel, "six-1.0.tar.gz"), WEEK)
    assert [file.filename for file in verdict.project.files] == ["six-1.0.tar.gz"]


@pytest.mark.parametrize(
    ("missing_time", "first_seen", "expected"),
    [
        ("Allow", NOW, []),
        ("Deny", NOW - 9 * DAY, [("Cooldown", "its upload time is missing", None)]),
        ("FirstSeen", NOW - 9 * DAY, []),
        ("FirstSeen", NOW - 7 * DAY, []),
        (
            "FirstSeen",
            NOW - DAY,
            [("Cooldown", "its upload time is missing, and it was first seen less than 7d ago", NOW + 6 * DAY)],
        ),
        (
            "FirstSeen",
            None,
            [("Cooldown", "its upload time is missing, and when it was first seen is not known", None)],
        ),
    ],
)
def test_missing_time(missing_time: Any, first_seen: float | None, expected: object) -> None:
    policy = of(cooldown=Cooldown(minimum_age_s=7 * DAY, missing_time=missing_time))
    verdict = evaluate(project("six", uploaded(None)), policy, first_seen=lambda _: first_seen)
    assert reported(verdict) == expected


def test_the_first_sight_never_replaces_a_time_that_is_there() -> None:
    policy = of(cooldown=Cooldown(minimum_age_s=7 * DAY, missing_time="FirstSeen"))
    young = project("six", uploaded("2026-11-26T00:00:00Z"))
    assert evaluate(young, policy, first_seen=lambda _: 0.0).withheld[0].until == NOW + 6 * DAY
    assert evaluate(project("six", uploaded(None)), policy).withheld[0].until is None


@pytest.mark.parametrize(
    ("age", "text"), [(7 * DAY, "7d"), (36 * 3600, "36h"), (90 * 60, "90min"), (61, "61s"), (0, "0d")]
)
def test_the_age_in_words(age: int, text: str) -> None:
    future = project("six", uploaded("2030-01-01T00:00:00Z"))
    policy = of(cooldown=Cooldown(minimum_age_s=age))
    assert evaluate(future, policy).withheld[0].reason == f"younger than {text}"


@pytest.mark.parametrize(
    ("listed", "name", "foreign", "shown"),
    [
        (("numpy", "torch*"), "numpy", True, True),
        (("numpy", "torch*"), "torch-audio", True, True),
        (("numpy", "torch*"), "six", True, False),
        (("numpy", "torch*"), "six", False, True),
        ((), "six", True, False),
        (None, "six", True, True),
        (("S.I-X",), "s-i-x", True, True),
    ],
)
def test_allow_only(listed: tuple[str, ...] | None, name: str, foreign: bool, shown: bool) -> None:
    verdict = evaluate(project(name, f"{name}-1.0.tar.gz"), of(allow_only=listed), foreign=foreign)
    assert reported(verdict) == ([] if shown else [("AllowOnly", "the policy does not list the project", None)])


FILES = ("a_b-1.0rc1.tar.gz", "a_b-1.0.tar.gz", "a_b-1.0+cpu-py3-none-any.whl", "a_b-1!0.5.tar.gz", "a_b-.zip", "x.zip")


@pytest.mark.parametrize(
    ("rule", "withheld"),
    [
        ({"project": "A_B"}, (0, 1, 2, 3, 4, 5)),
        ({"project": "a.b"}, (0, 1, 2, 3, 4, 5)),
        ({"project": "a"}, ()),
        ({"project": "A--*", "versions": "==1.0"}, (1, 2)),
        ({"project": "a-b", "versions": "==1"}, (1, 2)),
        ({"project": "a-b", "versions": "==1.0+cpu"}, (2,)),
        ({"project": "a-b", "versions": "===1.0"}, (1,)),
        ({"project": "a-b", "versions": ">=1.0rc1"}, (0, 1, 2, 3)),
        ({"project": "a-b", "versions": ">=1!0"}, (3,)),
        ({"project": "a-b", "versions": "<2"}, (0, 1, 2)),
        ({"project": "a-b", "versions": ""}, (0, 1, 2, 3)),
        ({"project": "a-b", "sha256": DIGEST}, (0, 1, 2, 3, 4, 5)),
        ({"project": "a-b", "sha256": OTHER}, ()),
        ({"project": "a-b", "sha256": DIGEST, "versions": "==1.0"}, (1, 2)),
        ({"project": "a-b", "sha256": DIGEST, "versions": "<1.0rc2"}, (0,)),
    ],
)
@pytest.mark.parametrize("foreign", [True, False])
def test_deny(rule: dict[str, str], withheld: tuple[int, ...], foreign: bool) -> None:
    verdict = evaluate(project("a-b", *FILES), of(deny=(Deny(**rule, reason="stolen"),)), foreign=foreign)
    if foreign and "versions" in rule and "sha256" not in rule:
        withheld = (*withheld, 4, 5)  # their versions cannot be read: clients may read them otherwise
        assert {one.reason for one in verdict.withheld[-2:]} == {
            "its version cannot be read, so it may be one that is withheld"
        }
        assert {one.reason for one in verdict.withheld[:-2]} <= {"stolen"}
        assert [one.filename for one in verdict.withheld] == [FILES[number] for number in withheld]
        return
    assert [one.filename for one in verdict.withheld] == [FILES[number] for number in withheld]
    assert {one.reason for one in verdict.withheld} <= {"stolen"}
    assert verdict.next_change is None


def test_a_file_without_a_digest_matches_no_digest() -> None:
    unnamed = project("six", File(filename="six-1.0.tar.gz", sha256=""))
    assert not evaluate(unnamed, of(deny=(Deny(project="six", sha256=DIGEST),))).withheld


@pytest.mark.parametrize(
    ("own", "rules", "expected"),
    [
        (None, [("ns/p", "because")], "because"),
        (None, [("ns/p", "")], ""),
        ("the storage's", [("ns/p", "because")], "the storage's"),
        ("", [("ns/p", "because")], ""),
        (None, [("ns/b", "b"), ("ns/a", "z")], "z"),
        (None, [("ns/b", "b"), ("ns/a", "")], "b"),
    ],
)
def test_yank(own: str | None, rules: list[tuple[str, str]], expected: str) -> None:
    policies = [of(name=name, yank=(Yank(project="six", versions="<2", reason=text),)) for name, text in rules]
    file = File(filename="six-1.0.tar.gz", sha256=DIGEST, yanked=own)
    verdict = evaluate(project("six", file, "six-2.0.tar.gz"), *policies, foreign=False)
    assert [one.yanked for one in verdict.project.files] == [expected, None]
    assert verdict.withheld == ()


@pytest.mark.parametrize(
    ("own", "policies", "status", "reason"),
    [
        ("active", ["archived"], "archived", "archived here"),
        ("deprecated", ["archived"], "archived", "archived here"),
        ("archived", ["archived"], "archived", "own"),
        ("quarantined", ["archived"], "quarantined", "own"),
        ("active", ["deprecated", "archived"], "archived", "archived here"),
        ("odd", ["deprecated"], "deprecated", "deprecated here"),
    ],
)
def test_status(own: str, policies: list[Any], status: str, reason: str) -> None:
    rules = tuple(SetStatus(project="s*", status=one, reason=f"{one} here") for one in policies)
    verdict = evaluate(project("six", "six-1.0.tar.gz", status=own, status_reason="own"), of(status=rules))
    assert (verdict.project.status, verdict.project.status_reason) == (status, reason)
    assert len(verdict.project.files) == 1


@pytest.mark.parametrize(("reason", "shown"), [("stolen", "stolen"), ("", "the project is quarantined")])
def test_quarantine_withholds_every_file(reason: str, shown: str) -> None:
    policy = of(status=(SetStatus(project="six", status="quarantined", reason=reason),))
    verdict = evaluate(project("six", "six-1.0.tar.gz"), policy, foreign=False)
    assert reported(verdict) == [("Status", shown, None)]
    assert (verdict.project.status, verdict.project.files) == ("quarantined", ())
    assert verdict.project.status_reason == (reason or None)


@pytest.mark.parametrize(
    ("mode", "feed", "filename", "expected"),
    [
        ("Block", Feed(), "litellm-1.82.7.tar.gz", [("Advisory", "MAL-2 reports it as malware", None)]),
        ("Block", Feed(), "litellm-1.82.6.tar.gz", []),
        ("Block", Feed(), "litellm-odd.tar.gz", []),
        ("Block", None, "litellm-1.82.7.tar.gz", []),
        ("Report", Feed(), "litellm-1.82.7.tar.gz", []),
    ],
)
def test_advisories(mode: Any, feed: Feed | None, filename: str, expected: object) -> None:
    policy = of(advisories=mode)
    assert reported(evaluate(project("litellm", filename), policy, advisories=feed, foreign=False)) == expected
    assert not evaluate(project("six", "six-1.82.7.tar.gz"), policy, advisories=feed).withheld


def exception(*rules: Any, until: float = NOW + DAY, **selected: Any) -> PolicyException:
    return PolicyException(**({"project": "six"} | selected), of=rules, until=until, reason="needed")


YOUNG = project("six", uploaded("2026-11-26T00:00:00Z"))


@pytest.mark.parametrize(
    ("exceptions", "is_withheld", "next_change"),
    [
        ((exception("Cooldown"),), False, NOW + DAY),
        ((exception("Cooldown", versions="==1.0"),), False, NOW + DAY),
        ((exception("Cooldown", versions="==1.1"),), True, NOW + 6 * DAY),
        ((exception("Cooldown", sha256=DIGEST),), False, NOW + DAY),
        ((exception("Cooldown", sha256=OTHER),), True, NOW + 6 * DAY),
        ((exception("Cooldown", project="*"),), False, NOW + DAY),
        ((exception("Deny", "AllowOnly"),), True, NOW + 6 * DAY),
        ((exception("Cooldown", until=NOW),), True, NOW + 6 * DAY),
        ((exception("Cooldown", until=NOW + 9 * DAY),), False, None),
        ((exception("Cooldown"), exception("Cooldown", until=NOW + 2 * DAY)), False, NOW + 2 * DAY),
    ],
)
def test_an_exception_to_a_cooldown(
    exceptions: tuple[PolicyException, ...], is_withheld: bool, next_change: float | None
) -> None:
    policy = of(cooldown=Cooldown(minimum_age_s=7 * DAY), exceptions=exceptions)
    verdict = evaluate(YOUNG, policy)
    assert bool(verdict.withheld) == is_withheld
    assert verdict.next_change == next_change


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("AllowOnly", {"allow_only": ()}),
        ("Deny", {"deny": (Deny(project="*"),)}),
        ("Status", {"status": (SetStatus(project="six", status="quarantined"),)}),
        ("Advisory", {"advisories": "Block"}),
    ],
)
def test_an_exception_to_a_rule_ends_on_time(rule: Any, fields: dict[str, Any]) -> None:
    name = "litellm" if rule == "Advisory" else "six"
    what = project(name, f"{name}-1.82.7.tar.gz")
    loosened = of(**fields, exceptions=(exception(rule, project=name),))
    before = evaluate(what, loosened, advisories=Feed())
    assert (before.project, before.withheld, before.next_change) == (what, (), NOW + DAY)
    after = evaluate(what, loosened, advisories=Feed(), now=NOW + DAY)
    assert [one.rule for one in after.withheld] == [rule]
    assert evaluate(what, loosened, of(name="ns/q", **fields), advisories=Feed()).withheld[0].policy == "ns/q"


def test_an_exception_to_a_yank_and_a_status_ends_on_time() -> None:
    policy = of(
        yank=(Yank(project="six"),),
        status=(SetStatus(project="six", status="archived"),),
        exceptions=(exception("Yank", "Status"),),
    )
    what = project("six", "six-1.0.tar.gz")
    assert evaluate(what, policy) == Verdict(what, (), NOW + DAY)
    after = evaluate(what, policy, now=NOW + DAY).project
    assert (after.status, after.files[0].yanked) == ("archived", "")


@pytest.mark.parametrize("selected", [{"versions": "==1.0"}, {"sha256": DIGEST}])
def test_an_exception_of_a_file_does_not_loosen_a_status(selected: dict[str, Any]) -> None:
    rules = (SetStatus(project="six", status="quarantined"),)
    policy = of(status=rules, exceptions=(exception("Status", **selected),))
    verdict = evaluate(project("six", "six-1.0.tar.gz"), policy)
    assert verdict.project.status == "quarantined"
    assert len(verdict.withheld) == 1


@pytest.mark.parametrize(
    ("policies", "first"),
    [
        ([of(name="ns/a", cooldown=Cooldown(minimum_age_s=9 * DAY)), of(name="ns/z", deny=(Deny(project="*"),))], 1),
        (
            [
                of(name="ns/a", cooldown=Cooldown(minimum_age_s=9 * DAY)),
                of(name="ns/z", cooldown=Cooldown(minimum_age_s=10 * DAY)),
            ],
            1,
        ),
        ([of(name="ns/b", deny=(Deny(project="*"),)), of(name="ns/a", allow_only=())], 1),
    ],
)
def test_the_withholder_that_is_named(policies: list[Policy], first: int) -> None:
    for order in (policies, policies[::-1]):
        assert evaluate(YOUNG, *order).withheld[0].policy == policies[first].name


def test_of_one_policy_the_first_rule_and_reason_are_named() -> None:
    denies = (Deny(project="*", reason="b"), Deny(project="six", versions="==1.0", reason="a"))
    policy = of(deny=denies, status=(SetStatus(project="six", status="quarantined"),))
    assert reported(evaluate(YOUNG, policy, now=NOW + 30 * DAY)) == [("Deny", "a", None)]


def test_a_longer_cooldown_that_allows_missing_times_leaves_them_to_a_shorter_one() -> None:
    longer = of(name="ns/a", cooldown=Cooldown(minimum_age_s=9 * DAY, missing_time="Allow"))
    shorter = of(name="ns/b", cooldown=Cooldown(minimum_age_s=7 * DAY, missing_time="FirstSeen"))
    verdict = evaluate(project("six", uploaded(None)), longer, shorter, first_seen=lambda _: NOW - DAY)
    assert [(one.policy, one.until) for one in verdict.withheld] == [("ns/b", NOW + 6 * DAY)]


@pytest.mark.parametrize("rules", [5, 4, 3, 2, 1])
def test_of_one_policy_the_rule_with_the_most_telling_reason_is_named(rules: int) -> None:
    fields = {
        "cooldown": Cooldown(minimum_age_s=DAY),
        "allow_only": (),
        "status": (SetStatus(project="*", status="quarantined"),),
        "advisories": "Block",
        "deny": (Deny(project="*"),),
    }
    policy = of(**dict([*fields.items()][:rules]))
    what = project("litellm", File(filename="litellm-1.82.7.tar.gz", sha256=DIGEST))
    named = ("Cooldown", "AllowOnly", "Status", "Advisory", "Deny")[rules - 1]
    assert [one.rule for one in evaluate(what, policy, advisories=Feed()).withheld] == [named]


def test_many_policies_keep_what_one_keeps() -> None:
    """A page of 1,000 files and 256 policies of each kind: the memory is that of one policy, not the product."""
    what = project("six", *(f"six-1.{n}.tar.gz" for n in range(1_000)))
    for fields in (
        {"cooldown": Cooldown(minimum_age_s=3_650 * DAY)},
        {"allow_only": ()},
        {"deny": (Deny(project="*"),)},
    ):
        peaks = []
        for number in (1, 1, 256):
            policies = [of(name=f"ns/{n}", **fields) for n in range(number)]
            compiled = compile_policies(PolicyDocument(policies=tuple(policies)), REPO)
            tracemalloc.start()
            try:
                assert len(compiled.evaluate(what, foreign=True, now=NOW).withheld) == 1_000
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        assert peaks[-1] < 2 * peaks[1]


def test_policies_of_other_repos_do_not_count() -> None:
    document = PolicyDocument(
        policies=(
            of(name="ns/other", repos=(RepoName("team-b"),), deny=(Deny(project="*"),)),
            of(name="ns/both", repos=(RepoName("team-b"), REPO), deny=(Deny(project="seven"),)),
            of(name="ns/all", deny=(Deny(project="eight"),)),
        )
    )
    compiled = CompiledDocument(document)
    names = [ProjectName(name) for name in ("six", "seven", "eight")]
    assert compiled.of(REPO).hides_whole_projects(names) == ("seven", "eight")
    assert compiled.of(RepoName("team-b")).hides_whole_projects(iter(names)) == tuple(names)
    assert compiled.of(RepoName("team-c")).hides_whole_projects(names) == ("eight",)


@pytest.mark.parametrize(
    ("policy", "own", "foreign"),
    [
        (of(), False, False),
        (of(cooldown=Cooldown(minimum_age_s=1)), False, True),
        (of(cooldown=Cooldown(minimum_age_s=1, projects=("s*",))), False, True),
        (of(cooldown=Cooldown(minimum_age_s=1, projects=("t*",))), False, False),
        (of(allow_only=("six",)), False, False),
        (of(allow_only=("seven",)), False, True),
        (of(deny=(Deny(project="*x"),)), True, True),
        (of(yank=(Yank(project="s*x"),)), True, True),
        (of(status=(SetStatus(project="*i*", status="archived"),)), True, True),
        (of(exceptions=(exception("Deny"),)), False, False),
        (of(advisories="Report"), False, False),
        (of(advisories="Block"), True, True),
    ],
)
def test_concerns(policy: Policy, own: bool, foreign: bool) -> None:
    compiled = compile_policies(PolicyDocument(policies=(policy,)), REPO)
    name = ProjectName("six")
    assert compiled.concerns(name, foreign=False) == own
    assert compiled.concerns(name, foreign=True) == foreign
    with_feed = compiled.concerns(name, foreign=False, advisories=Feed())
    assert with_feed == (own and policy.advisories != "Block")


def test_a_project_of_which_files_are_withheld_may_have_none_left() -> None:
    names = [ProjectName("six"), ProjectName("litellm")]
    compiled = compile_policies(PolicyDocument(policies=(of(advisories="Block"),)), REPO)
    assert compiled.hides_whole_projects(names) == ()
    assert compiled.hides_whole_projects(names, Feed()) == ("litellm",)


def test_clocks_that_jump() -> None:
    assert evaluate(YOUNG, WEEK, now=0.0).next_change == NOW + 6 * DAY
    assert evaluate(YOUNG, WEEK, now=-1e12).withheld[0].until == NOW + 6 * DAY
    assert evaluate(YOUNG, WEEK, now=1e15) == Verdict(YOUNG)
    assert evaluate(YOUNG, WEEK, now=math.inf) == Verdict(YOUNG)
