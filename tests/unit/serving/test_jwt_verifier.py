"""Check which tokens prove an identity, which do not and why, and when a proof ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from pywharf.core.access.identities import Claims, ServiceAccount
from pywharf.core.access.identity_document import parse_document
from pywharf.core.access.jwt_reasons import Reason
from pywharf.core.access.trusted_issuers import compile_issuers
from pywharf.core.errors import BusyError, IdentityUnavailableError
from pywharf.egress.issuer_keys import KeysUnavailableError
from pywharf.egress.token_review import ReviewedUser, ReviewForbiddenError, ReviewStatus, ReviewUnavailableError
from pywharf.serving.definitions import NO_IDENTITY, ServedIdentity
from pywharf.serving.identification import Unverified
from pywharf.serving.identity import followed_keys, jwt_verifier, reviews
from pywharf.serving.identity.jwt_verifier import JwtVerifier
from pywharf.serving.metrics import Metrics
from support.identity.forged import forged_tokens
from support.identity.tokens import (
    AUDIENCE,
    CLUSTER,
    CORP,
    account_claims,
    corp_claims,
    identity_document,
    jwks,
    signing_key,
)
from support.waiting import until

NOW = 1_800_000_000.25
ACCOUNT = ServiceAccount("ml", "trainer", "trainer-0", int(NOW) + 3630)
REVIEWED = msgspec.structs.replace(ACCOUNT, expires=NOW + 600)
"""The same where the API server is asked: a browser's session must not outlast the pod by much more."""
ADDRESS = "192.0.2.1"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Fetcher:
    """An issuer whose answers the test chooses."""

    def __init__(self) -> None:
        self.answer: object = jwks(signing_key("corp-1", "ES256"))
        self.asked = 0
        self.holds = asyncio.Event()
        self.holds.set()

    async def fetch(self, issuer: str) -> object:
        assert issuer == CORP
        self.asked += 1
        await self.holds.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Reviewer:
    """An API server whose answers the test chooses."""

    def __init__(self) -> None:
        self.answer: ReviewStatus | Exception = reviewed()
        self.asked: list[str] = []
        self.forged: set[str] = set()
        """Tokens that it does not know, whatever the answer is otherwise."""
        self.holds = asyncio.Event()
        self.holds.set()
        self.right: ReviewUnavailableError | None = None
        """What it says of the server's right to ask."""
        self.checks = 0

    async def review(self, token: str, audience: str) -> ReviewStatus:
        assert audience == AUDIENCE
        self.asked.append(token)
        await self.holds.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return ReviewStatus() if token in self.forged else self.answer

    async def check_right(self) -> None:
        self.checks += 1
        if self.right is not None:
            raise self.right


def reviewed(**changed: Any) -> ReviewStatus:
    user = ReviewedUser("system:serviceaccount:ml:trainer")
    return ReviewStatus(**{"authenticated": True, "audiences": (AUDIENCE,), "user": user, **changed})


def served(document: dict[str, Any]) -> ServedIdentity:
    text = json.dumps(document)
    parsed = parse_document(text.encode())
    return ServedIdentity(parsed, text, compile_issuers(parsed))


def followed() -> ServedIdentity:
    return served({"issuers": [{"name": "corp", "url": CORP}]})


class Parts:
    """A verifier with what it works with."""

    def __init__(self) -> None:
        self.clock, self.fetcher, self.reviewer, self.metrics = Clock(), Fetcher(), Reviewer(), Metrics()
        self.verifier = JwtVerifier(self.fetcher, self.reviewer, self.metrics, self.clock, self.clock)

    async def identify(self, token: str, address: str = ADDRESS) -> object:
        return await self.verifier.identify(token, address)

    def counted(self, result: str) -> float:
        samples = [one for family in self.metrics.identity_verifications.collect() for one in family.samples]
        return sum(one.value for one in samples if one.name.endswith("_total") and one.labels["result"] == result)


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    made = Parts()
    async with made.verifier:
        yield made


