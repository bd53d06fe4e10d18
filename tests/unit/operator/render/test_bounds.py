"""Limits on what a namespace may use of a server. Past them, only the namespace's own newest repos are refused."""

import base64
import functools
import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import FileSystemSpec, Upstream
from pywharf.core.names import RepoName
from pywharf_operator.local.folder import default_server
from pywharf_operator.render import Environment, NameClaim, Snapshot, render_server, resolve
from pywharf_operator.render.objects.credentials import MAX_SHARDS, shard_of
from pywharf_operator.render.resolve.fitting import (
    MAX_TEXT_BYTES,
    Candidate,
    at_most_bytes,
    kept_candidate,
    table_bytes,
    without_room,
)
from pywharf_operator.render.resolve.kept import KeptRepo
from pywharf_operator.render.resolve.object_sizes import MAX_BYTES, size_of
from pywharf_operator.render.resolve.secret_refs import RepoSecrets
from pywharf_operator.render.resolve.shares import Share, excess, past, round_robin
from pywharf_operator.spec import API_VERSION, CREDENTIALS_LABEL, ObjectKey, ObjectMeta, PackageRepo, Secret
from pywharf_operator.spec.limits import Limits
from pywharf_operator.spec.package_repo import Index
from pywharf_operator.spec.package_server import AllowedNamespaces, ServerUpstream

ENVIRONMENT = Environment(specs=spec_types(), session_key=b"k")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@functools.cache
def noise(count, seed=0, length=200):
    """Generate texts of letters and digits that do not compress."""
    text = base64.b64encode(random.Random(seed).randbytes(count * length), altchars=b"ab").decode()
    return tuple(text[start : start + length] for start in range(0, count * length, length))


def server(limits=None, **spec):
    made = default_server("pywharf")
    changed = msgspec.structs.replace(
        made.spec, allowed_namespaces=AllowedNamespaces(from_="All"), limits=limits or Limits(), **spec
    )
    return msgspec.structs.replace(made, spec=changed)


def repo(namespace, name, *, number=0, reserved=(), secret=None, **index):
    """Build a PackageRepo; `number` is the minute of its creation."""
    open_to_all = {"anonymousRead": True, "readOnly": True}
    with_secret = {f"{use}SecretRef": {"name": secret, "key": use} for use in ("read", "write")}
    return msgspec.convert(
        {
            "apiVersion": API_VERSION,
            "kind": "PackageRepo",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "creationTimestamp": (BEGIN + timedelta(minutes=number)).isoformat(),
            },
            "spec": {
                "serverRef": {"name": "pywharf", "namespace": "pywharf"},
                "repoName": f"{namespace}-{name}",
                "backend": {"fileSystem": {}},
                "credentials": open_to_all if secret is None else with_secret,
                "index": index,
                "upstream": {"reserved": list(reserved)},
            },
        },
        PackageRepo,
    )


def secret(namespace, name, size):
    return Secret(
        api_version="v1",
        kind="Secret",
        metadata=ObjectMeta(name=name, namespace=namespace, labels={CREDENTIALS_LABEL: "true"}),
        string_data={"read": "r" * size, "write": "w" * size},
    )


def resolved(repos, made=None, secrets=(), claims=()):
    snapshot = Snapshot(repos=tuple(repos), servers=(made or server(),), secrets=tuple(secrets), claims=tuple(claims))
    found = resolve(snapshot, ENVIRONMENT)
    rendered = render_server(found.servers[0], ENVIRONMENT)
    assert rendered.config_rendered.status is True
    assert all(size_of(one) <= MAX_BYTES for one in (*rendered.credentials, rendered.config_map))
    return found, rendered


def refused(found):
    return {str(one.repo.key): one.accepted.reason for one in found.repos if not one.accepted.status}


def test_the_defaults():
    assert msgspec.structs.astuple(Limits()) == (1000, 16_384, 300)


# The size of a repo's table.


