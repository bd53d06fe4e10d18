"""Check how wrong secrets are counted: by address, in bounded memory, and with a limit for all together."""

import pytest

from pywharf.serving.refusals import Refusals


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock):
    return Refusals(clock)


def send(refusals, address, count):
    for _ in range(count):
        refusals.note(address)


@pytest.mark.parametrize(
    ("sender", "other", "is_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("", "", True),
        ("unix", "192.0.2.1", False),
    ],
)
def test_who_counts_as_one_client(refusals, sender, other, is_one):
    send(refusals, sender, 60)
    assert (refusals.wait_s(other) > 0) is is_one


def test_a_minute_later_it_is_over(refusals, clock):
    send(refusals, "192.0.2.1", 59)
    assert refusals.wait_s("192.0.2.1") == 0
    clock.now += 10
    send(refusals, "192.0.2.1", 1)
    assert refusals.wait_s("192.0.2.1") == 50
    clock.now += 50
    assert refusals.wait_s("192.0.2.1") == 0
    clock.now += 1000
    assert refusals.wait_s("192.0.2.1") == 0


def test_many_addresses_stop_themselves_and_nobody_else(refusals):
    for number in range(600):
        send(refusals, f"10.0.{number // 200}.{number % 200}", 1)
    assert refusals.wait_s("10.0.0.1") > 0
    assert refusals.wait_s("192.0.2.1") == 0


def test_the_table_is_bounded(refusals):
    for number in range(20_000):
        send(refusals, f"10.{number // 60_000}.{number // 250}.{number % 250}", 1)
    assert len(refusals._by_address) == 4096  # noqa: SLF001 - the test is about what it keeps


def test_how_long_a_storage_takes_is_remembered(refusals):
    refusals.note("192.0.2.1", 1.5)
    refusals.note("192.0.2.1")
    assert refusals.usual_s == 1.5


def test_an_address_that_only_asks_is_forgotten_with_its_last_wrong_secret(refusals):
    send(refusals, "192.0.2.1", 60)
    send(refusals, "192.0.2.2", 60)
    for number in range(4094):
        assert refusals.wait_s("192.0.2.1") > 0
        send(refusals, f"10.0.{number // 250}.{number % 250}", 1)
    send(refusals, "192.0.2.2", 1)
    send(refusals, "10.1.0.0", 1)
    assert (refusals.wait_s("192.0.2.1") > 0, refusals.wait_s("192.0.2.2") > 0) == (False, True)