FORGED = forged_tokens(NOW)


def test_the_table_is_whole():
    assert len(FORGED) >= 60
    assert len({each.name for each in FORGED}) == len(FORGED)
    assert {each.reason for each in FORGED} == set(Reason) - {Reason.REVIEW}


@pytest.mark.parametrize("forged", FORGED, ids=[each.name for each in FORGED])
async def test_a_forged_or_misused_token_proves_nothing(parts, forged):
    parts.verifier.replace(served(identity_document()))
    found = await parts.identify(forged.token)
    assert isinstance(found, Unverified)
    assert found.reason.partition(":")[0] == forged.reason
    assert parts.counted(forged.reason) == 1
    assert forged.token not in found.reason
    assert found.reason.isprintable()


async def test_the_clusters_issuer_is_an_audience_of_the_api_server(parts):
    parts.verifier.replace(served({"cluster": {"issuer": CLUSTER, "jwks": jwks(signing_key())}}))
    found = await parts.identify(signing_key().token(account_claims(NOW, aud=[CLUSTER, AUDIENCE])))
    assert found.reason.startswith("jwt-audience-of-api-server: ")


async def test_the_reason_says_why_the_api_servers_audience_is_refused(parts):
    parts.verifier.replace(served(identity_document()))
    found = await parts.identify(signing_key().token(account_claims(NOW, aud=[CLUSTER])))
    assert found == Unverified(
        "jwt-audience-of-api-server: the token is for the Kubernetes API server, where whoever sees it could use it; "
        "send a projected token whose audience is 'pywharf' alone"
    )


@pytest.mark.parametrize(
    ("name", "token", "identity"),
    [
        ("an account", signing_key().token(account_claims(NOW)), ACCOUNT),
        ("with typ", signing_key().token(account_claims(NOW), typ="JWT", x5t="abc"), ACCOUNT),
        ("one audience, not in a list", signing_key().token(account_claims(NOW, aud=AUDIENCE)), ACCOUNT),
        ("among others", signing_key().token(account_claims(NOW, aud=["vault", AUDIENCE])), ACCOUNT),
        (
            "without a pod",
            signing_key().token(
                account_claims(NOW, **{"kubernetes.io": {"namespace": "ml", "serviceaccount": {"name": "trainer"}}})
            ),
            ServiceAccount("ml", "trainer", None, int(NOW) + 3630),
        ),
        (
            "expired within the leeway",
            signing_key().token(account_claims(NOW - 3600, exp=int(NOW) - 29)),
            ServiceAccount("ml", "trainer", "trainer-0", int(NOW) + 1),
        ),
        ("from a clock that is ahead", signing_key().token(account_claims(NOW, nbf=int(NOW) + 30)), ACCOUNT),
        ("without iat and nbf", signing_key().token(account_claims(NOW, iat=None, nbf=None)), ACCOUNT),
    ],
)
async def test_a_right_token_proves_a_service_account(parts, name, token, identity):
    parts.verifier.replace(served(identity_document()))
    for _ in range(2):
        assert await parts.identify(token) == identity
    assert parts.counted("verified") == 1, "the second one comes from the cache"
    assert identity.subject == "system:serviceaccount:ml:trainer"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
async def test_each_algorithm_by_the_keys_own_type(parts, algorithm):
    key = signing_key("own", algorithm)
    issuer = {"name": "corp", "url": CORP, "audience": "wheels", "jwks": jwks(key)}
    parts.verifier.replace(served({"issuers": [issuer]}))
    claims = corp_claims(NOW, aud="wheels", ref="main")
    assert await parts.identify(key.token(claims)) == Claims("corp", claims, int(NOW) + 330)