@pytest.mark.parametrize(("count", "reason"), [(0, None), (70, None), (90, "TableTooLarge"), (256, "TableTooLarge")])
def test_a_table_that_is_too_large_is_refused_alone(count, reason):
    found, rendered = resolved([repo("a", "good"), repo("a", "large", reserved=noise(count))])
    assert refused(found) == ({} if reason is None else {"a/large": reason})
    assert "a-good" in str(rendered.config_map)
    if reason is not None:
        message = next(one.accepted.message for one in found.repos if not one.accepted.status)
        own = resolved([repo("a", "large", reserved=noise(count))], server(Limits(repo_table_bytes=262_144)))[0]
        assert f"takes {table_bytes(RepoName('a-large'), own.repos[0].spec)} bytes" in message
        assert "takes 16384 of one repo; shorten spec.upstream.sources, spec.upstream.reserved" in message


def test_what_the_server_itself_adds_does_not_count():
    made = server(upstream=ServerUpstream(url="https://mirror.example/simple/", reserved=tuple(noise(256))))
    assert refused(resolved([repo("a", "one", reserved=noise(10, 1))], made)[0]) == {}
    assert refused(resolved([repo("a", "one", reserved=noise(90, 1))], made)[0]) == {"a/one": "TableTooLarge"}


def test_the_limit_is_the_server_s():
    one = repo("a", "one", reserved=noise(20))
    assert refused(resolved([one], server(Limits(repo_table_bytes=2048)))[0]) == {"a/one": "TableTooLarge"}
    assert refused(resolved([repo("a", "one", reserved=noise(200))], server(Limits(repo_table_bytes=65_536)))[0]) == {}


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = RepoName("a.b")
PATTERNS = st.lists(st.from_regex(r"[a-zA-Z0-9*]{1,12}", fullmatch=True), max_size=5)


@settings(deadline=None)
@given(PATTERNS, PATTERNS, TEXTS)
def test_the_quick_bound_is_one(reserved, shadowing, owner):
    spec = FileSystemSpec(owner=owner, upstream=Upstream(reserved=tuple(reserved), allow_shadowing=tuple(shadowing)))
    assert table_bytes(NAME, spec) <= at_most_bytes(NAME, spec) < 2 * table_bytes(NAME, spec) + 200


# The number of repos in a namespace.


def test_the_newest_repos_past_the_number_are_refused():
    repos = [repo("a", f"r{9 - number}", number=number) for number in range(5)] + [repo("b", "x", number=9)]
    found, rendered = resolved(repos, server(Limits(repos_per_namespace=3)))
    assert refused(found) == {"a/r6": "TooManyRepos", "a/r5": "TooManyRepos"}
    assert rendered.config_rendered.reason == "ReposRefused"
    assert "2 repos are refused, because their namespaces take too much: 2 of a; everybody" in (
        rendered.config_rendered.message
    )
    message = next(one.accepted.message for one in found.repos if not one.accepted.status)
    assert message.startswith("PackageServer pywharf/pywharf takes 3 repos of one namespace, and a has more")


def test_repos_past_the_number_hold_no_name():
    squatting = [repo("a", f"s{number}", number=number) for number in range(3)]
    squatting = [
        msgspec.structs.replace(one, spec=_named(one, f"name-{number}")) for number, one in enumerate(squatting)
    ]
    late = repo("b", "late", number=9)
    late = msgspec.structs.replace(late, spec=_named(late, "name-2"))
    assert refused(resolved([*squatting, late], server(Limits(repos_per_namespace=2)))[0]) == {"a/s2": "TooManyRepos"}
    assert refused(resolved([*squatting, late])[0]) == {"b/late": "NameConflict"}


def _named(one, name):
    return msgspec.structs.replace(one.spec, repo_name=name)


def test_repos_that_cannot_be_read_count():
    unreadable = NameClaim(ObjectKey("pywharf", "pywharf"), "old", ObjectKey("a", "old"), BEGIN - timedelta(days=1))
    repos = [repo("a", f"r{number}", number=number) for number in range(2)]
    made = server(Limits(repos_per_namespace=2))
    assert refused(resolved(repos, made, claims=[unreadable])[0]) == {"a/r1": "TooManyRepos"}


