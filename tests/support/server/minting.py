"""Minting without a server: a double of the issuer, storages that may be out of order, and claims as CIs send them."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from pywharf.core.access import identity_document
from pywharf.core.access.deciding import CompiledEntries, compile_entries
from pywharf.core.access.entries import AccessEntry, Github, Gitlab, Oidc
from pywharf.core.access.identities import Claims, Minted, ServiceAccount
from pywharf.core.access.minted import PREFIX, MintingKey
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.names import RepoName
from pywharf.index.claims_in_memory import ClaimsInMemory
from pywharf.serving.identification import Identified, Unverified
from pywharf.serving.trusted_publishing.minting import MintedVerifier, Minting
from pywharf.serving.trusted_publishing.used_tokens import UsedTokens

NOW = 1_800_000_000.0
TEAM_A, TEAM_B = RepoName("team-a"), RepoName("team-b")

GITHUB = {
    "jti": "example-id",
    "sub": "repo:acme/tool:environment:pypi",
    "aud": "pywharf",
    "environment": "pypi",
    "ref": "refs/tags/v1",
    "sha": "b" * 40,
    "repository": "acme/tool",
    "repository_owner": "acme",
    "actor_id": "12",
    "repository_visibility": "private",
    "repository_id": "74",
    "repository_owner_id": "4711",
    "run_id": "1",
    "workflow": "release",
    "workflow_ref": "acme/tool/.github/workflows/release.yml@refs/tags/v1",
    "job_workflow_ref": "acme/tool/.github/workflows/release.yml@refs/tags/v1",
    "event_name": "push",
    "ref_type": "tag",
    "runner_environment": "github-hosted",
    "iss": "https://token.actions.githubusercontent.com",
}
"""What GitHub sends for a job of acme/tool that runs in the environment pypi."""
GITLAB = {
    "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
    "sub": "project_path:acme/lib:ref_type:tag:ref:v1",
    "aud": "pywharf",
    "namespace_id": "815",
    "namespace_path": "acme",
    "project_id": "20",
    "project_path": "acme/lib",
    "user_id": "1",
    "user_login": "dev",
    "pipeline_id": "574",
    "pipeline_source": "push",
    "job_id": "302",
    "ref": "v1",
    "ref_type": "tag",
    "ref_path": "refs/tags/v1",
    "ref_protected": "true",
    "environment": "production",
    "environment_protected": "true",
    "runner_environment": "self-hosted",
    "project_visibility": "private",
    "ci_config_ref_uri": "gitlab.com/acme/lib//.gitlab-ci.yml@refs/tags/v1",
    "iss": "https://gitlab.com",
}

RELEASE = AccessEntry(
    name="release",
    permission="Publish",
    projects=("acme-tool",),
    github=Github(repository="acme/tool", workflow="release.yml", environment="pypi", owner_id=4711),
)
LIB = AccessEntry(
    name="lib",
    permission="Publish",
    gitlab=Gitlab(project="acme/lib", namespace_id=815, environment="production"),
)
BUILDS = AccessEntry(name="builds", permission="Publish", oidc=Oidc(issuer="corp", claims={"sub": "build-*"}))
READERS = AccessEntry(name="readers", permission="Read", oidc=Oidc(issuer="corp", claims={"sub": "build-*"}))


class Issuer:
    """A double of the verifier of JWTs: a token is ISSUER and its claims as JSON, between dots."""

    expires = NOW + 300

    def plausible(self, secret: str) -> bool:
        return secret.startswith("jwt.")

    async def identify(self, secret: str, address: str) -> Identified:
        del address
        _, issuer, _, claims = secret.split("~")
        if issuer == "nobody":
            return Unverified("jwt-issuer")
        if issuer == "cluster":
            return ServiceAccount("ml", "trainer")
        return Claims(issuer=issuer, claims=json.loads(claims), expires=self.expires)


def token(issuer: str = "github", claims: Mapping[str, Any] = GITHUB, **other: Any) -> str:
    return f"jwt.~{issuer}~.~{json.dumps({**claims, **other})}"


class Storages:
    """The claims of each repo, and which storages are out of order."""

    def __init__(self) -> None:
        self.claims: dict[RepoName, ClaimsInMemory] = {}
        self.down: set[RepoName] = set()
        self.hanging: set[RepoName] = set()

    def of(self, repo: RepoName) -> "Storage":
        return Storage(self, repo)


class Storage:
    def __init__(self, storages: Storages, repo: RepoName) -> None:
        self._storages, self._repo = storages, repo
        self._claims = storages.claims.setdefault(repo, ClaimsInMemory(lambda: NOW))

    async def claim(self, name: str, until: int) -> bool:
        await self._answer()
        return await self._claims.claim(name, until)

    async def is_claimed(self, name: str) -> bool:
        await self._answer()
        return await self._claims.is_claimed(name)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self._repo in self._storages.hanging:
            await asyncio.Event().wait()
        if self._repo in self._storages.down:
            raise BackendUnavailableError("The storage is down.")


class Server:
    """What one server needs to mint; several may share the storages."""

    def __init__(self, storages: Storages, repos: Mapping[RepoName, list[AccessEntry]], key: bytes = b"key") -> None:
        self.now = NOW
        self.entries: dict[RepoName, CompiledEntries] = {n: compile_entries(n, es) for n, es in repos.items()}
        self.used = UsedTokens(storages.of, lambda: self.now)
        self.issuer = Issuer()
        signing = MintingKey(key)
        self.minting = Minting(
            signing,
            self.issuer,
            entries=lambda: self.entries,
            used=self.used,
            clock=lambda: self.now,
        )
        self.minting.replace(
            identity_document.IdentityDocument(
                issuers=(identity_document.Issuer(name="github", url="https://example.org"),)
            )
        )
        self.verifier = MintedVerifier(signing, lambda: self.now)

    async def mint(self, sent: str, only: RepoName | None = None) -> Minted:
        """Mint, and return whom the token proves."""
        issued = await self.minting.mint(sent, "192.0.2.1", only)
        assert issued.token.startswith(PREFIX)
        assert issued.token not in repr(issued)
        read = await self.verifier.identify(issued.token, "")
        assert read == issued.minted
        assert isinstance(read, Minted)
        return read