@pytest.mark.parametrize("document", [None, identity_document()], ids=["nobody is believed", "issuers"])
async def test_what_is_meant_as_a_token(parts, document):
    """Also where no issuer is believed: what proves somebody's identity elsewhere is sent to no storage."""
    token = signing_key().token(account_claims(NOW))
    if document is not None:
        parts.verifier.replace(served(document))
    else:
        assert await parts.identify(token) == Unverified("jwt-issuer")
    for text, is_one in (
        (token, True),
        (f"{token}.e30.e30", True),
        ("ey..", True),
        ("demo-read", False),
        ("", False),
        ("ghp_a.b.c", False),
        ("pywharf_abc", False),
        ("eyJ.one", False),
    ):
        assert parts.verifier.plausible(text) is is_one, text


async def test_a_proof_ends_with_its_token_although_it_is_cached(parts):
    parts.verifier.replace(served(identity_document()))
    token = signing_key().token(account_claims(NOW))
    assert await parts.identify(token) == ACCOUNT
    parts.clock.now = NOW + 3629
    assert await parts.identify(token) == ACCOUNT
    parts.clock.now = NOW + 3630
    assert await parts.identify(token) == Unverified("jwt-expired")


async def test_another_document_ends_what_was_proved(parts):
    token = signing_key().token(account_claims(NOW))
    parts.verifier.replace(served(identity_document()))
    assert await parts.identify(token) == ACCOUNT
    other = identity_document(cluster={"issuer": CLUSTER, "jwks": jwks(signing_key("cluster-2"))})
    parts.verifier.replace(served(other))
    assert await parts.identify(token) == Unverified("jwt-key")
    parts.verifier.replace(served(identity_document()))
    assert await parts.identify(token) == ACCOUNT
    parts.verifier.replace(NO_IDENTITY)
    assert await parts.identify(token) == Unverified("jwt-issuer")


async def test_a_document_that_is_replaced_during_a_verification_counts(parts):
    parts.verifier.replace(followed())
    token = signing_key("corp-1", "ES256").token(corp_claims(NOW))
    parts.fetcher.holds.clear()
    asking = asyncio.create_task(parts.identify(token))
    await until(lambda: parts.fetcher.asked)
    parts.verifier.replace(served({"issuers": [{"name": "corp", "url": CORP, "jwks": jwks(signing_key())}]}))
    parts.fetcher.holds.set()
    assert await asking == Unverified("jwt-key")


@pytest.mark.parametrize("forged", ["ey..{0}", "{1}{0:08}"], ids=["no token", "a wrong signature"])
async def test_a_right_token_is_never_refused_while_its_address_sends_forged_ones(parts, forged):
    parts.verifier.replace(served(identity_document()))
    begin = signing_key().token(account_claims(NOW))[:-8]
    began = time.process_time()
    for number in range(1500):
        assert isinstance(await parts.identify(forged.format(number, begin)), Unverified)
        if number % 500 == 499:
            right = signing_key().token(account_claims(NOW, jti=f"new-{number}"))
            assert await parts.identify(right) == ACCOUNT
    spent = time.process_time() - began
    assert spent < 15, "a forged token costs far less than 10 ms"


async def test_keys_that_are_fetched_before_the_first_token_and_once_for_all(parts):
    token = signing_key("corp-1", "ES256").token(corp_claims(NOW))
    parts.fetcher.holds.clear()
    parts.verifier.replace(followed())
    asking = [asyncio.create_task(parts.identify(token)) for _ in range(20)]
    await until(lambda: parts.fetcher.asked)
    parts.fetcher.holds.set()
    for each in asking:
        assert isinstance(await each, Claims)
    assert parts.fetcher.asked == 1


