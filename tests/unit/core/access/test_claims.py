"""Tests of what fits an access entry's claims. Each row is one token's claims and whether they fit."""

from collections.abc import Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.access.claim_patterns import MAX_STARS, ClaimPattern
from pywharf.core.access.claims import Asked, claims_of
from pywharf.core.access.entries import Github, Gitlab, Oidc
from pywharf.core.access.identities import Claims
from support.counting import calls

GITHUB = Github(repository="acme/tool", workflow="release.yml", environment="pypi", owner_id=4711)
GITHUB_CLAIMS = {
    "repository": "acme/tool",
    "repository_owner_id": "4711",
    "job_workflow_ref": "acme/tool/.github/workflows/release.yml@refs/tags/v1",
    "environment": "pypi",
}
GITLAB = Gitlab(project="acme/apps/tool", environment="prod", ref="release/*", namespace_id=72)
GITLAB_CLAIMS = {
    "project_path": "acme/apps/tool",
    "namespace_id": "72",
    "ci_config_ref_uri": "gitlab.com/acme/apps/tool//.gitlab-ci.yml@refs/heads/release/1",
    "environment": "prod",
    "ref": "release/1",
    "ref_path": "refs/heads/release/1",
}
TAGS = Gitlab(project="acme/lib", ref="v*", ref_type="tag", namespace_id=815)
ABSENT = object()


def claims(issuer: str, given: Mapping[str, object], **changed) -> Claims:
    return Claims(issuer, {name: value for name, value in {**given, **changed}.items() if value is not ABSENT}, 10.0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"repository": "Acme/Tool"}, True),
        ({"environment": "PyPI"}, True),
        ({"job_workflow_ref": "acme/tool/.github/workflows/release.yml@" + "a" * 40}, True),
        ({"repository": "acme/tools"}, False),
        ({"repository": "acme/tool/"}, False),
        ({"repository": "\u212bcme/tool"}, False),
        ({"repository": ["acme/tool"]}, False),
        ({"repository_owner_id": "4712"}, False),
        ({"repository_owner_id": "04711"}, False),
        ({"repository_owner_id": " 4711"}, False),
        ({"repository_owner_id": "\u0664\u0667\u0661\u0661"}, False),
        ({"repository_owner_id": 4711}, False),
        ({"repository_owner_id": 4711.0}, False),
        ({"job_workflow_ref": "evil/reusable/.github/workflows/release.yml@refs/heads/main"}, False),
        ({"job_workflow_ref": "acme/tool2/.github/workflows/release.yml@refs/heads/main"}, False),
        ({"job_workflow_ref": "acme/tool/.github/workflows/test.yml@refs/heads/main"}, False),
        ({"job_workflow_ref": "acme/tool/.github/workflows/release.yml@x.yml@refs/heads/main"}, False),
        ({"job_workflow_ref": "acme/tool/.github/workflows/x/release.yml@refs/heads/main"}, False),
        ({"job_workflow_ref": "acme/tool/.github/workflows/release.yml"}, False),
        ({"job_workflow_ref": "acme/tool/.github/workflows/release.yml@"}, False),
        ({"job_workflow_ref": None}, False),
        ({"environment": "test"}, False),
        ({"environment": ""}, False),
        *(({name: ABSENT}, False) for name in GITHUB_CLAIMS),
    ],
)
def test_github(changed, expected):
    assert Asked(GITHUB).fits(claims("github", GITHUB_CLAIMS, **changed)) is expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"ref_path": ABSENT}, True),
        ({"project_path": "Acme/apps/tool"}, True),
        ({"project_path": "acme/apps/tools"}, False),
        ({"namespace_id": "7"}, False),
        ({"namespace_id": 72}, False),
        ({"namespace_id": "072"}, False),
        ({"ci_config_ref_uri": "gitlab.com/acme/other//.gitlab-ci.yml@refs/heads/release/1"}, False),
        ({"ci_config_ref_uri": "gitlab.com/acme/apps/tool//other.yml@refs/heads/release/1"}, False),
        ({"ci_config_ref_uri": "gitlab.com/acme/apps/tool//.gitlab-ci.yml@x@refs/heads/release/1"}, False),
        ({"ci_config_ref_uri": "gitlab.com/acme/apps/tool//.gitlab-ci.yml@refs/heads/main"}, False),
        ({"ci_config_ref_uri": "/acme/apps/tool//.gitlab-ci.yml@refs/heads/release/1"}, False),
        ({"ci_config_ref_uri": None}, False),
        ({"environment": "Prod"}, False),
        ({"ref": "release/1/2", "ref_path": ABSENT}, False),
        ({"ref": "main"}, False),
        *(({name: ABSENT}, False) for name in GITLAB_CLAIMS if name != "ref_path"),
    ],
)
def test_gitlab(changed, expected):
    assert Asked(GITLAB).fits(claims("gitlab", GITLAB_CLAIMS, **changed)) is expected


@pytest.mark.parametrize(
    ("asked", "given_claims", "expected"),
    [
        ({"sub": "build-*"}, {"sub": "build-1"}, True),
        ({"sub": "build-*"}, {"sub": "build-"}, True),
        ({"sub": "build-*"}, {"sub": "build-1/2"}, False),
        ({"sub": "build-*"}, {"sub": "my-build-1"}, False),
        ({"sub": "build-*"}, {}, False),
        ({"sub": "*"}, {"sub": None}, False),
        ({"sub": "*"}, {"sub": 7}, False),
        ({"sub": "*"}, {"sub": ["a"]}, False),
        ({"n": 7}, {"n": 7}, True),
        ({"n": 7}, {"n": "7"}, False),
        ({"n": 1}, {"n": True}, False),
        ({"n": 7}, {"n": 7.0}, False),
        ({"n": "7"}, {"n": 7}, False),
        ({"b": True}, {"b": True}, True),
        ({"b": True}, {"b": 1}, False),
        ({"b": True}, {"b": "true"}, False),
        ({"b": False}, {}, False),
        ({"b": False}, {"b": 0}, False),
        ({"sub": "a", "n": 7}, {"sub": "a", "n": 7, "more": "x"}, True),
        ({"sub": "a", "n": 7}, {"sub": "a", "n": 8}, False),
    ],
)
def test_oidc(asked, given_claims, expected):
    assert Asked(Oidc(issuer="corp", claims=asked)).fits(Claims("corp", given_claims, 10.0)) is expected