def test_repos_of_another_server_do_not_count():
    elsewhere = repo("a", "elsewhere")
    ref = msgspec.structs.replace(elsewhere.spec.server_ref, name="other")
    elsewhere = msgspec.structs.replace(elsewhere, spec=msgspec.structs.replace(elsewhere.spec, server_ref=ref))
    made = server(Limits(repos_per_namespace=1))
    assert refused(resolved([elsewhere, repo("a", "here", number=1)], made)[0]) == {
        "a/elsewhere": "NamespaceNotAllowed"
    }


# The room for all repos together.


def victims():
    return [repo(f"v{number}", "team", number=1000 + number) for number in range(20)]


def test_the_configuration_fits_whatever_a_tenant_adds():
    """Found earlier: 14 repos with 256 long patterns each froze everybody's configuration."""
    hostile = [repo("tenant", f"m{number}", number=number, reserved=noise(75, number)) for number in range(120)]
    found, rendered = resolved([*hostile, *victims()])
    out = refused(found)
    assert set(out.values()) == {"ServerFull"}
    assert {key.partition("/")[0] for key in out} == {"tenant"}
    kept = 120 - len(out)
    assert set(out) == {f"tenant/m{number}" for number in range(kept, 120)}, "the newest"
    assert size_of(rendered.config_map) > 0.85 * MAX_BYTES, "no more than needed"
    assert rendered.config_rendered.reason == "ReposRefused"
    message = next(one.accepted.message for one in found.repos if not one.accepted.status)
    assert "the configuration of PackageServer pywharf/pywharf holds 4194304 bytes, and 1048576 once" in message
    assert "victim" not in message
    assert len(message) < 1000


def test_text_that_compresses_well_is_bounded_too():
    """Each replica parses the whole uncompressed text."""
    reserved = [f"{'a' * 150}-{number}" for number in range(95)]
    repos = [repo("tenant", f"m{number}", number=number, reserved=reserved) for number in range(400)]
    found, _ = resolved([*repos, *victims()])
    out = refused(found)
    assert {key.partition("/")[0] for key in out} == {"tenant"}
    one = table_bytes(RepoName("tenant-m0"), found.servers[0].repos[0].spec)
    assert MAX_TEXT_BYTES * 0.9 < (400 - len(out)) * one < MAX_TEXT_BYTES


def test_the_credentials_fit_whatever_a_tenant_adds():
    size = 16 * 1024
    hostile = [repo("tenant", f"m{number}", number=number, secret="s") for number in range(300)]
    own = [repo(f"v{number}", "team", number=1000 + number, secret="s") for number in range(20)]
    secrets = [secret("tenant", "s", size), *(secret(f"v{number}", "s", 100) for number in range(20))]
    found, rendered = resolved([*hostile, *own], secrets=secrets)
    out = refused(found)
    assert out
    assert set(out.values()) == {"ServerFull"}
    assert {key.partition("/")[0] for key in out} == {"tenant"}
    assert len(rendered.credentials) == 8
    assert min(map(size_of, rendered.credentials)) > 0.6 * MAX_BYTES
    message = next(one.accepted.message for one in found.repos if not one.accepted.status)
    assert f"no room for the {2 * size} bytes of this repo's secrets" in message
    assert "rrrr" not in message


def test_nothing_depends_on_the_order():
    hostile = [repo("tenant", f"m{number}", number=number % 7, reserved=noise(75, number)) for number in range(100)]
    everybody = [*hostile, *victims()]
    random.Random(3).shuffle(everybody)
    first, again = resolved(everybody)[0], resolved(everybody[::-1])[0]
    assert refused(first) == refused(again)
    assert first.servers[0].refused == {"tenant": len(refused(first))}


def test_the_same_without_the_refused_refuses_nobody():
    hostile = [repo("tenant", f"m{number}", number=number, reserved=noise(75, number)) for number in range(100)]
    found = resolved([*hostile, *victims()])[0]
    out = refused(found)
    assert out
    left = [one for one in (*hostile, *victims()) if str(one.key) not in out]
    assert refused(resolved(left)[0]) == {}


SHARES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 40), st.integers(0, 5), st.integers(1, 100)),
    max_size=25,
    unique_by=lambda row: row[:2],
)


def shares(rows):
    keys = [ObjectKey(namespace, f"r{number}") for namespace, number, _, _ in rows]
    return [Share(key, (float(row[2]), key), row[3]) for key, row in zip(keys, rows, strict=True)]