async def test_an_unknown_key_is_looked_for_once_a_minute(parts):
    parts.verifier.replace(followed())
    old, new = signing_key("corp-1", "ES256"), signing_key("corp-2", "ES256")
    claims = corp_claims(NOW)
    assert isinstance(await parts.identify(old.token(claims)), Claims)
    parts.fetcher.answer = jwks(old, new)
    assert isinstance(await parts.identify(new.token(claims)), Claims)
    assert parts.fetcher.asked == 2
    for number in range(5):
        assert await parts.identify(new.token(claims, kid=f"corp-{number + 3}")) == Unverified("jwt-key")
    assert parts.fetcher.asked == 2
    parts.clock.now += 60
    claims = corp_claims(parts.clock.now)
    assert await parts.identify(new.token(claims, kid="corp-3")) == Unverified("jwt-key")
    assert parts.fetcher.asked == 3


async def test_a_key_that_the_issuer_withdraws_ends_what_it_proved(parts):
    parts.verifier.replace(followed())
    old, new = signing_key("corp-1", "ES256"), signing_key("corp-2", "ES256")
    token = old.token(corp_claims(NOW))
    assert isinstance(await parts.identify(token), Claims)
    parts.fetcher.answer = jwks(new)
    assert isinstance(await parts.identify(new.token(corp_claims(NOW))), Claims)
    assert await parts.identify(token) == Unverified("jwt-key")


@pytest.mark.parametrize(
    "fault",
    [
        KeysUnavailableError("its host answers 500"),
        RuntimeError("a bug"),
        {"keys": []},
        [],
        {"keys": [signing_key().jwk()] * 65},
        {"keys": [{**signing_key().jwk(), "d": "AQAB"}]},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "corp-1"}]},
    ],
    ids=["gone", "bug", "empty", "no set", "65 keys", "private", "shared"],
)
async def test_the_last_good_keys_hold_for_a_day_and_then_nobody_is_believed(parts, fault):
    parts.verifier.replace(followed())
    key = signing_key("corp-1", "ES256")
    token = key.token(corp_claims(NOW, exp=int(NOW) + 3 * 86_400))
    assert isinstance(await parts.identify(token), Claims)
    parts.fetcher.answer = fault
    parts.clock.now += followed_keys.HELD_S - 1
    assert isinstance(await parts.identify(token), Claims)
    with pytest.raises(IdentityUnavailableError):
        # Whether it is a new key of the issuer's cannot be known.
        await parts.identify(key.token(corp_claims(parts.clock.now), kid="corp-2"))
    assert isinstance(await parts.identify(token), Claims)
    parts.clock.now += 1
    for _ in range(2):
        with pytest.raises(IdentityUnavailableError):
            await parts.identify(token)
    assert parts.counted("unavailable") == 3
    parts.fetcher.answer = jwks(key)
    parts.clock.now += 60
    assert isinstance(await parts.identify(token), Claims)


async def test_without_any_keys_nobody_is_believed(parts, caplog):
    parts.fetcher.answer = KeysUnavailableError("its host answers 404")
    parts.verifier.replace(followed())
    token = signing_key("corp-1", "ES256").token(corp_claims(NOW))
    for _ in range(3):
        with pytest.raises(IdentityUnavailableError, match=r"^Your token cannot be verified now; try again"):
            await parts.identify(token)
    assert (IdentityUnavailableError.status, IdentityUnavailableError.retry_after_s) == (503, 10)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == ["The keys of the issuer corp cannot be used: its host answers 404; there are none yet."]


async def test_a_server_that_ends_does_not_wait_for_an_issuer():
    parts = Parts()
    parts.fetcher.holds.clear()
    async with parts.verifier:
        parts.verifier.replace(followed())
        asking = asyncio.create_task(parts.identify(signing_key("corp-1", "ES256").token(corp_claims(NOW))))
        await until(lambda: parts.fetcher.asked)
    with pytest.raises(IdentityUnavailableError):
        await asking


