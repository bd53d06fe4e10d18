"""Tests of what access entries grant, as tables and as properties that hold for any entries."""

import random
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.access import projects
from pywharf.core.access.deciding import compile_entries, decide, digest_of_key, entry_key, matching
from pywharf.core.access.entries import AccessEntry, Github, Oidc, ServiceAccountRef
from pywharf.core.access.identities import Claims, Minted, ProxyUser, ServiceAccount, TokenHolder
from pywharf.core.access.permission import Permission
from pywharf.core.access.projects import ALL_PROJECTS, NO_PROJECTS, RepoProjects
from pywharf.core.names import ProjectName, RepoName
from support.counting import calls

NONE, READ, WRITE = Permission.NONE, Permission.READ, Permission.WRITE
REPO = RepoName("team-a")
NOW = 1_000.0
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


def entry(name="ci", permission="Read", **fields) -> AccessEntry:
    return AccessEntry(name=name, permission=permission, **fields)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def trainer(namespace="ml", name="trainer", **fields) -> ServiceAccount:
    return ServiceAccount(namespace, name, **fields)


ACCOUNT = (ServiceAccountRef(namespace="ml", name="trainer"),)
EVERY_ACCOUNT = (ServiceAccountRef(namespace="ml", name="*"),)


@pytest.mark.parametrize(
    ("fields", "identity", "permission"),
    [
        ({"token_digests": (ONE,)}, TokenHolder(ONE), READ),
        ({"token_digests": (ONE, TWO)}, TokenHolder(TWO), READ),
        ({"token_digests": (ONE, ONE)}, TokenHolder(ONE), READ),
        ({"token_digests": (ONE,)}, TokenHolder(TWO), NONE),
        ({"token_digests": (ONE,), "permission": "Publish"}, TokenHolder(ONE), WRITE),
        ({"service_accounts": ACCOUNT}, trainer(), READ),
        ({"service_accounts": ACCOUNT}, trainer(namespace="ml2"), NONE),
        ({"service_accounts": ACCOUNT}, trainer(name="trainer2"), NONE),
        ({"service_accounts": ACCOUNT}, trainer(name="*"), NONE),
        ({"service_accounts": EVERY_ACCOUNT}, trainer(name="any"), READ),
        ({"service_accounts": EVERY_ACCOUNT}, trainer(name="*"), READ),
        ({"service_accounts": EVERY_ACCOUNT}, trainer(namespace="default"), NONE),
        ({"service_accounts": (*ACCOUNT, *EVERY_ACCOUNT)}, trainer(), READ),
        ({"service_accounts": ACCOUNT}, trainer(expires=NOW), NONE),
        ({"service_accounts": ACCOUNT}, trainer(expires=NOW + 1), READ),
        ({"service_accounts": ACCOUNT}, TokenHolder(ONE), NONE),
        ({"service_accounts": ACCOUNT}, ProxyUser("system:serviceaccount:ml:trainer", ("ml",)), NONE),
        ({"proxy_groups": ("devs", "ops")}, ProxyUser("eve", ("x", "ops", "devs")), READ),
        ({"proxy_groups": ("devs",)}, ProxyUser("devs", ()), NONE),
        ({"proxy_groups": ("devs",)}, ProxyUser("eve", ("Devs",)), NONE),
        ({"oidc": Oidc(issuer="corp", claims={"sub": "a"})}, Claims("corp", {"sub": "a"}, NOW + 1), READ),
        ({"oidc": Oidc(issuer="corp", claims={"sub": "a"})}, Claims("corp", {"sub": "a"}, NOW), NONE),
        ({"oidc": Oidc(issuer="corp", claims={"sub": "a"})}, Claims("corp", {"sub": "b"}, NOW + 1), NONE),
        ({"token_digests": (ONE,), "expires": at(NOW)}, TokenHolder(ONE), NONE),
        ({"token_digests": (ONE,), "expires": at(NOW + 1)}, TokenHolder(ONE), READ),
    ],
)
def test_one_entry(fields, identity, permission):
    assert decide(compile_entries(REPO, [entry(**fields)]), identity, NOW).permission is permission