def totals(found):
    made: Counter[str] = Counter()
    for share in found:
        made[share.repo.namespace] += share.size
    return made


@settings(deadline=None)
@given(SHARES, st.integers(0, 1500))
def test_who_gives_way(rows, budget):
    everybody = shares(rows)
    out = excess(everybody, budget)
    kept = [share for share in everybody if share.repo not in out]
    assert sum(share.size for share in kept) <= budget or not kept
    assert excess(reversed(everybody), budget) == out
    assert excess(kept, budget) == frozenset()
    of_kept = totals(kept)
    for namespace in {repo.namespace for repo in out}:
        own = sorted((share for share in everybody if share.repo.namespace == namespace), key=lambda one: one.age)
        gone = [share for share in own if share.repo in out]
        assert own[len(own) - len(gone) :] == gone, "the newest go"
        # Before its last repo was refused, the namespace took at least as much as any namespace with repos left takes.
        then = of_kept[namespace] + gone[0].size
        assert all(then >= size for size in of_kept.values())


@settings(deadline=None)
@given(SHARES, st.integers(0, 1500), st.integers(0, 40), st.integers(1, 100))
def test_a_repo_more_takes_room_only_from_those_who_take_the_most(rows, budget, number, size):
    before = shares([row for row in rows if row[:2] != ("a", number)])
    key = ObjectKey("a", f"r{number}")
    more = Share(key, (9.0, key), size)
    newly = excess([*before, more], budget) - excess(before, budget)
    kept = totals(share for share in before if share.repo not in excess(before, budget))
    for repo_key in newly - {key}:
        assert repo_key.namespace == "a" or kept[repo_key.namespace] >= max(
            taken
            for namespace, taken in totals(
                share for share in (*before, more) if share.repo not in excess([*before, more], budget)
            ).items()
        )


@settings(deadline=None)
@given(SHARES, st.integers(0, 1500), st.sets(st.integers(0, 24)))
def test_fixed_shares_stay_and_count(rows, budget, fixed):
    """Shares of unreadable repos are fixed: they take their room, and only other repos give way."""
    everybody = [msgspec.structs.replace(share, fixed=number in fixed) for number, share in enumerate(shares(rows))]
    out = excess(everybody, budget)
    assert not out & {share.repo for share in everybody if share.fixed}
    kept = [share for share in everybody if share.repo not in out]
    assert sum(share.size for share in kept) <= budget or all(share.fixed for share in kept)
    assert excess(reversed(everybody), budget) == out
    assert excess(kept, budget) == frozenset()


def test_fixed_shares_make_their_namespace_the_one_that_takes_the_most():
    def share(namespace, number, size, *, fixed=False):
        key = ObjectKey(namespace, f"r{number}")
        return Share(key, (float(number), key), size, fixed)

    kept, own, others = share("a", 1, 60, fixed=True), share("a", 2, 10), [share("b", 1, 20), share("b", 2, 20)]
    assert excess([kept, own, *others], 110) == frozenset()
    # The readable repo of the namespace goes first, although b has more such repos. Unreadable repos never go.
    assert excess([kept, own, *others], 100) == {own.repo}
    assert excess([kept, own, *others], 80) == {own.repo, others[1].repo}
    assert excess([kept, own, *others], 10) == {own.repo, *(one.repo for one in others)}
    assert excess([kept], 10) == frozenset()


def test_past_the_oldest():
    ages = [(float(number), ObjectKey(namespace, f"r{number}")) for namespace in "ab" for number in range(3)]
    assert past(reversed(ages), 2) == {ObjectKey("a", "r2"), ObjectKey("b", "r2")}
    assert past(ages, 3) == frozenset()


def test_round_robin():
    items = ["a1", "a2", "a3", "b1", "c1", "c2"]
    assert round_robin(items, lambda item: item[0]) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert all(sorted(round_robin(order, lambda item: item[0])) == items for order in itertools.permutations(items, 6))


# How often an index may be updated.