async def test_an_issuer_that_stays_keeps_its_keys(parts):
    parts.verifier.replace(followed())
    token = signing_key("corp-1", "ES256").token(corp_claims(NOW))
    assert isinstance(await parts.identify(token), Claims)
    parts.verifier.replace(served({"audience": "other", "issuers": [{"name": "corp", "url": CORP}]}))
    assert (await parts.identify(token)).reason.startswith("jwt-audience:")
    parts.verifier.replace(followed())
    assert isinstance(await parts.identify(token), Claims)
    assert parts.fetcher.asked == 1
    parts.verifier.replace(NO_IDENTITY)
    parts.verifier.replace(followed())
    assert isinstance(await parts.identify(token), Claims)
    assert parts.fetcher.asked == 2


def reviewing() -> ServedIdentity:
    cluster = {"issuer": CLUSTER, "jwks": {}, "audiences": [CLUSTER], "token_review": True}
    return served({"cluster": cluster})


async def test_the_api_server_is_asked_once_in_ten_seconds(parts):
    parts.verifier.replace(reviewing())
    token = signing_key("of nobody").token(account_claims(NOW))
    found = await asyncio.gather(*(parts.identify(token) for _ in range(10)))
    assert found == [REVIEWED] * 10
    assert parts.reviewer.asked == [token]
    parts.clock.now += 9
    assert await parts.identify(token) == REVIEWED
    parts.clock.now += 1
    parts.reviewer.answer = reviewed(authenticated=False)
    for _ in range(3):
        assert await parts.identify(token) == Unverified("jwt-token-review")
    assert len(parts.reviewer.asked) == 2


async def test_a_review_counts_for_ten_minutes_at_most_and_never_longer_than_the_token(parts):
    parts.verifier.replace(reviewing())
    long = signing_key().token(account_claims(NOW, exp=int(NOW) + 86_400))
    short = signing_key().token(account_claims(NOW, exp=int(NOW) + 100))
    assert [(await parts.identify(token)).expires for token in (long, short)] == [NOW + 600, int(NOW) + 130]
    parts.clock.now += 5000
    assert (await parts.identify(long)).expires == parts.clock.now + 600, "sent again, it is reviewed again"
    parts.verifier.replace(served(identity_document()))
    assert (await parts.identify(long)).expires == int(NOW) + 86_430, "verified offline, nothing ends it before"


@pytest.mark.parametrize(
    "answer",
    [
        ReviewStatus(),
        reviewed(authenticated=False),
        reviewed(audiences=()),
        reviewed(audiences=("vault",)),
        reviewed(user=ReviewedUser("system:serviceaccount:ml:other")),
        reviewed(user=ReviewedUser("")),
    ],
    ids=["nothing", "unknown", "no audience", "another audience", "another account", "no user"],
)
async def test_an_answer_that_vouches_for_something_else(parts, answer):
    parts.verifier.replace(reviewing())
    parts.reviewer.answer = answer
    assert await parts.identify(signing_key().token(account_claims(NOW))) == Unverified("jwt-token-review")


@pytest.mark.parametrize("forged", FORGED, ids=[each.name for each in FORGED])
async def test_the_api_server_never_gets_what_is_no_plausible_token_of_the_cluster(parts, forged):
    parts.verifier.replace(reviewing())
    parts.reviewer.answer = reviewed(authenticated=False)
    assert isinstance(await parts.identify(forged.token), Unverified)
    if forged.reason not in {Reason.KEY, Reason.SIGNATURE} or "issuer's claims" in forged.name:
        assert parts.reviewer.asked == []


async def test_an_api_server_that_cannot_be_asked_allows_nothing(parts, caplog):
    parts.verifier.replace(reviewing())
    parts.reviewer.answer = ReviewUnavailableError("the API server did not answer in time")
    for _ in range(2):
        with pytest.raises(IdentityUnavailableError):
            await parts.identify(signing_key().token(account_claims(NOW)))
    assert len(parts.reviewer.asked) == 2
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["ServiceAccount tokens cannot be reviewed: the API server did not answer in time."]


def reviewed_tokens(count: int) -> list[str]:
    return [signing_key().token(account_claims(NOW, jti=f"{number}")) for number in range(count)]