def test_several_entries_add_up():
    entries = [
        entry("all", token_digests=(ONE,)),
        entry("ours", "Publish", token_digests=(ONE, TWO), projects=("acme-*",), expires=at(NOW + 50)),
        entry("one", "Publish", token_digests=(ONE,), projects=("tool",), expires=at(NOW + 90)),
        entry("other", "Publish", token_digests=(TWO,)),
        entry("ended", "Publish", token_digests=(ONE,), expires=at(NOW - 1)),
    ]
    grant = decide(compile_entries(REPO, entries), TokenHolder(ONE), NOW)
    assert (grant.permission, grant.entry, grant.until) == (WRITE, "all,ours,one", NOW + 50)
    assert grant.subject == "token:111111111111"
    assert grant.read.everything
    assert allowed(grant.publish, "acme-x", "tool", "toolbox", "other") == ["acme-x", "tool"]
    assert grant.keys == tuple(entry_key(one) for one in entries[:3])


def allowed(projects, *names: str) -> list[str]:
    return [name for name in names if projects.allows(ProjectName(name))]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("*",), ["acme", "acme-tool", "acme-x-tool", "tool"]),
        (("acme-*",), ["acme-tool", "acme-x-tool"]),
        (("Acme_*",), ["acme-tool", "acme-x-tool"]),
        (("ACME.Tool",), ["acme-tool"]),
        (("*-tool",), ["acme-tool", "acme-x-tool"]),
        (("acme*tool",), ["acme-tool", "acme-x-tool"]),
        (("acme-?ool", "acme-[t]ool"), []),
        (("acme", "tool"), ["acme", "tool"]),
    ],
)
def test_projects(patterns, names):
    grant = decide(compile_entries(REPO, [entry(token_digests=(ONE,), projects=patterns)]), TokenHolder(ONE), NOW)
    everything = [ProjectName(name) for name in ("acme", "acme-tool", "acme-x-tool", "tool")]
    assert [name for name in everything if grant.read.allows(name)] == names
    assert list(grant.read.of(everything)) == names
    assert grant.read.everything is (patterns == ("*",))
    assert not allowed(grant.publish, *everything)


def test_equal_filters_are_one_key_of_a_cache():
    first, second = (
        decide(compile_entries(REPO, [entry(token_digests=(ONE,), projects=projects)]), TokenHolder(ONE), NOW).read
        for projects in (("a-*", "b"), ("B", "a_*"))
    )
    assert {first: 1}[second] == 1
    assert first | second == first
    both = [entry(token_digests=(ONE,), projects=("a-*", "b")), entry("two", token_digests=(ONE,), projects=("B",))]
    assert decide(compile_entries(REPO, both), TokenHolder(ONE), NOW).read == first
    assert first not in {NO_PROJECTS, ALL_PROJECTS, RepoProjects([["a-*"]]).of([0])}
    assert first != RepoProjects([["a-*"]]).of([0])


def test_a_minted_token_ends_with_the_entry_that_it_was_minted_by():
    mine, changed = entry("a", "Publish", token_digests=(ONE,)), entry("a", "Publish", token_digests=(ONE, TWO))
    minted = Minted("jti", {REPO: (entry_key(mine),)}, "github:x", NOW + 10)
    assert decide(compile_entries(REPO, [mine]), minted, NOW).permission is WRITE
    assert decide(compile_entries(REPO, [changed]), minted, NOW).permission is NONE
    assert decide(compile_entries(REPO, []), minted, NOW).permission is NONE
    assert decide(compile_entries(RepoName("team-b"), [mine]), minted, NOW).permission is NONE
    assert decide(compile_entries(REPO, [mine]), minted, NOW + 10).permission is NONE


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "b"},
        {"permission": "Publish"},
        {"projects": ("a",)},
        {"expires": at(NOW)},
        {"token_digests": (TWO,)},
        {"token_digests": (), "proxy_groups": ("devs",)},
    ],
)
def test_the_key_changes_with_the_entry(changed):
    one = entry("a", token_digests=(ONE,))
    assert entry_key(one) == entry_key(entry("a", token_digests=(ONE,)))
    assert entry_key(msgspec.structs.replace(one, **changed)) != entry_key(one)