@pytest.mark.parametrize(
    ("given_name", "expected"), [("kit", True), ("KIT", True), ("\u212ait", False), ("k\u0131t", False)]
)
def test_only_ascii_letters_have_two_cases(given_name, expected):
    """The lower case of the Kelvin sign is a k."""
    wanted = Github(repository="acme/tool", workflow="release.yml", environment="kit", owner_id=4711)
    assert Asked(wanted).fits(claims("github", GITHUB_CLAIMS, environment=given_name)) is expected


@pytest.mark.parametrize(
    ("wanted", "issuer", "given_claims"),
    [
        (GITHUB, "corp", GITHUB_CLAIMS),
        (GITHUB, "gitlab", GITHUB_CLAIMS),
        (GITLAB, "github", GITLAB_CLAIMS),
        (Oidc(issuer="corp", claims={"sub": "*"}), "corp2", {"sub": "a"}),
    ],
)
def test_another_issuer_never_fits(wanted, issuer, given_claims):
    assert not Asked(wanted).fits(claims(issuer, given_claims))


@pytest.mark.parametrize(
    ("wanted", "issuer", "given_claims"),
    [(GITHUB, "github", GITHUB_CLAIMS), (GITLAB, "gitlab", GITLAB_CLAIMS)],
)
def test_the_named_claims_decide_alone(wanted, issuer, given_claims):
    only = {name: value for name, value in given_claims.items() if name in claims_of(wanted)}
    assert Asked(wanted).fits(Claims(issuer, only, 10.0))


SEGMENT = st.text("ab*.", max_size=6)


@pytest.mark.parametrize(
    ("ref_type", "expected"),
    [("tag", True), ("branch", False), ("Tag", False), (ABSENT, False), (["tag"], False), (True, False)],
)
def test_a_branch_that_is_named_like_a_tag_is_none(ref_type, expected):
    given_claims = {"project_path": "acme/lib", "namespace_id": "815", "ref": "v-evil", "ref_type": ref_type}
    uri = f"gitlab.com/acme/lib//.gitlab-ci.yml@refs/{'tags' if expected else 'heads'}/v-evil"
    assert Asked(TAGS).fits(claims("gitlab", given_claims, ci_config_ref_uri=uri)) is expected


@given(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), st.text("ab./", max_size=12))
def test_no_star_crosses_a_slash(pattern, text):
    if ClaimPattern(pattern).fits(text):
        assert pattern.count("/") == text.count("/")


@given(st.text("ab*", max_size=8), st.lists(st.text("ab", max_size=3), min_size=8, max_size=8))
def test_a_star_stands_for_any_characters_but_a_slash(pattern, fillings):
    text = "".join(fillings.pop() if c == "*" else c for c in pattern)
    assert ClaimPattern(pattern).fits(text)
    if "*" not in pattern:
        assert not ClaimPattern(pattern).fits(text + "a")


def test_a_hostile_pattern_costs_little():
    assert not ClaimPattern("*a" * 250).fits("a" * 500 + "b")


def test_runs_of_stars_are_one_star():
    text = "b" * 500 + "a"
    one, many = (calls(partial(fit, "*" * stars + "a", text)) for stars in (1, 500))
    assert abs(many - one) < 50  # other calls of the process may be counted, too


def fit(pattern: str, text: str) -> bool:
    return ClaimPattern(pattern).fits(text)


@pytest.mark.parametrize(("length", "expected"), [(512, True), (513, False)])
def test_a_text_that_is_too_long_fits_no_pattern(length, expected):
    assert ClaimPattern("a*").fits("a" * length) is expected


@pytest.mark.parametrize("pattern", ["/" * 256 + "*" * 256, "/".join(["*"] * 8 + ["a"] * 240), "*a" * 8])
def test_the_work_of_a_comparison_is_bounded(pattern):
    compiled = ClaimPattern(pattern)
    texts = [pattern, pattern.replace("*", "aa"), "a" * 512, "/" * 512]
    assert max(calls(partial(compiled.fits, text)) for text in texts) <= 20 * MAX_STARS


def test_what_costs_least_is_compared_first():
    wanted: dict[str, str | int | bool] = {**{f"c{n}": "*a" for n in range(15)}, "team": "ours"}
    asked = Asked(Oidc(issuer="corp", claims=wanted))
    given_claims = {f"c{n}": "a" * 500 for n in range(15)}
    assert asked.fits(Claims("corp", given_claims | {"team": "ours"}, 10.0))
    theirs = Claims("corp", given_claims | {"team": "theirs"}, 10.0)
    assert calls(lambda: asked.fits(theirs)) < 20


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (GITHUB, True),
        (GITLAB, True),
        (Oidc(issuer="github", claims={"repository": "acme/tool"}), True),
        (Oidc(issuer="github", claims={"repository": "acme/*", "environment": "pypi"}), False),
        (Oidc(issuer="github", claims={"repository_owner": "acme"}), False),
    ],
)
def test_who_names_one_repository(wanted, expected):
    assert Asked(wanted).names_one is expected