@pytest.mark.parametrize(
    ("schedule", "limit", "taken"),
    [
        (None, 3600, True),
        ("*/5 * * * *", 300, True),
        ("*/4 * * * *", 300, False),
        ("* * * * *", 60, True),
        ("0,59 0,23 * * *", 300, False),
        ("0 0 * * *", 3600, True),
    ],
)
def test_schedules(schedule, limit, taken):
    made = server(Limits(min_schedule_interval_seconds=limit))
    found = resolved([repo("a", "one", **({} if schedule is None else {"schedule": schedule}))], made)[0]
    assert refused(found) == ({} if taken else {"a/one": "ScheduleTooFrequent"})


def test_the_message_of_a_schedule():
    (verdict,) = resolved([repo("a", "one", schedule="* * * * *")])[0].repos
    assert verdict.accepted.message == (
        "spec.index.schedule is '* * * * *', which comes again after 60 seconds, and PackageServer pywharf/pywharf "
        "takes 300 and more; choose a rarer one (uploads are visible without it), or have "
        "spec.limits.minScheduleIntervalSeconds lowered."
    )
    assert Index().schedule is None


# Unreadable repos stay as they were applied.


def kept_repo(namespace, name, *, reserved=(), secrets=None):
    table = {"type": "file_system", "upstream": {"reserved": list(reserved)}}
    return KeptRepo(
        server=ObjectKey("pywharf", "pywharf"),
        repo=ObjectKey(namespace, name),
        name=RepoName(f"{namespace}-{name}"),
        table=table,
        admin_table=None,
        secrets=secrets or RepoSecrets(),
    )


def candidate(namespace, name, *, number=0, reserved=(), secrets=None):
    key = ObjectKey(namespace, name)
    return Candidate(
        repo=key,
        name=RepoName(f"{namespace}-{name}"),
        age=(float(number), key),
        spec={"type": "file_system", "upstream": {"reserved": list(reserved)}},
        secrets=secrets or RepoSecrets(),
    )


def test_a_kept_candidate_is_fixed_and_the_oldest():
    one = kept_repo("a", "old", reserved=["x"], secrets=RepoSecrets(read=b"s3cr3t"))
    made = kept_candidate(one)
    assert made.fixed
    assert (made.repo, made.name, made.spec, made.secrets) == (one.repo, one.name, one.table, one.secrets)
    assert made.age < candidate("a", "new", number=-1_000_000).age
    assert "s3cr3t" not in repr(made)
    assert not candidate("a", "new").fixed


@pytest.mark.parametrize(
    ("of_kept", "of_readable"),
    [
        (noise(4000), [noise(300, seed) for seed in range(1, 13)]),
        (["x" * 200] * 12_000, [["x" * 200] * 1000] * 12),
    ],
    ids=["once compressed", "before it is compressed"],
)
def test_kept_tables_stay_where_the_configuration_is_full(of_kept, of_readable):
    """The kept tables alone fit. With the readable repos of their namespace, the newest of those are refused."""
    kept = [kept_candidate(kept_repo("a", f"kept-{n}", reserved=of_kept[n::4])) for n in range(4)]
    readable = [candidate("a", f"r{n}", number=n, reserved=own) for n, own in enumerate(of_readable)]
    others = [candidate("b", f"r{n}", number=100 + n, reserved=["y"]) for n in range(3)]
    assert without_room(server(), [*others, *kept], "/credentials") == {}
    found = without_room(server(), [*others, *readable, *kept], "/credentials")
    assert 0 < len(found) < len(readable)
    assert found == {one.repo: {"configuration"} for one in readable[-len(found) :]}


def test_kept_credentials_stay_where_their_shard_is_full():
    secrets = RepoSecrets(read=b"r" * 60_000, write=b"w" * 60_000)
    names = [f"r{n}" for n in range(400) if shard_of(RepoName(f"a-r{n}"), MAX_SHARDS) == 0]
    kept = [kept_candidate(kept_repo("a", name, secrets=secrets)) for name in names[:6]]
    readable = [candidate("a", name, number=n, secrets=secrets) for n, name in enumerate(names[6:12])]
    assert without_room(server(), kept, "/credentials") == {}
    found = without_room(server(), [*readable, *kept], "/credentials")
    assert 0 < len(found) < len(readable)
    assert found == {one.repo: {"credentials"} for one in readable[-len(found) :]}