def test_only_entries_with_one_of_the_keys_count():
    entries = [entry("a", token_digests=(ONE,)), entry("b", "Publish", token_digests=(ONE,))]
    compiled = compile_entries(REPO, entries)
    grant = decide(compiled, TokenHolder(ONE), NOW, {digest_of_key(entry_key(entries[0]))})
    assert (grant.permission, grant.entry) == (READ, "a")
    assert decide(compiled, TokenHolder(ONE), NOW, ()).permission is NONE


SUBJECTS = st.sampled_from(
    [
        {"token_digests": (ONE,)},
        {"token_digests": (ONE, TWO)},
        {"token_digests": (THREE,)},
        {"service_accounts": ACCOUNT},
        {"service_accounts": EVERY_ACCOUNT},
        {"proxy_groups": ("devs",)},
        {"oidc": Oidc(issuer="corp", claims={"sub": "a*"})},
        {"oidc": Oidc(issuer="corp", claims={"sub": "a*", "n": 1})},
        {"github": Github(repository="acme/tool", workflow="r.yml", owner_id=1)},
    ]
)
PROJECTS = st.lists(
    st.sampled_from(["*", "acme-*", "acme-tool", "*-tool", "a*l", "tool", "X_y"]), min_size=1, max_size=3
)
ENTRIES = st.lists(
    st.builds(
        lambda permission, subject, projects, expires: (permission, subject, tuple(projects), expires),
        st.sampled_from(["Read", "Publish"]),
        SUBJECTS,
        PROJECTS,
        st.sampled_from([None, at(NOW - 1), at(NOW), at(NOW + 1)]),
    ),
    max_size=6,
).map(
    lambda rows: [
        entry(f"e{number}", permission, projects=projects, expires=expires, **subject)
        for number, (permission, subject, projects, expires) in enumerate(rows)
    ]
)
IDENTITIES = st.sampled_from(
    [
        TokenHolder(ONE),
        TokenHolder(TWO),
        trainer(),
        trainer(name="other", expires=NOW + 1),
        ProxyUser("eve", ("devs", "ops")),
        Claims("corp", {"sub": "abc", "n": 1}, NOW + 1),
        Claims("corp", {"sub": "abc"}, NOW + 1),
        Claims(
            "github",
            {
                "repository": "acme/tool",
                "repository_owner_id": "1",
                "job_workflow_ref": "acme/tool/.github/workflows/r.yml@refs/heads/main",
            },
            NOW + 1,
        ),
    ]
)
NAMES = ("acme-tool", "acme-x", "acme", "tool", "x-y", "other")


def power(entries, identity) -> dict[str, tuple[bool, bool]]:
    """Return what the identity may do with each project: see it, publish to it."""
    grant = decide(compile_entries(REPO, entries), identity, NOW)
    found = {name: (grant.read.allows(ProjectName(name)), grant.publish.allows(ProjectName(name))) for name in NAMES}
    assert (grant.permission is WRITE) >= any(publishes for _, publishes in found.values())
    if grant.permission is NONE:
        assert not any(any(may) for may in found.values())
    assert all(sees for sees, publishes in found.values() if publishes)  # Publish includes Read
    return found


@given(ENTRIES, ENTRIES, IDENTITIES)
def test_adding_an_entry_never_takes_anything_away(entries, more, identity):
    more = [msgspec.structs.replace(one, name=f"more-{one.name}") for one in more]
    before, after = power(entries, identity), power([*entries, *more], identity)
    added = power(more, identity)
    for name in NAMES:
        # Exactly the sum: nothing is lost, and nothing comes from entries that happen to stand together.
        assert after[name] == tuple(a or b for a, b in zip(before[name], added[name], strict=True))