async def test_each_address_gets_its_reviews_in_its_order(parts):
    """However many tokens of one address wait, none is refused, and another address does not wait."""
    parts.verifier.replace(reviewing())
    parts.reviewer.holds.clear()
    last, *tokens = reviewed_tokens(61)
    waiting = [asyncio.create_task(parts.identify(token)) for token in tokens]
    await until(lambda: len(parts.reviewer.asked) == 4)
    other = asyncio.create_task(parts.identify(last, "192.0.2.2"))
    await until(lambda: len(parts.reviewer.asked) == 5)
    parts.reviewer.holds.set()
    assert await asyncio.gather(*waiting, other) == [REVIEWED] * 61
    assert len(set(parts.reviewer.asked)) == 61


async def test_a_right_token_is_reviewed_while_its_address_sends_forged_ones(parts):
    parts.verifier.replace(reviewing())
    parts.reviewer.holds.clear()
    right, *forged = reviewed_tokens(9)
    parts.reviewer.forged = set(forged)
    before = [asyncio.create_task(parts.identify(token)) for token in forged[:4]]
    await until(lambda: len(parts.reviewer.asked) == 4)
    asking = asyncio.create_task(parts.identify(right))
    after = [asyncio.create_task(parts.identify(token)) for token in forged[4:]]
    await asyncio.sleep(0)
    parts.reviewer.holds.set()
    assert await asking == REVIEWED
    assert await asyncio.gather(*before, *after) == [Unverified("jwt-token-review")] * 8
    assert parts.reviewer.asked.index(right) == 4


async def test_the_reviews_that_wait_are_bounded_in_time_and_number(parts, monkeypatch):
    monkeypatch.setattr(reviews, "_WAIT_S", 0.2)
    tokens = reviewed_tokens(300)
    parts.verifier.replace(reviewing())
    parts.reviewer.holds.clear()
    waiting = [asyncio.create_task(parts.identify(token)) for token in tokens]
    found = await asyncio.gather(*waiting[4:], return_exceptions=True)
    assert {type(one) for one in found} == {BusyError}
    assert {"of at most 512" in str(one) for one in found} == {True, False}
    parts.reviewer.holds.set()
    assert await asyncio.gather(*waiting[:4]) == [REVIEWED] * 4
    assert await parts.identify(signing_key().token(account_claims(NOW, jti="later"))) == REVIEWED


async def test_the_right_to_review_is_known_before_a_client_comes(parts, monkeypatch):
    monkeypatch.setattr(jwt_verifier, "_FORBIDDEN_AGAIN_S", 0.0)
    assert not await parts.verifier.reviews_forbidden()
    parts.reviewer.right = ReviewForbiddenError("this server's ServiceAccount may not create tokenreviews (403)")
    parts.verifier.replace(reviewing())
    assert await parts.verifier.reviews_forbidden()
    parts.reviewer.right = None
    asked = parts.reviewer.checks
    await until(lambda: parts.reviewer.checks > asked)
    assert not await parts.verifier.reviews_forbidden()


async def test_a_right_that_is_taken_away_shows_at_a_token(parts):
    parts.verifier.replace(reviewing())
    assert not await parts.verifier.reviews_forbidden()
    parts.reviewer.answer = ReviewForbiddenError("this server's ServiceAccount may not create tokenreviews (403)")
    with pytest.raises(IdentityUnavailableError):
        await parts.identify(signing_key().token(account_claims(NOW)))
    assert await parts.verifier.reviews_forbidden()
    # Nobody needs reviews any more.
    parts.verifier.replace(followed())
    assert not await parts.verifier.reviews_forbidden()


async def test_an_api_server_that_does_not_answer_forbids_nothing(parts):
    parts.reviewer.right = ReviewUnavailableError("the API server did not answer in time")
    parts.verifier.replace(reviewing())
    assert not await parts.verifier.reviews_forbidden()
    assert parts.reviewer.checks == 1
