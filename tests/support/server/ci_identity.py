"""An OIDC issuer of CI jobs, whose keys a server has inline, and the service that gives GitHub's jobs their tokens."""

import contextlib
import functools
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from support.background import in_background
from support.server.minting import GITHUB, GITLAB

_KEY_ID = "key-1"
_JOB_SECRET = "the-secret-of-the-job"


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def identity_document(audience: str = "pywharf") -> dict[str, Any]:
    """Return the document of a server that believes GitHub and GitLab, both with the test's key."""
    public = jwt.algorithms.ECAlgorithm.to_jwk(_key().public_key(), as_dict=True)
    keys = {"keys": [{**public, "kid": _KEY_ID, "use": "sig", "alg": "ES256"}]}
    issuers = [("github", GITHUB["iss"]), ("gitlab", GITLAB["iss"])]
    return {"audience": audience, "issuers": [{"name": n, "url": url, "jwks": keys} for n, url in issuers]}


def signed(claims: Mapping[str, Any] = GITHUB, **other: Any) -> str:
    """Return a new token with the claims; `other` replaces some."""
    now = int(time.time())
    whole = {**claims, "jti": secrets.token_hex(8), "iat": now, "nbf": now - 5, "exp": now + 300, **other}
    return jwt.encode(whole, _key(), algorithm="ES256", headers={"kid": _KEY_ID})


@dataclass
class GithubJob:
    """A job of GitHub Actions that may ask for tokens. `environment` has what GitHub sets for it."""

    url: str
    claims: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "CI": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/idtoken?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": _JOB_SECRET,
        }


@contextlib.contextmanager
def github_job(**claims: Any) -> Iterator[GithubJob]:
    """Run GitHub's service for one job within the context. `claims` replace some of the token's."""
    job = GithubJob("", {**GITHUB, **claims})

    async def give(request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").lower() != f"bearer {_JOB_SECRET}":
            return web.Response(status=401)
        token = signed(job.claims, aud=request.query["audience"])
        return web.Response(text=json.dumps({"value": token}), content_type="application/json")

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/idtoken", give)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        job.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    with in_background(serving(), "GitHub's tokens"):
        yield job


def gitlab_job(**claims: Any) -> dict[str, str]:
    """Return what GitLab sets for a job with a token for the audience pywharf. `claims` replace some of the token's."""
    return {"GITLAB_CI": "true", "CI": "true", "PYWHARF_ID_TOKEN": signed(GITLAB, **claims)}
