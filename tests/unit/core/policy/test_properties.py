"""What holds for all policies, projects and times."""

import fnmatch
import random
from collections.abc import Sequence
from typing import TypeVar

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
    SetStatus,
    Yank,
)

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
    upload_time=st.one_of(st.none(), st.just("soon"), TIMES.map(rfc3339)),
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
RULES = ("Cooldown", "AllowOnly", "Deny", "Yank", "Status", "Advisory")
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


def evaluate(policies: Sequence[Policy], project: Project, now: float = NOW, *, foreign: bool = True) -> Verdict:
    """Evaluate with a feed; files without a time were first seen three days before `NOW`, unless they are sdists."""
    compiled = compile_policies(PolicyDocument(policies=tuple(policies)), REPO)
    return compiled.evaluate(
        project,
        foreign=foreign,
        now=now,
        advisories=_Feed(),
        first_seen=lambda file: NOW - 3 * 86_400 if file.filename.endswith(".whl") else None,
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


def _doubts(policy: Policy, file: File) -> list[str]:
    """Return why a file of the extra index is withheld that no rule selects: it may be a denied version."""
    if version_of(file.filename, ProjectName("a-b")) is not None:
        return []
    by_version = [deny for deny in policy.deny if deny.versions is not None and deny.sha256 is None]
    of_project = [deny for deny in by_version if _selects(msgspec.structs.replace(deny, versions=None), file)]
    return ["its version cannot be read, so it may be one that is withheld"] if of_project else []


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
