"""Minting: which claims get a token for what, that it counts once, and that a hanging storage hurts only itself."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pywharf.core.access.claims import Asked
from pywharf.core.access.deciding import compile_entries, decide
from pywharf.core.access.entries import MAX_ENTRIES, AccessEntry, Oidc
from pywharf.core.access.identities import Claims, Identity
from pywharf.core.access.minted import LIFE_S, MAX_REPOS, PREFIX
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials
from pywharf.core.errors import TokenRefusedError, UnavailableError
from pywharf.core.names import RepoName, normalize
from pywharf.index.claims_in_memory import MAX_CLAIMS, ClaimsInMemory
from pywharf.serving.gatekeeper import Admitted, Decision, Gatekeeper, Refused
from pywharf.serving.identification import Identified, Unverified
from pywharf.serving.trusted_publishing import used_tokens
from support.server.minting import (
    BUILDS,
    GITHUB,
    GITLAB,
    LIB,
    NOW,
    READERS,
    RELEASE,
    TEAM_A,
    TEAM_B,
    Server,
    Storages,
    token,
)


@pytest.fixture
def storages() -> Storages:
    return Storages()


@pytest.fixture
def server(storages: Storages) -> Server:
    return Server(storages, {TEAM_A: [RELEASE, LIB], TEAM_B: [BUILDS, READERS]})


def permission(server: Server, repo: RepoName, identity: Identity) -> Permission:
    return decide(server.entries[repo], identity, server.now).permission


async def test_a_workflow_gets_what_its_entry_says(server):
    minted = await server.mint(token())
    grant = decide(server.entries[TEAM_A], minted, server.now)
    assert (grant.permission, grant.entry) == (Permission.WRITE, "release")
    assert grant.publish.allows(normalize("acme-tool"))
    assert not grant.publish.allows(normalize("acme-lib"))
    assert grant.subject == "github:repo:acme/tool:environment:pypi"
    assert permission(server, TEAM_B, minted) is Permission.NONE
    assert minted.expires >= NOW + LIFE_S


async def test_a_pipeline_gets_what_its_entry_says(server):
    assert permission(server, TEAM_A, await server.mint(token("gitlab", GITLAB))) is Permission.WRITE


async def test_an_entry_that_was_changed_or_removed_grants_nothing_more(server):
    minted = await server.mint(token())
    for entries in ([LIB], [AccessEntry(**{**_fields(RELEASE), "projects": ("*",)})], []):
        server.entries[TEAM_A] = compile_entries(TEAM_A, entries)
        assert permission(server, TEAM_A, minted) is Permission.NONE
    server.entries[TEAM_A] = compile_entries(TEAM_A, [RELEASE])
    assert permission(server, TEAM_A, minted) is Permission.WRITE


def _fields(entry: AccessEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


NOT_NAMED = {
    "a reusable workflow of another repository": token(
        job_workflow_ref="evil/shared/.github/workflows/release.yml@refs/heads/main"
    ),
    "a reusable workflow of the same owner": token(
        job_workflow_ref="acme/shared/.github/workflows/release.yml@refs/heads/main"
    ),
    "a name that somebody else registered again": token(repository_owner_id="4712", repository_id="75"),
    "a repository that was transferred": token(repository_owner="other", repository_owner_id="99"),
    "a fork": token(repository="evil/tool", repository_owner="evil", repository_owner_id="666"),
    "another workflow": token(job_workflow_ref="acme/tool/.github/workflows/test.yml@refs/heads/main"),
    "a workflow in a folder below": token(
        job_workflow_ref="acme/tool/.github/workflows/x/.github/workflows/release.yml@refs/heads/main"
    ),
    "no environment": token(claims={k: v for k, v in GITHUB.items() if k != "environment"}),
    "another environment": token(environment="test"),
    "an owner's number that is no text": token(repository_owner_id=4711),
    "GitHub's claims of another issuer": token("corp"),
    "GitHub's claims of GitLab": token("gitlab"),
    "another project of GitLab": token("gitlab", GITLAB, project_path="acme/lib2"),
    "a group that somebody else registered again": token("gitlab", GITLAB, namespace_id="816"),
    "a pipeline whose file another project has": token(
        "gitlab", GITLAB, ci_config_ref_uri="gitlab.com/evil/lib//.gitlab-ci.yml@refs/tags/v1"
    ),
    "another file of the pipeline": token(
        "gitlab", GITLAB, ci_config_ref_uri="gitlab.com/acme/lib//other.yml@refs/tags/v1"
    ),
    "a subject across a slash": token("corp", {"sub": "build-1/2"}),
    "nothing at all": token("corp", {}),
}


@pytest.mark.parametrize("sent", NOT_NAMED.values(), ids=NOT_NAMED)
async def test_who_is_not_named_gets_nothing_and_learns_nothing(server, sent):
    with pytest.raises(TokenRefusedError) as refused:
        await server.mint(sent)
    assert (refused.value.kind, refused.value.status) == ("invalid-publisher", 422)
    assert "team-" not in str(refused.value)
    assert refused.value.reason.startswith("not-named: ")


async def test_the_audit_alone_names_the_claims(server):
    with pytest.raises(TokenRefusedError) as refused:
        await server.mint(token(repository_owner_id="4712"))
    assert "repository_owner_id=4712" in refused.value.reason
    assert "repository=acme/tool" in refused.value.reason
    assert "4712" not in str(refused.value)
    assert "actor_id" not in refused.value.reason, "no entry asks for it"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [("jwt.~nobody~.~{}", "jwt-issuer"), ("jwt.~cluster~.~{}", "no-oidc-token"), ("pywharf_x", "no-oidc-token")],
)
async def test_what_proves_no_claims_is_refused_alike(server, sent, reason):
    with pytest.raises(TokenRefusedError) as refused:
        await server.mint(sent)
    assert (refused.value.kind, refused.value.reason) == ("invalid-token", reason)
    assert "GET /_/oidc/audience" in str(refused.value)


async def test_a_minted_token_mints_no_other(server):
    issued = await server.minting.mint(token(), "")
    with pytest.raises(TokenRefusedError):
        await server.minting.mint(issued.token, "")


async def test_entries_that_only_read_get_no_token(storages):
    server = Server(storages, {TEAM_B: [READERS]})
    with pytest.raises(TokenRefusedError):
        await server.mint(token("corp", {"sub": "build-1", "jti": "1"}))


async def test_a_token_counts_once(server):
    await server.mint(token())
    with pytest.raises(TokenRefusedError) as refused:
        await server.mint(token())
    assert (refused.value.kind, refused.value.reason) == ("token-used", "replayed")
    await server.mint(token(jti="another"))


async def test_the_same_id_of_another_issuer_is_another_token(server):
    await server.mint(token(jti="1"))
    await server.mint(token("gitlab", GITLAB, jti="1"))


async def test_a_token_without_an_id_counts_once_whatever_its_signature(server):
    sent = token("corp", {"sub": "build-1"})
    signed, other = f"{sent}".replace("}", "}.first"), f"{sent}".replace("}", "}.second")
    server.issuer.identify = _claims_of_build
    await server.mint(signed)
    with pytest.raises(TokenRefusedError) as refused:
        await server.mint(other)
    assert refused.value.kind == "token-used"


async def _claims_of_build(secret: str, address: str) -> Identified:
    del secret, address
    return Claims(issuer="corp", claims={"sub": "build-1"}, expires=NOW + 60)


async def test_one_of_a_hundred_exchanges_of_two_servers_succeeds(storages):
    repos = {TEAM_A: [RELEASE], TEAM_B: [RELEASE], RepoName("team-c"): [RELEASE]}
    servers = [Server(storages, repos), Server(storages, repos)]
    tries = [server.mint(token()) for _ in range(50) for server in servers]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in found) == 1
    assert {type(one) for one in found if isinstance(one, BaseException)} == {TokenRefusedError}


async def test_a_token_for_one_repo_leaves_out_the_others(storages):
    server = Server(storages, {TEAM_A: [RELEASE], TEAM_B: [RELEASE]})
    assert set((await server.mint(token(), TEAM_B)).entries) == {TEAM_B}
    for unknown in (RepoName("unknown"), RepoName("")):
        with pytest.raises(TokenRefusedError) as refused:
            await server.mint(token(jti="2"), unknown)
        assert refused.value.kind == "invalid-publisher"


async def test_a_token_that_was_exchanged_for_one_repo_is_used_up_for_all(storages):
    server = Server(storages, {TEAM_A: [RELEASE], TEAM_B: [RELEASE]})
    await server.mint(token(), TEAM_B)
    for only in (TEAM_A, TEAM_B, None):
        with pytest.raises(TokenRefusedError) as refused:
            await server.mint(token(), only)
        assert refused.value.kind == "token-used"


async def test_a_token_for_a_repo_whose_storage_is_down_is_not_minted(storages):
    server = Server(storages, {TEAM_A: [RELEASE], TEAM_B: [RELEASE]})
    storages.down.add(TEAM_B)
    with pytest.raises(UnavailableError):
        await server.mint(token(), TEAM_B)


async def test_a_storage_that_is_down_takes_only_its_own_part(storages):
    server = Server(storages, {TEAM_A: [RELEASE], TEAM_B: [RELEASE]})
    storages.down.add(TEAM_A)
    assert set((await server.mint(token())).entries) == {TEAM_B}


async def test_storages_that_hang_take_only_their_own_part(storages, monkeypatch):
    monkeypatch.setattr(used_tokens, "_CLAIM_S", 0.02)
    names = [RepoName(f"a-{n}") for n in range(20)]
    storages.hanging.update(names)
    server = Server(storages, {**{name: [RELEASE] for name in names}, TEAM_B: [RELEASE]})
    assert set((await server.mint(token())).entries) == {TEAM_B}


async def test_without_any_storage_there_is_no_token(storages):
    server = Server(storages, {TEAM_A: [RELEASE], TEAM_B: [RELEASE]})
    storages.down.update((TEAM_A, TEAM_B))
    with pytest.raises(UnavailableError):
        await server.mint(token())


EVERYBODY = AccessEntry(
    name="e" * 63, permission="Publish", oidc=Oidc(issuer="github", claims={"repository": "acme/*"})
)


@pytest.mark.parametrize(
    "named", [lambda n: f"aaa-{n}", lambda n: f"{n:02}" + "x" * 61], ids=["many repos", "long names"]
)
async def test_repos_whose_entries_name_everybody_take_nothing_from_others(storages, named):
    server = Server(storages, {TEAM_A: [RELEASE], **{RepoName(named(n)): [EVERYBODY] for n in range(MAX_REPOS)}})
    for n in range(10):
        minted = await server.mint(token(jti=str(n)))
        assert TEAM_A in minted.entries
        assert 0 < len(minted.entries) <= MAX_REPOS


async def test_no_name_has_the_first_position_in_each_token(storages):
    """Of more repos than a token holds, all of which name the very workflow, each is in some tokens."""
    names = {RepoName(f"team-{n}") for n in range(MAX_REPOS + 8)}
    server = Server(storages, {name: [RELEASE] for name in names})
    held = [set((await server.mint(token(jti=str(n)))).entries) for n in range(20)]
    assert {len(one) for one in held} == {MAX_REPOS}
    assert set.union(*held) == names
    assert set((await server.mint(token(), RepoName("team-7"))).entries) == {"team-7"}


async def test_a_token_is_used_up_for_all_repos_however_many(storages):
    crowd = {RepoName(f"aaa-{n}"): [RELEASE] for n in range(3 * MAX_REPOS)}
    first, second = (Server(storages, {TEAM_A: [RELEASE], RepoName("team-z"): [RELEASE], **crowd}) for _ in range(2))
    await first.mint(token(), TEAM_A)
    for only in (RepoName("team-z"), None, *crowd):
        with pytest.raises(TokenRefusedError) as refused:
            await second.mint(token(), only)
        assert refused.value.kind == "token-used"


async def test_a_token_for_all_repos_is_used_up_for_those_that_it_leaves_out(storages):
    crowd = {RepoName(f"team-{n}"): [RELEASE] for n in range(MAX_REPOS + 8)}
    first, second = (Server(storages, crowd) for _ in range(2))
    minted = await first.mint(token())
    for left_out in crowd.keys() - minted.entries.keys():
        with pytest.raises(TokenRefusedError):
            await second.mint(token(), left_out)


async def test_others_run_while_entries_are_compared(storages, monkeypatch):
    """However many entries the repos have, no more than those of one repo are compared in one step."""
    one = AccessEntry(name="a", permission="Publish", oidc=Oidc(issuer="gitlab", claims={"sub": "*x"}))
    entries = [AccessEntry(**{**_fields(one), "name": f"e{n}"}) for n in range(MAX_ENTRIES)]
    server = Server(storages, {RepoName(f"team-{n}"): entries for n in range(20)})
    compared, steps = 0, []
    fits = Asked.fits

    def counted(asked: Asked, given: Claims) -> bool:
        nonlocal compared
        compared += 1
        return fits(asked, given)

    async def tick() -> None:
        nonlocal compared
        while True:
            steps.append(compared)
            compared = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(Asked, "fits", counted)
    ticking = asyncio.create_task(tick())
    with pytest.raises(TokenRefusedError):
        await server.mint(token("gitlab", GITLAB))
    ticking.cancel()
    assert sum(steps) + compared == 20 * MAX_ENTRIES
    assert max(steps) <= MAX_ENTRIES


async def test_a_token_that_lives_for_days_is_refused(server):
    server.issuer.expires = NOW + 2 * 24 * 3600
    with pytest.raises(TokenRefusedError) as refused:
        await server.mint(token())
    assert refused.value.reason == "lives-too-long"


async def test_an_expired_entry_mints_nothing(storages):
    ended = AccessEntry(**{**_fields(RELEASE), "expires": datetime.fromtimestamp(NOW, UTC)})
    with pytest.raises(TokenRefusedError):
        await Server(storages, {TEAM_A: [ended]}).mint(token())


async def test_a_burned_token_ends_on_all_servers(storages):
    one, other = (Server(storages, {TEAM_A: [RELEASE]}) for _ in range(2))
    issued = await one.minting.mint(token(), "")
    assert [await s.used.is_spent(TEAM_A, issued.minted, "") for s in (one, other)] == [False, False]
    assert await one.minting.burn(issued.token) == used_tokens.Burned(issued.minted, (TEAM_A,), is_everywhere=True)
    for server in (one, other):
        assert await server.minting.burn(issued.token) == used_tokens.Burned(issued.minted, (), is_everywhere=True)
    assert await one.used.is_spent(TEAM_A, issued.minted, "")
    other.now += 1.1
    assert await other.used.is_spent(TEAM_A, issued.minted, "")


async def test_the_storage_is_asked_once_a_second(storages):
    server = Server(storages, {TEAM_A: [RELEASE]})
    minted = (await server.minting.mint(token(), "")).minted
    assert not await server.used.is_spent(TEAM_A, minted, "")
    storages.down.add(TEAM_A)
    assert not await server.used.is_spent(TEAM_A, minted, "")
    server.now += 1.1
    with pytest.raises(UnavailableError):
        await server.used.is_spent(TEAM_A, minted, "")


async def test_a_burn_that_not_every_server_will_know_says_so(storages):
    server = Server(storages, {TEAM_A: [RELEASE]})
    issued = await server.minting.mint(token(), "")
    storages.down.add(TEAM_A)
    assert await server.minting.burn(issued.token) == used_tokens.Burned(issued.minted, (), is_everywhere=False)
    assert await server.used.is_spent(TEAM_A, issued.minted, ""), "here it has ended"


@pytest.mark.parametrize("text", ["nothing", "pywharf_x", PREFIX + "AAAA", "eyJ.e30.x"])
async def test_burning_anything_else_does_nothing(server, text):
    assert await server.minting.burn(text) is None


async def test_a_token_of_another_key_is_nobodys(storages):
    issued = await Server(storages, {TEAM_A: [RELEASE]}, b"one key").minting.mint(token(), "")
    found = await Server(storages, {TEAM_A: [RELEASE]}, b"another").verifier.identify(issued.token, "")
    assert found == Unverified("minted-token")


async def test_claims_in_memory_are_bounded_and_never_forget_a_valid_one():
    now = NOW
    claims = ClaimsInMemory(lambda: now)
    for n in range(MAX_CLAIMS):
        assert await claims.claim(str(n), int(NOW) + 60)
    with pytest.raises(UnavailableError):
        await claims.claim("more", int(NOW) + 60)
    assert not await claims.claim("0", int(NOW) + 60)
    now += 3600
    assert await claims.claim("more", int(now) + 60)
    assert not await claims.is_claimed("0")


@pytest.fixture
def gatekeeper(server: Server) -> Gatekeeper:
    keeper = Gatekeeper(60, 60, (server.issuer, server.verifier), lambda: server.now, server.used.is_spent)
    keeper.replace({name: Credentials(entries=entries) for name, entries in server.entries.items()}, {})
    return keeper


async def admitted(gatekeeper: Gatekeeper, repo: RepoName, secret: str) -> Decision:
    return await gatekeeper.admit(repo, secret, Permission.WRITE, "192.0.2.1")


async def test_a_server_admits_a_minted_token_until_it_is_burned(server, gatekeeper):
    issued = await server.minting.mint(token(), "")
    decision = await admitted(gatekeeper, TEAM_A, issued.token)
    assert isinstance(decision, Admitted)
    assert (decision.grant.permission, decision.grant.entry) == (Permission.WRITE, "release")
    await server.minting.burn(issued.token)
    assert await admitted(gatekeeper, TEAM_A, issued.token) == Refused("burned", issued.minted.subject)


async def test_a_storage_that_cannot_be_asked_admits_nobody_by_a_minted_token(server, gatekeeper, storages):
    issued = await server.minting.mint(token(), "")
    storages.down.add(TEAM_A)
    with pytest.raises(UnavailableError):
        await admitted(gatekeeper, TEAM_A, issued.token)


async def test_a_repo_that_a_token_is_not_for_asks_no_storage(server, gatekeeper, storages):
    issued = await server.minting.mint(token(), "")
    storages.down.add(TEAM_B)
    for repo in (TEAM_B, RepoName("nobody")):
        assert await admitted(gatekeeper, repo, issued.token) == Refused("not-named", issued.minted.subject)


async def test_a_minted_token_ends_with_its_time(server, gatekeeper):
    issued = await server.minting.mint(token(), "")
    server.now += LIFE_S - 1
    assert isinstance(await admitted(gatekeeper, TEAM_A, issued.token), Admitted)
    server.now += 2
    assert await admitted(gatekeeper, TEAM_A, issued.token) == Refused("minted-token")


async def test_a_token_that_was_exchanged_publishes_no_longer_itself(server, gatekeeper, storages):
    assert isinstance(await admitted(gatekeeper, TEAM_A, token()), Admitted)
    await server.minting.mint(token(), "")
    assert await admitted(gatekeeper, TEAM_A, token()) == Refused("replayed", "github:repo:acme/tool:environment:pypi")
    assert isinstance(await gatekeeper.admit(TEAM_A, token(), Permission.READ), Admitted)
    storages.down.add(TEAM_A)
    assert isinstance(await gatekeeper.admit(TEAM_A, token(), Permission.READ), Admitted)
    with pytest.raises(UnavailableError):
        await admitted(gatekeeper, TEAM_A, token(jti="another"))
