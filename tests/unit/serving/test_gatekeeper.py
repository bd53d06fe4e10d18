"""Tests of the order in which a secret is understood: as the repo's own, as a proof of identity, as the storage's."""

import asyncio
from datetime import UTC, datetime

import pytest

from pywharf.core.access.claims import Asked
from pywharf.core.access.deciding import compile_entries
from pywharf.core.access.entries import AccessEntry, Oidc, ServiceAccountRef
from pywharf.core.access.identities import Claims, ServiceAccount, TokenHolder
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials
from pywharf.core.access.tokens import digest_of, new_token
from pywharf.core.errors import UnavailableError
from pywharf.core.names import RepoName
from pywharf.egress.token_review import ReviewStatus
from pywharf.serving.gatekeeper import Admitted, Decision, Gatekeeper, Refused
from pywharf.serving.identification import Identified, TokenVerifier, Unverified
from pywharf.serving.identity.jwt_verifier import JwtVerifier
from pywharf.serving.metrics import Metrics
from pywharf.serving.permission_cache import PermissionCache
from support.identity.tokens import account_claims, signing_key

NONE, READ, WRITE = Permission.NONE, Permission.READ, Permission.WRITE
TOKEN, OTHER, OWN = new_token(), new_token(), new_token()
MISTYPED = TOKEN[:-1] + ("a" if TOKEN[-1] != "a" else "b")
NOW = 1_000.0
ENDED = datetime.fromtimestamp(NOW, UTC)


def without_token(value: object) -> str | None:
    """Return a test's id for a random token: pytest-xdist needs the same one in each process."""
    return "token" if str(value).startswith("pywharf_") else None


