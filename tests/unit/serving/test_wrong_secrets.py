"""Check how wrong secrets are counted: by address and repo, in fixed memory that forked processes share."""

import os
import signal

import pytest

from pywharf.serving.wrong_secrets import WrongSecrets

ADDRESS = "192.0.2.1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wrong(clock):
    return WrongSecrets(clock)


def send(wrong, count, address=ADDRESS, repo="demo"):
    """Return the waits of so many wrong secrets."""
    return [wrong.note(address, repo) for _ in range(count)]


def test_the_first_sixty_are_free_and_then_each_waits(wrong):
    assert send(wrong, 60) == [0] * 60
    assert send(wrong, 3) == [1, 2, 3]
    assert send(wrong, 1000)[-1] == 10


def test_a_pause_ends_it(wrong, clock):
    send(wrong, 500)
    clock.now += 9.99
    assert send(wrong, 1) == [pytest.approx(1.01)]
    clock.now += 31
    assert send(wrong, 31) == [0] * 29 + [pytest.approx(n, abs=0.02) for n in (0.01, 1.01)]
    clock.now += 3600
    assert send(wrong, 61)[-2:] == [0, 1]


def test_a_steady_client_below_the_rate_is_never_braked(wrong, clock):
    for _ in range(200):
        assert send(wrong, 1) == [0]
        clock.now += 1


@pytest.mark.parametrize(
    ("address", "repo", "is_one"),
    [
        (ADDRESS, "demo", True),
        ("::ffff:192.0.2.1", "demo", True),
        (ADDRESS, "other", False),
        ("192.0.2.2", "demo", False),
        ("192.0.2.1 demo", "", False),
        ("", "demo", False),
    ],
)
def test_who_is_braked(wrong, address, repo, is_one):
    send(wrong, 70)
    assert (wrong.note(address, repo) > 0) is is_one


def test_a_network_of_ipv6_is_one_client(wrong):
    for host in range(70):
        wrong.note(f"2001:db8::{host:x}", "demo")
    assert wrong.note("2001:db8::ffff", "demo") > 0
    assert wrong.note("2001:db8:0:1::1", "demo") == 0


def test_odd_texts_are_counted(wrong):
    for repo in ("\udcff", "\x00", "x" * 10_000, ""):
        assert send(wrong, 61, "unix", repo)[-1] > 0


def test_a_guesser_cannot_flush_its_own_entry(wrong):
    """More names than there are entries: those that weigh least are forgotten."""
    send(wrong, 70)
    for number in range(60_000):
        wrong.note(ADDRESS, f"r{number}")
    assert wrong.note(ADDRESS, "demo") > 0


def test_others_are_hardly_braked_by_a_full_table(wrong):
    for number in range(60_000):
        wrong.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "demo")
    others = [wrong.note(f"198.51.{n >> 8}.{n & 255}", "demo") for n in range(2000)]
    assert set(others) == {0.0}


def test_the_times_wrap_around(clock):
    wrong = WrongSecrets(clock)
    for moment in (2**32 / 100 - 5, 2**32 / 100 + 300, 5 * 2**32 / 100 - 1):
        clock.now = moment
        assert send(wrong, 62) == [0] * 60 + [1, 2]
        clock.now += 300


def test_workers_count_together_and_may_die_at_any_time():
    wrong = WrongSecrets()
    for _ in range(4):
        pid = os.fork()
        if not pid:
            for _ in range(17):
                wrong.note(ADDRESS, "demo")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    assert wrong.note(ADDRESS, "demo") > 0
    assert wrong.note("192.0.2.2", "demo") == 0
