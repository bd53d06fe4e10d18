"""Check where addresses lead, in every spelling."""

import pytest

from pywharf.core.addresses import Reach, is_own, literal, reach_of

OWN, PRIVATE, GLOBAL = Reach.OWN, Reach.PRIVATE, Reach.GLOBAL

ADDRESSES = [
    ("127.0.0.1", OWN),
    ("127.9.9.9", OWN),
    ("0.0.0.0", OWN),  # noqa: S104 - not to listen on
    ("0.1.2.3", OWN),
    ("169.254.169.254", OWN),
    ("169.254.170.2", OWN),
    ("224.0.0.1", OWN),
    ("239.255.255.250", OWN),
    ("255.255.255.255", OWN),
    ("100.100.100.200", OWN),
    ("168.63.129.16", OWN),
    ("192.0.0.192", OWN),
    ("10.96.0.1", PRIVATE),
    ("172.16.0.1", PRIVATE),
    ("172.31.255.255", PRIVATE),
    ("172.32.0.1", GLOBAL),
    ("192.168.1.1", PRIVATE),
    ("100.64.0.1", PRIVATE),
    ("100.127.255.255", PRIVATE),
    ("100.128.0.1", GLOBAL),
    ("192.0.0.8", PRIVATE),
    ("192.0.2.1", PRIVATE),
    ("192.88.99.1", PRIVATE),
    ("198.18.0.1", PRIVATE),
    ("198.51.100.7", PRIVATE),
    ("203.0.113.9", PRIVATE),
    ("240.0.0.1", PRIVATE),
    ("140.82.121.6", GLOBAL),
    ("168.63.129.17", GLOBAL),
    ("::", OWN),
    ("::1", OWN),
    ("fe80::1", OWN),
    ("fe80::1%eth0", OWN),
    ("fe80::a9fe:a9fe", OWN),
    ("ff02::1", OWN),
    ("fd00:ec2::254", OWN),
    ("fd00:ec2::23", OWN),
    ("fd20:ce::254", OWN),
    ("fd00:42::42", OWN),
    ("fd12:3456::1", PRIVATE),
    ("fc00::1", PRIVATE),
    ("fec0::1", PRIVATE),
    ("2001:db8::1", PRIVATE),
    ("3fff::1", PRIVATE),
    ("5f00::1", PRIVATE),
    ("100::1", PRIVATE),
    ("4000::1", PRIVATE),
    ("2606:4700::1111", GLOBAL),
    ("2a04:4e42::223", GLOBAL),
    # IPv4-mapped, IPv4-compatible and IPv4-translated addresses.
    ("::ffff:169.254.169.254", OWN),
    ("::ffff:10.0.0.1", PRIVATE),
    ("::ffff:140.82.121.6", GLOBAL),
    ("::169.254.169.254", OWN),
    ("::10.0.0.1", PRIVATE),
    ("::140.82.121.6", PRIVATE),
    ("::ffff:0:127.0.0.1", OWN),
    ("::ffff:0:140.82.121.6", PRIVATE),
    # NAT64: an IPv6-only network reaches the IPv4 internet through the first prefix.
    ("64:ff9b::a9fe:a9fe", OWN),
    ("64:ff9b::10.96.0.1", PRIVATE),
    ("64:ff9b::140.82.121.6", GLOBAL),
    ("64:ff9b:1::a9fe:a9fe", OWN),
    ("64:ff9b:1::140.82.121.6", PRIVATE),
    ("64:ff9b:1:a9fe:a9:fe00::", OWN),
    ("64:ff9b:1:a9:fe:a9fe::", OWN),
    ("64:ff9b:1:0:a9:fea9:fe00:0", OWN),
    # 6to4, Teredo (which inverts its client's address), ISATAP.
    ("2002:a9fe:a9fe::1", OWN),
    ("2002:7f00:1::", OWN),
    ("2002:808:808::1", PRIVATE),
    ("2001:0:808:808:0:0:5601:5601", OWN),
    ("2001:0:a9fe:a9fe::1", OWN),
    ("2001:0:808:808:0:0:f7f7:f7f7", PRIVATE),
    ("2606:4700::5efe:a9fe:a9fe", OWN),
    ("2606:4700::200:5efe:10.0.0.1", PRIVATE),
]


@pytest.mark.parametrize(("address", "reach"), ADDRESSES)
def test_where_it_leads(address, reach):
    assert reach_of(address) is reach
    assert is_own(address) is (reach is OWN)


@pytest.mark.parametrize("text", ["", "a.example", "127.0.0.256", "1.2.3", "[::1]", "::1::", "1.1.1.1\n"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="address"):
        reach_of(text)


# The host as a URL may write it; its address without resolving it (None: a name); whether it is this machine
HOSTS = [
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1.", "127.0.0.1", True),
    ("127.1", "127.0.0.1", True),
    ("2130706433", "127.0.0.1", True),
    ("0x7f000001", "127.0.0.1", True),
    ("0X7F.1", "127.0.0.1", True),
    ("0177.0.0.1", "127.0.0.1", True),
    ("0251.0376.0251.0376", "169.254.169.254", True),
    ("2852039166", "169.254.169.254", True),
    ("0xa9fe.43518", None, False),  # the first part must fit into one byte
    ("0", "0.0.0.0", True),  # noqa: S104
    ("10.1", "10.0.0.1", False),
    ("[::1]", "::1", True),
    ("[fe80::1%25eth0]", "fe80::1", True),
    ("::ffff:7f00:1", "::ffff:7f00:1", True),
    ("localhost", None, True),
    ("LOCALHOST.", None, True),
    ("x.localhost", None, True),
    ("localhost.example", None, False),
    ("a.example", None, False),
    ("08.1.1.1", None, False),
    ("1.2.3.4.5", None, False),
    ("256.1.1.1", None, False),
    ("4294967296", None, False),
    ("-1", None, False),
    ("", None, False),
    ("9" * 5000, None, False),
]


@pytest.mark.parametrize(("host", "address", "own"), HOSTS, ids=[host[:40] for host, *_ in HOSTS])
def test_hosts_as_they_are_written(host, address, own):
    assert literal(host) == address
    assert is_own(host) is own
