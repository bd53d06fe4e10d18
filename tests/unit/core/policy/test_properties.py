"""What holds for all policies, projects and times."""

import fnmatch
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from packaging.specifiers import SpecifierSet

from pywharf.core.filenames import version_of
from pywharf.core.model import File, Project, rfc3339
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.evaluation import Verdict, compile_policies
from pywharf.core.policy.model import (
    Cooldown,
    Deny,
    Policy,
    PolicyDocument,
    PolicyException,
    Rule,
    SetStatus,
    Yank,
)
from pywharf.core.policy.upload_times import LAST_SECOND, unix_seconds

T = TypeVar("T")
NOW = 1_800_000_000.0
DIGESTS = ["a" * 64, "b" * 64]
REPO = RepoName("team-a")
STRICTNESS = ["active", "deprecated", "archived", "quarantined"]

TIMES = st.integers(-20, 20).map(lambda days: NOW + days * 86_400)
FILES = st.builds(
    File,
    filename=st.sampled_from(["a_b-1.0.tar.gz", "a_b-1.0-py3-none-any.whl", "a_b-1.1.tar.gz", "a_b-2.0rc1.zip", "x"]),
    sha256=st.sampled_from(["", *DIGESTS]),
    upload_time=st.one_of(st.sampled_from([None, "soon", "9999-12-25T00:00:00Z"]), TIMES.map(rfc3339)),
    yanked=st.sampled_from([None, None, "", "own"]),
)
PROJECTS = st.builds(
    lambda files, status: Project(
        name=ProjectName("a-b"), files=tuple(sorted(files, key=lambda file: file.filename)), status=status
    ),
    st.lists(FILES, max_size=5, unique_by=lambda file: file.filename),
    st.sampled_from(STRICTNESS),
)
NAMES = st.sampled_from(["a-b", "A_B", "*", "a*", "*b", "c", "c*"])
SELECTED = {
    "project": NAMES,
    "versions": st.sampled_from([None, None, "==1.0", ">=1.1", "<2", "==2.*"]),
    "sha256": st.sampled_from([None, None, None, *DIGESTS]),
}
REASONS = st.sampled_from(["", "because", "therefore"])
RULES: tuple[Rule, ...] = ("Cooldown", "AllowOnly", "Deny", "Yank", "Status", "Advisory")
COOLDOWNS = st.builds(
    Cooldown,
    minimum_age_s=st.integers(0, 15).map(lambda days: days * 86_400),
    missing_time=st.sampled_from(["Deny", "FirstSeen", "Allow"]),
    projects=st.lists(NAMES, min_size=1, max_size=2).map(tuple),
)
EXCEPTIONS = st.builds(
    PolicyException,
    **SELECTED,
    of=st.lists(st.sampled_from(RULES), min_size=1, max_size=3).map(tuple),
    until=TIMES,
    reason=st.just("needed"),
)


