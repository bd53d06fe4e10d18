import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials, fingerprint, permission_of

NONE, READ, WRITE = Permission.NONE, Permission.READ, Permission.WRITE
BOTH = Credentials(read="r", write="w")
ANONYMOUS = Credentials(read="r", write="w", anonymous_read=True)


@pytest.mark.parametrize(
    ("credentials", "secret", "permission"),
    [
        (BOTH, None, NONE),
        (BOTH, "", NONE),
        (BOTH, "r", READ),
        (BOTH, "w", WRITE),
        (BOTH, "R", NONE),
        (BOTH, "r ", NONE),
        (BOTH, "x", NONE),
        (BOTH, "rw", NONE),
        (BOTH, "None", NONE),
        (Credentials(read="r"), "r", READ),
        (Credentials(read="r"), "", NONE),
        (Credentials(write="w"), "w", WRITE),
        (Credentials(write="w"), None, NONE),
        (Credentials(), "", NONE),
        (Credentials(), None, NONE),
        (Credentials(), "None", NONE),
        (Credentials(read="", write=""), "", NONE),
        (Credentials(read="same", write="same"), "same", WRITE),
        (ANONYMOUS, None, READ),
        (ANONYMOUS, "r", READ),
        (ANONYMOUS, "w", WRITE),
        (ANONYMOUS, "wrong", NONE),
        (Credentials(anonymous_read=True), None, READ),
        (Credentials(read="s\u00e9cret \U0001f511", write="w"), "s\u00e9cret \U0001f511", READ),
        (Credentials(read="\udcff\udcfe", write="w"), "\udcff\udcfe", READ),  # a variable that is not UTF-8
        (Credentials(read="\udcff", write="w"), "\udcfe", NONE),
    ],
)
def test_permission(credentials, secret, permission):
    assert permission_of(secret, credentials) is permission


def test_each_permission_includes_those_below():
    assert NONE < READ < WRITE


secrets = st.one_of(st.none(), st.text(max_size=8))


@given(secrets, secrets, secrets)
def test_only_a_secret_opens(given_secret, read, write):
    granted = permission_of(given_secret, Credentials(read=read, write=write))
    if not given_secret:
        assert granted is NONE
    else:
        assert granted is (WRITE if given_secret == write else READ if given_secret == read else NONE)


@given(secrets, secrets, secrets, secrets)
def test_fingerprint_changes_when_a_secret_does(read, write, new_read, new_write):
    old = fingerprint(Credentials(read=read, write=write), b"key")
    new = fingerprint(Credentials(read=new_read, write=new_write), b"key")
    assert (old == new) == ((read, write) == (new_read, new_write))
    assert old != fingerprint(Credentials(read=read, write=write), b"other key")


def test_fingerprint_changes_with_the_storage_that_decides():
    """Otherwise a browser's session could still read the repo after its name was given to another storage."""
    first, second = Credentials(storage="acme/open"), Credentials(storage="acme/closed")
    assert fingerprint(first, b"key") != fingerprint(second, b"key")
    with_secret = [Credentials(read="r", storage=storage) for storage in ("acme/open", "acme/closed")]
    assert fingerprint(with_secret[0], b"key") == fingerprint(with_secret[1], b"key")


def test_fingerprint_of_any_bytes():
    assert fingerprint(Credentials(read="\udcff"), b"key") != fingerprint(Credentials(read="\udcfe"), b"key")


def test_nothing_shows_the_secrets():
    credentials = Credentials(read="sesame", write="abracadabra")
    for shown in (repr(credentials), str(credentials), f"{credentials!r}", fingerprint(credentials, b"key")):
        assert "sesame" not in shown
        assert "abracadabra" not in shown
