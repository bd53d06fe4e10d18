"""Check which secrets are found weak, and that no finding tells a secret, to its owner or to anybody else."""

import random
import string

import pytest

from pywharf.core.access.secret_strength import RepoSecrets, Weakness, weak_secrets

GOOD = "Zx8-mQ2vKp0rLw7_Tn4e"
OTHER = "c41f9a7be03d5862aa0719fe"


def repo(name="team-a", *, read=None, write=None, namespace="ml"):
    return RepoSecrets(namespace=namespace, name=name, read=read, write=write)


def found(*repos):
    return [(finding.name, finding.weakness.value, finding.which) for finding in weak_secrets(repos)]


@pytest.mark.parametrize(
    ("secret", "weakness"),
    [
        (GOOD, None),
        (OTHER, None),
        ("correct horse battery staple", None),
        ("1f3870be274f6c49", None),
        ("pywharf_" + "k3J9x0QmB7vTz2LwRf5a", None),
        ("k3J9x0QmB7vTz2L", "Short"),
        ("foo", "Short"),
        (" " * 16, "Easy"),
        ("a" * 64, "Easy"),
        ("0123456789abcdef", "Easy"),
        ("1234567890123456789", "Easy"),
        ("abcdefghijklmnopqrstuvwxyz", "Easy"),
        ("passwordpassword", "Easy"),
        ("PasswordPassword1", "Easy"),
        ("password12345678", "Easy"),
        ("team-a-write-secret", "Easy"),
        ("changemechangeme!", "Easy"),
        ("abababababababab", "Easy"),
        ("xyzxyzxyzxyzxyzxyzxyz", "Easy"),
    ],
)
def test_short_and_easy_secrets(secret, weakness):
    expected = [] if weakness is None else [("team-a", weakness, "read")]
    assert found(repo(read=secret)) == expected


@pytest.mark.parametrize("alphabet", ["0123456789abcdef", string.ascii_letters + string.digits])
def test_random_secrets_of_the_shortest_length_are_no_finding(alphabet):
    dice = random.Random(5)
    secrets = ["".join(dice.choices(alphabet, k=16)) for _ in range(3000)]
    weak = [secret for secret in secrets if found(repo(write=secret))]
    assert len(weak) <= 5, weak


def test_no_secret_is_no_finding():
    assert found(repo(), repo("team-b", read="", write="")) == []


def test_a_read_secret_that_writes():
    assert found(repo(read=GOOD, write=GOOD)) == [("team-a", "SameForBoth", "read and write")]
    assert found(repo(read="foo", write="foo")) == [
        ("team-a", "SameForBoth", "read and write"),
        ("team-a", "Short", "read and write"),
    ]


def test_a_secret_of_two_repos():
    repos = [repo("a", read=GOOD, write=OTHER), repo("b", write=GOOD), repo("c", read="1f3870be274f6c49")]
    findings = weak_secrets(repos)
    told = [(finding.name, finding.weakness, finding.which, finding.others) for finding in findings]
    assert told == [("a", Weakness.SHARED, "read", ("b",)), ("b", Weakness.SHARED, "write", ("a",))]


def test_a_guess_at_another_namespace_s_secret_is_not_answered():
    assert found(repo("a", read=GOOD, namespace="ml"), repo("b", read=GOOD, namespace="evil")) == []


def test_no_finding_tells_a_secret():
    repos = [repo(f"r{n}", read="hunter2", write="hunter2") for n in range(20)] + [repo("x", write="a" * 64)]
    for finding in weak_secrets(repos):
        assert "hunter2" not in f"{finding} {finding.message}"
        assert "aaaa" not in f"{finding} {finding.message}"
        assert len(finding.message) < 200
    assert "hunter2" not in repr(repos)


def test_the_worst_comes_first():
    [first, *_] = weak_secrets([repo("a", read="foo"), repo("b", read="foo", write="foo")])[1:]
    assert (first.name, first.weakness) == ("a", Weakness.SHARED)
    assert [finding.weakness for finding in weak_secrets([repo(read="foo", write="foo"), repo("b", read="foo")])][
        :3
    ] == [Weakness.SAME_FOR_BOTH, Weakness.SHORT, Weakness.SHARED]


def test_long_secrets_cost_little():
    assert found(repo(read="ab" * 500_000)) == [("team-a", "Easy", "read")]