def _tuples(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


POLICIES = st.builds(
    Policy,
    name=st.just(""),
    cooldown=st.one_of(st.none(), COOLDOWNS),
    allow_only=st.sampled_from([None, None, (), ("a-*",), ("c",)]),
    deny=_tuples(st.builds(Deny, **SELECTED, reason=REASONS)),
    yank=_tuples(st.builds(Yank, **SELECTED, reason=REASONS)),
    status=_tuples(st.builds(SetStatus, project=NAMES, status=st.sampled_from(STRICTNESS[1:]), reason=REASONS)),
    advisories=st.sampled_from([None, "Block", "Report"]),
    exceptions=_tuples(EXCEPTIONS),
)
SETS = st.lists(POLICIES, max_size=4).map(
    lambda policies: [replace(policy, name=f"ns/{number}") for number, policy in enumerate(policies)]
)


class _Feed:
    """A malware report about one version."""

    revision = "1"

    def concerns_malware(self, project: ProjectName) -> bool:
        return project == "a-b"

    def malware_id(self, project: ProjectName, version: str | None) -> str | None:
        return "MAL-2" if version == "1.1" else None


def _first_seen(file: File) -> float | None:
    return NOW - 3 * 86_400 if file.filename.endswith(".whl") else None


def evaluate(policies: Sequence[Policy], project: Project, now: float = NOW, *, foreign: bool = True) -> Verdict:
    """Evaluate with a feed; files without a time were first seen three days before `NOW`, unless they are sdists."""
    compiled = compile_policies(PolicyDocument(policies=tuple(policies)), REPO)
    return compiled.evaluate(
        project,
        foreign=foreign,
        now=now,
        advisories=_Feed(),
        first_seen=_first_seen,
    )


def _shown(verdict: Verdict) -> set[str]:
    return {file.filename for file in verdict.project.files} if verdict.project.offers_files else set()


@given(SETS, PROJECTS, st.booleans())
def test_every_file_is_either_shown_or_withheld(policies: list[Policy], project: Project, foreign: bool) -> None:
    verdict = evaluate(policies, project, foreign=foreign)
    shown = [file.filename for file in verdict.project.files]
    withheld = [file.filename for file in verdict.withheld]
    assert sorted(shown + withheld) == [file.filename for file in project.files]
    assert shown == sorted(shown)
    assert withheld == sorted(withheld)


@given(SETS, POLICIES, PROJECTS, st.booleans())
def test_another_policy_never_shows_more(
    policies: list[Policy],
    other: Policy,
    project: Project,
    foreign: bool,
) -> None:
    before = evaluate(policies, project, foreign=foreign)
    after = evaluate([*policies, replace(other, name="other/policy")], project, foreign=foreign)
    assert _shown(after) <= _shown(before)
    assert STRICTNESS.index(after.project.status) >= STRICTNESS.index(before.project.status)
    yanked = {file.filename for file in before.project.files if file.yanked is not None}
    assert all(file.yanked is not None for file in after.project.files if file.filename in yanked)


@given(SETS, POLICIES, PROJECTS, st.booleans())
def test_an_exception_reaches_its_own_policy_alone(
    policies: list[Policy],
    other: Policy,
    project: Project,
    foreign: bool,
) -> None:
    alone = _shown(evaluate(policies, project, foreign=foreign))
    loosening = Policy(name="other/policy", exceptions=other.exceptions)
    assert _shown(evaluate([*policies, loosening], project, foreign=foreign)) == alone
    together = evaluate([*policies, replace(other, name="other/policy")], project, foreign=foreign)
    assert _shown(together) == alone & _shown(evaluate([other], project, foreign=foreign))


@given(SETS, PROJECTS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(policies: list[Policy], project: Project, shuffled: random.Random) -> None:
    def mixed(items: Sequence[T]) -> tuple[T, ...]:
        return tuple(shuffled.sample(items, len(items)))

    others = [
        replace(
            policy,
            **{field: mixed(getattr(policy, field)) for field in ("deny", "yank", "status", "exceptions")},
        )
        for policy in policies
    ]
    files = replace(project, files=mixed(project.files))
    one, other = evaluate(policies, project), evaluate(mixed(others), files)
    by_name = {file.filename: file for file in one.project.files}
    assert {file.filename: file for file in other.project.files} == by_name
    assert sorted(other.withheld, key=lambda file: file.filename) == list(one.withheld)
    assert (other.next_change, other.project.status) == (one.next_change, one.project.status)
    assert other.project.status_reason == one.project.status_reason


@given(SETS, PROJECTS, st.booleans(), st.floats(0, 1, exclude_max=True))
def test_a_verdict_holds_until_its_next_change(
    policies: list[Policy],
    project: Project,
    foreign: bool,
    part: float,
) -> None:
    first = evaluate(policies, project, foreign=foreign)
    end = NOW + 10_000 * 86_400 if first.next_change is None else first.next_change
    assert end > NOW
    assert evaluate(policies, project, min(NOW + part * (end - NOW), end - 0.001), foreign=foreign) == first


@given(SETS, PROJECTS)
def test_every_verdict_comes_by_waiting_for_the_next_changes(policies: list[Policy], project: Project) -> None:
    now, steps = NOW, 0
    while (following := evaluate(policies, project, now).next_change) is not None:
        assert following > now
        now, steps = following, steps + 1
        assert steps < 100
    assert evaluate(policies, project, now) == evaluate(policies, project, now + 1e6)


@given(SETS, PROJECTS, st.booleans())
def test_an_evaluation_is_pure(policies: list[Policy], project: Project, foreign: bool) -> None:
    compiled = compile_policies(PolicyDocument(policies=tuple(policies)), REPO)
    before = project.files
    first = compiled.evaluate(project, foreign=foreign, now=NOW, advisories=_Feed())
    assert compiled.evaluate(project, foreign=foreign, now=NOW, advisories=_Feed()) == first
    assert project.files is before


@given(SETS, PROJECTS, st.booleans())
def test_a_project_that_nothing_concerns_stays_as_it_is(
    policies: list[Policy],
    project: Project,
    foreign: bool,
) -> None:
    compiled = compile_policies(PolicyDocument(policies=tuple(policies)), REPO)
    verdict = compiled.evaluate(project, foreign=foreign, now=NOW, advisories=_Feed())
    if not compiled.concerns(project.name, foreign=foreign, advisories=_Feed()):
        assert verdict.project is project
        assert verdict == Verdict(project)
    if not foreign and project.files and not verdict.project.files:
        assert compiled.hides_whole_projects([project.name], _Feed()) == (project.name,)


def _selects(rule: Deny | PolicyException, file: File) -> bool:
    """Return whether a rule is about a file of the project a-b, by what `packaging` and `fnmatch` say."""
    version = version_of(file.filename, ProjectName("a-b"))
    return (
        fnmatch.fnmatchcase("a-b", rule.project.lower().replace("_", "-"))
        and (rule.sha256 is None or rule.sha256 == file.sha256)
        and (
            rule.versions is None
            or (version is not None and SpecifierSet(rule.versions).contains(version, prereleases=True))
        )
    )


DOUBT = "its version cannot be read, so it may be one that is withheld"


def _doubts(policy: Policy, file: File) -> list[str]:
    """Return why a file of the extra index is withheld that no rule selects: it may be a denied version."""
    if version_of(file.filename, ProjectName("a-b")) is not None:
        return []
    by_version = [deny for deny in policy.deny if deny.versions is not None and deny.sha256 is None]
    of_project = [deny for deny in by_version if _selects(msgspec.structs.replace(deny, versions=None), file)]
    return [DOUBT] if of_project else []


@given(SETS, PROJECTS)
def test_denials_are_those_of_a_plain_search(policies: list[Policy], project: Project) -> None:
    only = [Policy(name=policy.name, deny=policy.deny, exceptions=policy.exceptions) for policy in policies]
    expected = {}
    for file in project.files:
        reasons = [
            (policy.name, reason)
            for policy in only
            if not any(e.until > NOW and "Deny" in e.of and _selects(e, file) for e in policy.exceptions)
            for reason in [deny.reason for deny in policy.deny if _selects(deny, file)] or _doubts(policy, file)
        ]
        if reasons:
            expected[file.filename] = min(reasons)
    verdict = evaluate(only, project)
    assert {one.filename: (one.policy, one.reason) for one in verdict.withheld} == expected


RANKS = ("Deny", "Advisory", "Status", "AllowOnly", "Cooldown")
Withholding = tuple[float, str, int, str, float]
"""The end, negated; the policy, the rank of the rule, the reason, and when an exception to it ends."""


def _is_about(pattern: str) -> bool:
    return fnmatch.fnmatchcase("a-b", pattern.lower().replace("_", "-"))


def _immature(cooldown: Cooldown, file: File) -> tuple[str, str, float]:
    age = f"{cooldown.minimum_age_s // 86_400}d"
    base = None if file.upload_time is None else unix_seconds(file.upload_time)
    reason = f"younger than {age}"
    if base is None:
        reason = "its upload time is missing" if file.upload_time is None else "its upload time cannot be read"
        base = {"Allow": -math.inf, "Deny": math.inf, "FirstSeen": _first_seen(file)}[cooldown.missing_time]
        if cooldown.missing_time == "FirstSeen":
            known = f"and it was first seen less than {age} ago"
            reason += f", {'and when it was first seen is not known' if base is None else known}"
    end = math.inf if base is None else base + cooldown.minimum_age_s
    return "Cooldown", reason, end if end <= LAST_SECOND else math.inf


def _reasons(policy: Policy, file: File, *, foreign: bool) -> Iterator[tuple[str, str, float]]:
    """Yield every rule of a policy that withholds a file, its reason and its end, but for exceptions."""
    if foreign and policy.cooldown is not None and any(map(_is_about, policy.cooldown.projects)):
        yield _immature(policy.cooldown, file)
    if foreign and policy.allow_only is not None and not any(map(_is_about, policy.allow_only)):
        yield "AllowOnly", "the policy does not list the project", math.inf
    denied = [deny.reason for deny in policy.deny if _selects(deny, file)]
    yield from (("Deny", reason, math.inf) for reason in denied or (_doubts(policy, file) if foreign else []))
    quarantined = [one.reason for one in policy.status if one.status == "quarantined" and _is_about(one.project)]
    if quarantined:
        yield "Status", min(filter(None, quarantined), default="the project is quarantined"), math.inf
    version = version_of(file.filename, ProjectName("a-b"))
    if policy.advisories == "Block" and version == "1.1":
        yield "Advisory", "MAL-2 reports it as malware", math.inf
    if policy.advisories == "Block" and foreign and version is None:
        yield "Advisory", DOUBT, math.inf


def _loosened(policy: Policy, rule: str, file: File) -> float:
    """Return when the policy's last exception to a rule ends; minus infinity: none holds now."""
    whole = rule == "Status"
    ends = (
        exception.until
        for exception in policy.exceptions
        if rule in exception.of
        and exception.until > NOW
        and _selects(exception, file)
        and not (whole and (exception.versions is not None or exception.sha256 is not None))
    )
    return max(ends, default=-math.inf)


def _all_claims(policies: Sequence[Policy], file: File, *, foreign: bool) -> list[Withholding]:
    return [
        (-end, policy.name, RANKS.index(rule), reason, start)
        for policy in policies
        for rule, reason, end in _reasons(policy, file, foreign=foreign)
        if end > NOW and (start := _loosened(policy, rule, file)) < end
    ]


def _compare_with_all_claims(policies: Sequence[Policy], project: Project, *, foreign: bool) -> None:
    """Compare what withholds and the next change with a plain collection of all claims.

    Yanks withhold nothing, so they stay out of it; of statuses alone the moments are the evaluation's own.
    """
    only = [replace(policy, yank=()) for policy in policies]
    status_alone = [Policy(name=one.name, status=one.status, exceptions=one.exceptions) for one in only]
    moments = [evaluate(status_alone, replace(project, files=()), foreign=foreign).next_change]
    expected = {}
    for file in project.files:
        claims = _all_claims(only, file, foreign=foreign)
        deciding = min((claim for claim in claims if claim[-1] <= NOW), default=None)
        moments += [claim[-1] for claim in claims if claim[-1] > NOW and (deciding is None or claim < deciding)]
        if deciding is not None:
            until = None if deciding[0] == -math.inf else -deciding[0]
            expected[file.filename] = (deciding[1], RANKS[deciding[2]], deciding[3], until)
            moments.append(until)
    verdict = evaluate(only, project, foreign=foreign)
    assert {one.filename: (one.policy, one.rule, one.reason, one.until) for one in verdict.withheld} == expected
    assert verdict.next_change == min((moment for moment in moments if moment is not None), default=None)


@given(SETS, PROJECTS, st.booleans())
def test_what_withholds_is_what_all_claims_say(policies: list[Policy], project: Project, foreign: bool) -> None:
    _compare_with_all_claims(policies, project, foreign=foreign)


def _dense(drawn: random.Random, number: int) -> Policy:
    """Return a policy of which most rules are about a project, so that claims and exceptions meet often."""

    def some(made: Callable[[], T]) -> tuple[T, ...]:
        return tuple(made() for _ in range(drawn.choice([0, 0, 0, 1, 2])))

    def selected() -> dict[str, Any]:
        versions = drawn.choice([None, "==1.0", ">=1.1", "<2"])
        return {"project": "a-b", "versions": versions, "sha256": drawn.choice([None, None, None, *DIGESTS])}

    cooldown = Cooldown(
        minimum_age_s=drawn.choice([0, 5, 6, 10, 30]) * 86_400,
        missing_time=drawn.choice(["Deny", "FirstSeen", "Allow"]),
    )
    return Policy(
        name=f"ns/{number}",
        cooldown=drawn.choice([None, cooldown, cooldown]),
        allow_only=drawn.choice([None, None, None, ()]),
        deny=some(lambda: Deny(**selected(), reason=drawn.choice("ab"))),
        status=some(lambda: SetStatus(project="a-b", status="quarantined", reason=drawn.choice(["", "a", "b"]))),
        advisories=drawn.choice([None, None, "Block"]),
        exceptions=tuple(
            PolicyException(
                **selected(),
                of=tuple(drawn.sample(RULES, drawn.randint(1, 4))),
                until=NOW + drawn.randint(-2, 12) * 86_400,
                reason="needed",
            )
            for _ in range(drawn.choice([0, 1, 3]))
        ),
    )


def test_what_withholds_is_what_all_claims_say_where_many_meet() -> None:
    drawn = random.Random(14)
    names = ["a_b-1.0-py3-none-any.whl", "a_b-1.0.tar.gz", "a_b-1.1.tar.gz", "a_b-2.0rc1-py3-none-any.whl"]
    for _ in range(500):
        policies = [_dense(drawn, number) for number in range(drawn.randint(1, 4))]
        drawn.shuffle(policies)
        times = [None, "soon", "9999-12-25T00:00:00Z", *(rfc3339(NOW + day * 86_400) for day in (-11, -7, -4, -1, 2))]
        files = tuple(
            File(filename=name, sha256=drawn.choice(["", *DIGESTS]), upload_time=drawn.choice(times))
            for name in sorted(drawn.sample(names, drawn.randint(1, 3)))
        )
        _compare_with_all_claims(policies, Project(name=ProjectName("a-b"), files=files), foreign=drawn.random() < 0.8)
