"""Check who a person is by the headers of an authenticating proxy, and when these name nobody."""

import pytest

from pywharf.core.access.identities import ProxyUser
from pywharf.core.access.proxy_users import proxy_user_of

MANY = tuple(f"g{n}" for n in range(1200))


@pytest.mark.parametrize(
    ("users", "groups", "person"),
    [
        (["ada"], [], ProxyUser("ada", ())),
        (["ada@example.com"], ["ml, role:admin,ml"], ProxyUser("ada@example.com", ("ml", "role:admin"))),
        ([" ada "], [" , ml ,,"], ProxyUser("ada", ("ml",))),
        (["Ada Łovelace"], ["Größe"], ProxyUser("Ada Łovelace", ("Größe",))),
        (["x" * 256], ["y" * 256], ProxyUser("x" * 256, ("y" * 256,))),
        (["ada"], [",".join(MANY)], ProxyUser("ada", MANY[:1000])),
        (["ada"], ["ml," + "y" * 257], ProxyUser("ada", ("ml",))),
        (["ada"], ["ml,\x1b[0m,\udcff"], ProxyUser("ada", ("ml",))),
        # Nobody
        ([], ["admins"], None),
        ([""], ["admins"], None),
        (["x" * 257], ["admins"], None),
        (["a\x00b"], ["admins"], None),
        (["\udcff"], ["admins"], None),
        # A proxy that adds its line to a client's names two.
        (["ada", "eve"], ["ml"], None),
        (["ada", "ada"], ["ml"], None),
        (["ada"], ["admins", "ml"], None),
    ],
)
def test_who_it_is(users, groups, person):
    assert proxy_user_of(users, groups) == person