@given(ENTRIES, IDENTITIES, st.randoms(use_true_random=False))
def test_the_order_never_matters(entries, identity, chance: random.Random):
    shuffled = chance.sample(entries, len(entries))
    assert power(shuffled, identity) == power(entries, identity)


@given(ENTRIES, IDENTITIES)
def test_what_is_removed_grants_nothing_more(entries, identity):
    found = matching(compile_entries(REPO, entries), identity, NOW)
    rest = [one for one in entries if one not in [each.entry for each in found]]
    assert decide(compile_entries(REPO, rest), identity, NOW).permission is NONE


@given(ENTRIES, IDENTITIES)
def test_nothing_is_granted_from_the_moment_on_that_the_grant_names(entries, identity):
    compiled = compile_entries(REPO, entries)
    grant = decide(compiled, identity, NOW)
    if grant.until is not None:
        assert grant.until > NOW
        later = decide(compiled, identity, grant.until)
        assert later.keys != grant.keys


def test_entries_about_one_digest_in_two_repos_do_not_mix():
    first = compile_entries(REPO, [entry(token_digests=(ONE,))])
    second = compile_entries(RepoName("team-b"), [entry(token_digests=(TWO,))])
    assert decide(first, TokenHolder(TWO), NOW).permission is NONE
    assert decide(second, TokenHolder(ONE), NOW).permission is NONE


def test_sets_of_projects_add_up():
    repo, other = RepoProjects([["a-*"], ["b"], ["c"]]), RepoProjects([["d"]])
    names = ["a-x", "b", "c", "d"]
    assert allowed(repo.of([0]) | repo.of([1]), *names) == ["a-x", "b"]
    assert repo.of([0]) | repo.of([1]) == repo.of([0, 1])
    assert allowed(repo.of([2]) | other.of([0]), *names) == ["c", "d"]
    assert (repo.of([0]) | ALL_PROJECTS).everything
    assert repo.of([0]) | NO_PROJECTS == repo.of([0])


def test_equal_entries_are_compiled_once():
    before = compile_entries(REPO, [entry(token_digests=(ONE,))])
    assert compile_entries(REPO, [entry(token_digests=(ONE,))], before) is before
    assert compile_entries(REPO, [entry(token_digests=(TWO,))], before) is not before
    assert compile_entries(RepoName("team-b"), [entry(token_digests=(ONE,))], before).repo == "team-b"
    assert compile_entries(REPO, [], before) == compile_entries(REPO, [])


def test_who_was_named_is_told_from_who_never_was():
    compiled = compile_entries(REPO, [entry(token_digests=(ONE,), expires=at(NOW))])
    assert [decide(compiled, TokenHolder(one), NOW).has_ended for one in (ONE, TWO)] == [True, False]
    assert not decide(compiled, TokenHolder(ONE), NOW - 1).has_ended


def hostile(count: int) -> list[AccessEntry]:
    """Return `count` entries that have the most patterns of all, long and of many lengths."""
    projects = [tuple(f"{'p' * (1 + n % 180)}{n}-{k}*" for n in range(1000 // 64)) for k in range(count)]
    return [entry(f"e{k}", token_digests=(ONE,), projects=one) for k, one in enumerate(projects)]


def test_patterns_are_compiled_before_the_first_request(monkeypatch):
    compiled = compile_entries(REPO, hostile(64))
    monkeypatch.setattr(projects, "NamePatterns", None)
    monkeypatch.setattr(projects, "normalized_pattern", None)
    grant = decide(compiled, TokenHolder(ONE), NOW)
    assert allowed(grant.read, "p0-0-a", "p0-a", "pp1-63") == ["p0-0-a", "pp1-63"]


def test_a_name_is_compared_with_all_entries_in_one_step():
    """The work for a name grows with the lengths of the patterns, of which there are few, not with the entries."""
    few, many = (decide(compile_entries(REPO, hostile(count)), TokenHolder(ONE), NOW).read for count in (1, 64))
    name = ProjectName("p" * 180)
    assert calls(lambda: many.allows(name)) <= 4 * calls(lambda: few.allows(name))
