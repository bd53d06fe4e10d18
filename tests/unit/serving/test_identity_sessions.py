"""Tests of the cookies that hold an identity: what they hold, how long they last, and what they must not be."""

import base64
import json
import time
from math import inf

import msgspec
import pytest

from pywharf.core.access.deciding import compile_entries, decide, digest_of_key, entry_key
from pywharf.core.access.entries import AccessEntry, Oidc, ServiceAccountRef
from pywharf.core.access.identities import Claims, Identity, Minted, ProxyUser, ServiceAccount, TokenHolder
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials
from pywharf.core.errors import InvalidInputError
from pywharf.core.names import RepoName
from pywharf.serving.session_files import SessionFiles
from pywharf.serving.sessions import Session, Sessions

REPO = RepoName("team-a")
DIGEST = f"sha256:{'a' * 64}"
ENTRIES = (
    AccessEntry(name="token", permission="Publish", token_digests=(DIGEST,)),
    AccessEntry(name="pods", permission="Read", service_accounts=(ServiceAccountRef(namespace="ml", name="trainer"),)),
    AccessEntry(name="corp", permission="Publish", oidc=Oidc(issuer="corp", claims={"team": "a*", "n": 7})),
)
CREDENTIALS = Credentials(read="r", write="w", entries=compile_entries(REPO, ENTRIES))
READ_S, WRITE_S = 3600, 300


@pytest.fixture
def sessions(tmp_path) -> Sessions:
    return Sessions(b"key", READ_S, WRITE_S, SessionFiles(tmp_path))


def issue(sessions: Sessions, identity: Identity, credentials: Credentials = CREDENTIALS) -> tuple[str, int]:
    grant = decide(credentials.entries, identity, time.time())
    return sessions.issue_to(REPO, grant, identity, credentials)


def session_of(cookie: str) -> Session:
    session = Sessions.unverified(cookie)
    assert session is not None
    return session


@pytest.mark.parametrize("lasts_s", [10, READ_S * 2, inf])
@pytest.mark.parametrize(
    ("identity", "entry"),
    [
        (ServiceAccount("ml", "trainer", "pod-1"), ENTRIES[1]),
        (Claims("corp", {"team": "a1", "n": 7, "sub": "x", "long": "x" * 4000, "list": [1] * 99}, inf), ENTRIES[2]),
    ],
)
def test_a_session_holds_the_identity_and_lasts_no_longer_than_its_proof(sessions, identity, entry, lasts_s):
    identity = msgspec.structs.replace(identity, expires=time.time() + lasts_s)
    cookie, max_age_s = issue(sessions, identity)
    assert len(cookie) < 1024
    assert min(lasts_s, READ_S) - 5 <= max_age_s <= min(lasts_s, READ_S)
    session = session_of(cookie)
    assert sessions.verify(cookie, session, CREDENTIALS)
    assert session.read_until <= identity.expires
    assert session.write_until <= session.read_until
    assert session.entries == (digest_of_key(entry_key(entry)),)
    assert session.identity is not None
    assert session.identity.subject == identity.subject
    grant = decide(CREDENTIALS.entries, session.identity, time.time(), session.entries)
    assert grant.entry == entry.name
    assert decide(CREDENTIALS.entries, session.identity, session.read_until).permission is Permission.NONE


def test_the_session_of_a_token_holds_its_digest_alone(sessions):
    cookie, max_age_s = issue(sessions, TokenHolder(DIGEST))
    assert max_age_s == READ_S
    assert session_of(cookie).identity == TokenHolder(DIGEST)


def test_secrets_may_change_meanwhile_but_not_the_cookie(sessions):
    """The entries decide about an identity, and another identity or expiry needs another signature."""
    cookie, _ = issue(sessions, TokenHolder(DIGEST))
    session = session_of(cookie)
    assert sessions.verify(cookie, session, Credentials(read="other", entries=CREDENTIALS.entries))
    payload, _, signature = cookie.partition(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changes: list[dict[str, object]] = [
        {"token": DIGEST.replace("a", "b")},
        {"read_until": content["read_until"] + 1},
        {"repo": "team-b"},
        {"entries": ["x"]},
        {"token": None},
        {"token": None, "account": ["ml", "trainer"]},
    ]
    for changed in changes:
        forged = base64.urlsafe_b64encode(json.dumps(content | changed).encode()).rstrip(b"=").decode()
        for mine in (f"{forged}.{signature}", f"{forged}.", forged):
            assert not sessions.verify(mine, session_of(mine), CREDENTIALS)


async def test_whose_session_ended_is_recorded_without_its_name(sessions, tmp_path):
    """Everybody whom the same entries let in is of one group there."""
    ends = int(time.time()) + 60
    for sub in ("a", "b"):
        cookie, _ = issue(sessions, Claims("corp", {"team": "a1", "n": 7, "sub": sub}, ends))
        await sessions.end(session_of(cookie))
    cookie, _ = issue(sessions, TokenHolder(DIGEST))
    await sessions.end(session_of(cookie))
    await sessions.end(session_of(sessions.issue(REPO, Permission.WRITE, CREDENTIALS)))
    record = json.loads((tmp_path / "team-a.json").read_bytes())
    groups, members = zip(*(holder.split("/") for holder in record["holders"].values()), strict=True)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
    assert len(set(members)) == 4
    assert (groups[3], members[3]) == ("write", "")


def test_a_server_that_knows_no_identities_takes_no_such_cookie(sessions):
    """During an update, older replicas read only the fields that they know, and bind them to the repo's secrets."""
    cookie, _ = issue(sessions, TokenHolder(DIGEST))
    session = session_of(cookie)
    assert not sessions.verify(cookie, msgspec.structs.replace(session, token=None), CREDENTIALS)


def test_the_cookie_of_a_secret_is_as_before(sessions):
    cookie = sessions.issue(REPO, Permission.READ, CREDENTIALS)
    assert sessions.verify(cookie, session_of(cookie), Credentials(read="r", write="w"))
    assert not sessions.verify(cookie, session_of(cookie), Credentials(read="r2", write="w"))
    content = json.loads(base64.urlsafe_b64decode(cookie.partition(".")[0] + "=="))
    assert set(content) == {"id", "repo", "permission", "issued_at", "read_until", "write_until"}


@pytest.mark.parametrize(
    ("identity", "sentence"),
    [
        (Minted("jti", {}, "x", inf), "for publishing"),
        (ProxyUser("eve", ("devs",)), "for publishing"),
        (Claims("corp", {"team": "a" * 2000, "n": 7}, inf), "does not fit into a browser's cookie of 1024 bytes"),
        (Claims("corp", {"team": "a", "n": 7, "sub": "s" * 2000}, inf), "does not fit"),
    ],
)
def test_what_no_cookie_may_hold_is_refused_with_a_sentence(sessions, identity, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        issue(sessions, identity)


def test_too_many_entries_are_refused_with_a_sentence(sessions):
    entries = [AccessEntry(name=f"e{n}", permission="Read", token_digests=(DIGEST,)) for n in range(64)]
    credentials = Credentials(entries=compile_entries(REPO, entries))
    with pytest.raises(InvalidInputError, match="too many access entries"):
        issue(sessions, TokenHolder(DIGEST), credentials)