class Storage:
    """A storage that knows one client, and records about whom it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def is_plausible(self, secret: str) -> bool:
        return bool(secret)

    async def permission_of(self, secret: str) -> Permission:
        self.asked.append(secret)
        return WRITE if secret == "known" else NONE


class Accounts:
    """A verifier of texts such as `jwt:NAMESPACE:NAME`."""

    def plausible(self, secret: str) -> bool:
        return secret.startswith("jwt:")

    async def identify(self, secret: str, address: str) -> Identified:
        assert address == "192.0.2.1"
        _, namespace, name = secret.split(":")
        if namespace == "down":
            raise UnavailableError("The issuer's keys cannot be fetched.")
        return Unverified("bad-signature") if namespace == "forged" else ServiceAccount(namespace, name)


ENTRIES = [
    AccessEntry(name="token", permission="Publish", projects=("acme-*",), token_digests=(digest_of(TOKEN),)),
    AccessEntry(name="pods", permission="Read", service_accounts=(ServiceAccountRef(namespace="ml", name="*"),)),
    AccessEntry(name="own", permission="Read", projects=("x",), token_digests=(digest_of(OWN),)),
]


def credentials(name: str, **fields) -> Credentials:
    return Credentials(entries=compile_entries(RepoName(name), ENTRIES), **fields)


REPOS = {
    "closed": credentials("closed"),
    "secrets": credentials("secrets", read="read", write=OWN),
    "odd": credentials("odd", read="jwt:ml:a"),
    "open": credentials("open", write="write", anonymous_read=True),
    "github": credentials("github", storage="acme/wheels"),
    "plain": Credentials(read="read", write="write"),
}


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def gatekeeper(storage: Storage) -> Gatekeeper:
    gatekeeper = Gatekeeper(60, 60, [Accounts()], clock=lambda: NOW)
    repos = {RepoName(name): one for name, one in REPOS.items()}
    gatekeeper.replace(repos, {RepoName("github"): PermissionCache(storage, 60, 60)})
    return gatekeeper


def admit(gatekeeper: Gatekeeper, repo: str, secret: str) -> Decision:
    return asyncio.run(gatekeeper.admit(RepoName(repo), secret, READ, "192.0.2.1"))


@pytest.mark.parametrize(
    ("repo", "secret", "permission", "entry"),
    [
        ("closed", TOKEN, WRITE, "token"),
        ("closed", "jwt:ml:a", READ, "pods"),
        ("secrets", "read", READ, ""),
        ("secrets", OWN, WRITE, ""),  # the repo's own secret, whatever form it has
        ("closed", OWN, READ, "own"),
        ("odd", "jwt:ml:a", READ, ""),
        ("odd", "jwt:ml:b", READ, "pods"),
        ("secrets", TOKEN, WRITE, "token"),
        ("open", "write", WRITE, ""),
        ("open", "", READ, ""),
        ("open", TOKEN, WRITE, "token"),
        ("open", "jwt:other:a", READ, ""),
        ("github", TOKEN, WRITE, "token"),
        ("github", "jwt:ml:a", READ, "pods"),
        ("github", "known", WRITE, ""),
    ],
    ids=without_token,
)
def test_admitted(gatekeeper, storage, repo, secret, permission, entry):
    decision = admit(gatekeeper, repo, secret)
    assert isinstance(decision, Admitted)
    assert (decision.grant.permission, decision.grant.entry) == (permission, entry)
    assert (decision.identity is None) == (entry == "" and not secret.startswith("jwt:other"))
    assert decision.grant.read.everything is (repo == "open" or entry in {"", "pods"})
    assert storage.asked == (["known"] if secret == "known" else [])


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "no-credentials"),
        ("wrong", "wrong-secret"),
        (MISTYPED, "token-checksum"),
        (OTHER, "not-named"),
        ("jwt:other:a", "not-named"),
        ("jwt:forged:a", "bad-signature"),
    ],
    ids=without_token,
)
@pytest.mark.parametrize("repo", ["closed", "secrets", "plain", "github", "no-such-repo", ""])
def test_refused_alike_in_every_repo(gatekeeper, storage, repo, secret, reason):
    decision = admit(gatekeeper, repo, secret)
    assert isinstance(decision, Refused)
    assert decision.reason == reason
    # A text that has the form of a proof never leaves this server.
    assert storage.asked == (["wrong"] if (repo, secret) == ("github", "wrong") else [])


@pytest.mark.parametrize("repo", ["closed", "plain", "no-such-repo"])
def test_an_identity_that_cannot_be_verified_now_is_no_refusal(gatekeeper, repo):
    with pytest.raises(UnavailableError):
        admit(gatekeeper, repo, "jwt:down:a")


def test_an_expired_entry_is_told_in_the_reason_alone():
    ended = AccessEntry(name="e", permission="Read", token_digests=(digest_of(TOKEN),), expires=ENDED)
    gatekeeper = Gatekeeper(60, 60, clock=lambda: NOW)
    gatekeeper.replace({RepoName("a"): Credentials(entries=compile_entries(RepoName("a"), [ended]))}, {})
    assert admit(gatekeeper, "a", TOKEN) == Refused("expired", TokenHolder(digest_of(TOKEN)).subject)


def test_a_configuration_counts_from_the_next_decision_on(gatekeeper):
    assert isinstance(admit(gatekeeper, "closed", TOKEN), Admitted)
    gatekeeper.replace({RepoName("closed"): Credentials()}, {})
    assert isinstance(admit(gatekeeper, "closed", TOKEN), Refused)
    assert gatekeeper.entries() == {}


def test_the_entries_of_a_repo_are_its_credentials(gatekeeper):
    """A repo whose entries change together with its storage must not be served from its old storage."""
    same, other = credentials("a", read="r"), Credentials(read="r", entries=compile_entries(RepoName("a"), ENTRIES[1:]))
    assert same == credentials("a", read="r")
    assert same != other
    assert same != Credentials(read="r")
    assert set(gatekeeper.entries()) == set(REPOS) - {"plain"}


@pytest.mark.parametrize("secret", ["ghp_" + "a" * 36, "ghs_1_eyJhbGciOi.eyJpc3Mi.c2ln", "github_pat_11A", "a" * 40])
def test_tokens_of_github_have_no_form_of_an_identity(secret):
    assert not TokenVerifier().plausible(secret)


@pytest.mark.parametrize("repo", ["github", "no-such-repo"])
def test_a_json_web_token_is_never_sent_to_a_storage_also_where_no_issuer_is_believed(storage, repo):
    """It may be the token of a pod or a CI job, for anybody who believes its issuer."""
    verifier = JwtVerifier(_Never(), _Never(), Metrics())
    gatekeeper = Gatekeeper(60, 60, [verifier], clock=lambda: NOW)
    gatekeeper.replace({RepoName("github"): Credentials()}, {RepoName("github"): PermissionCache(storage, 60, 60)})
    decision = admit(gatekeeper, repo, signing_key().token(account_claims(NOW)))
    assert decision == Refused("jwt-issuer")
    assert storage.asked == []


class _Never:
    """What fetches keys or asks the API server. Nothing may call it."""

    async def fetch(self, issuer: str) -> object:
        raise AssertionError

    async def review(self, token: str, audience: str) -> ReviewStatus:
        raise AssertionError

    async def check_right(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("expires", [None, ENDED], ids=["not named", "expired"])
def test_claims_are_compared_once(monkeypatch, expires):
    """A refusal costs no second comparison to find out whether an entry has ended."""
    wanted = [Oidc(issuer="corp", claims={"sub": sub}) for sub in ("b*", "a*" if expires else "c*")]
    entries = [
        AccessEntry(name=f"e{n}", permission="Read", oidc=one, expires=expires if n else None)
        for n, one in enumerate(wanted)
    ]
    gatekeeper = Gatekeeper(60, 60, clock=lambda: NOW)
    gatekeeper.replace({RepoName("a"): Credentials(entries=compile_entries(RepoName("a"), entries))}, {})
    compared: list[Asked] = []
    fits = Asked.fits

    def counted(asked: Asked, given: Claims) -> bool:
        compared.append(asked)
        return fits(asked, given)

    monkeypatch.setattr(Asked, "fits", counted)
    stranger = Claims("corp", {"sub": "a"}, NOW + 60)
    reason = "expired" if expires else "not-named"
    assert gatekeeper.admit_identified(RepoName("a"), stranger) == Refused(reason, "corp:a")
    assert len(compared) == len(entries)
