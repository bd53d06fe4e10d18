"""The calls of trusted publishing: what clients send and read, refusals alike for all, and bounds."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pywharf.core.access.identity_document import IdentityDocument
from pywharf.core.access.minted import PREFIX
from pywharf.core.forwarded import TrustedProxies
from pywharf.serving.audit_log import LOGGER_NAME, AuditLog
from pywharf.serving.brake import Brake
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.metrics import Metrics
from pywharf.serving.slots import Slots
from pywharf.web import oidc
from pywharf.web.keys import AUDIT_LOG, BRAKE, GATEKEEPER, METRICS, MINTING, MINTS, TRUSTED_PROXIES
from support.server.minting import LIB, NOW, RELEASE, TEAM_A, TEAM_B, Server, Storages, token

SLOTS = 9
SECURE = {"X-Forwarded-Proto": "https"}
PYTP = "application/vnd.pypi.pytp.v1+json"


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    app = web.Application()
    app[MINTS] = Slots(SLOTS, "exchanges")
    app[MINTING] = server.minting
    app[GATEKEEPER], app[METRICS] = Gatekeeper(60, 60), Metrics()
    app[BRAKE], app[AUDIT_LOG], app[TRUSTED_PROXIES] = Brake(), AuditLog(), TrustedProxies()
    app.router.add_get(oidc.AUDIENCE, oidc.give_audience)
    app.router.add_post(oidc.MINT, oidc.mint)
    app.router.add_post(oidc.BURN, oidc.burn)
    app.router.add_get(oidc.DISCOVERY, oidc.discover)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.json = json.loads(body)

    @property
    def code(self) -> str:
        """Return the error's code, as twine, uv and the action for GitHub read it."""
        assert self.json["message"]
        (error,) = self.json["errors"]
        assert error["description"] == self.json["detail"], "RFC 9457 and PyPI's form say the same"
        return str(error["code"])


async def ask(url: str, body: bytes | None = None, headers: dict[str, str] = SECURE) -> Answer:
    skipped = [] if "Accept" in headers else ["Accept"]
    async with aiohttp.ClientSession(skip_auto_headers=[*skipped, "Content-Type"]) as session:
        sending = session.get(url, headers=headers) if body is None else session.post(url, data=body, headers=headers)
        async with sending as response:
            return Answer(response.status, response.headers, await response.read())


def sent(of: str, **other: Any) -> bytes:
    return json.dumps({"token": of, **other}).encode()


@pytest.fixture
def storages() -> Storages:
    return Storages()


@pytest.fixture
async def server(storages: Storages) -> Server:
    return Server(storages, {TEAM_A: [RELEASE], TEAM_B: [RELEASE, LIB]})


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with serving(server) as made:
        yield made


async def test_a_client_of_pypi_exchanges_its_token(url, server):
    audience = await ask(url + oidc.AUDIENCE)
    assert (audience.status, audience.json) == (200, {"audience": "pywharf"})
    minted = await ask(url + oidc.MINT, sent(token()))
    assert minted.status == 200
    assert minted.json["success"] is True
    assert minted.json["token"].startswith(PREFIX)
    assert 900 <= minted.json["expires"] - NOW <= 901
    assert minted.headers["Cache-Control"] == "no-store"
    holder = await server.verifier.identify(minted.json["token"], "")
    assert set(holder.entries) == {TEAM_A, TEAM_B}


async def test_a_token_is_burned(url, server):
    minted = (await ask(url + oidc.MINT, sent(token()))).json["token"]
    holder = await server.verifier.identify(minted, "")
    assert not await server.used.is_spent(TEAM_A, holder, "")
    burned = await ask(url + oidc.BURN, sent(minted))
    assert (burned.status, burned.json) == (202, {"message": "Accepted"})
    assert await server.used.is_spent(TEAM_A, holder, "")


@pytest.mark.parametrize("text", ["pypi-AgEIcHlwaS5vcmc", PREFIX + "A" * 60, "x"])
async def test_to_burn_anything_is_answered_alike(url, text):
    assert (await ask(url + oidc.BURN, sent(text))).status == 202


async def test_a_burn_that_is_not_recorded_says_so(url, storages):
    minted = (await ask(url + oidc.MINT, sent(token()))).json["token"]
    storages.down.add(TEAM_A)
    burned = await ask(url + oidc.BURN, sent(minted))
    assert (burned.status, burned.code) == (503, "unavailable")
    assert "Retry-After" in burned.headers


async def test_discovery_asks_for_a_token_of_one_repo(url, server):
    found = await ask(f"{url}{oidc.DISCOVERY}?discover=%2Frepo%2Fteam-b%2Fsimple%2F")
    assert found.status == 200
    assert found.headers["Content-Type"] == PYTP
    host = url.removeprefix("http://")
    assert found.json == {
        "audience-endpoint": f"https://{host}/_/oidc/audience",
        "token-mint-endpoint": f"https://{host}/_/oidc/mint-token?repo=team-b",
        "features": ["multi-use-token"],
        "default-features": ["multi-use-token"],
    }
    minted = await ask(found.json["token-mint-endpoint"].replace("https:", "http:"), sent(token()))
    assert set((await server.verifier.identify(minted.json["token"], "")).entries) == {TEAM_B}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/repo/team-a/simple/", 200),
        ("/repo/team-a/simple", 200),
        ("/repo/nobody/simple/", 200),
        ("/simple/", 404),
        ("/legacy/", 404),
        ("/repo/../simple/", 404),
        ("/repo/a b/simple/", 404),
        ("/repo/team-a/simple/acme/", 404),
        ("", 404),
    ],
)
async def test_discovery_tells_nothing_of_which_repos_exist(url, path, status):
    found = await ask(f"{url}{oidc.DISCOVERY}?discover={path.replace('/', '%2F').replace(' ', '%20')}")
    assert found.status == status
    assert status == 200 or found.code == "not-found"


async def test_unknown_and_other_repos_are_refused_alike(url):
    answers = [await ask(f"{url}{oidc.MINT}?repo={name}", sent(token("gitlab"))) for name in ("team-a", "no", "a%20b")]
    assert {(a.status, a.code) for a in answers} == {(422, "invalid-publisher")}
    bodies = [{**a.json, "request_id": None} for a in answers]
    assert bodies == [bodies[0]] * 3


REFUSED = {
    "no JSON": (b"token=abc", 422, "invalid-payload"),
    "nothing": (b"", 422, "invalid-payload"),
    "a list": (b"[]", 422, "invalid-payload"),
    "no token": (b"{}", 422, "invalid-payload"),
    "a number": (b'{"token": 1}', 422, "invalid-payload"),
    "an empty token": (sent(""), 422, "invalid-payload"),
    "no UTF-8": (b'{"token": "\xff"}', 422, "invalid-payload"),
    "half a surrogate": (b'{"token": "\\ud800"}', 422, "invalid-payload"),
    "a token over 8 KiB": (sent("a" * 8193), 422, "invalid-payload"),
    "a body over 16 KiB": (sent("a", more="b" * 17_000), 413, "too-large"),
    "deeply nested": (b'{"x":' + b"[" * 9_000 + b"]" * 7_000, 422, "invalid-payload"),
    "no token of an issuer": (sent("pypi-abc"), 422, "invalid-token"),
    "nobody's": (sent("jwt.~nobody~.~{}"), 422, "invalid-token"),
    "not named": (sent(token(repository="acme/other")), 422, "invalid-publisher"),
    "a feature that is not offered": (sent(token(), features=["single-use-token"]), 422, "unsupported-feature"),
}


@pytest.mark.parametrize(("body", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_exchanged(url, body, status, code):
    answer = await ask(url + oidc.MINT, body)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "team-" not in answer.body.decode()
    assert "4711" not in answer.body.decode()


async def test_a_feature_that_is_offered_may_be_asked_for(url):
    assert (await ask(url + oidc.MINT, sent(token(), features=["multi-use-token"]))).status == 200


@pytest.mark.parametrize("content_type", [None, "application/json", "application/octet-stream", "text/plain"])
async def test_the_content_type_does_not_count(url, content_type):
    headers = SECURE if content_type is None else SECURE | {"Content-Type": content_type}
    assert (await ask(url + oidc.MINT, sent(token()), headers)).status == 200


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        (None, 200, PYTP),
        (PYTP, 200, PYTP),
        ("*/*", 200, "application/json"),
        ("application/json", 200, "application/json"),
        ("application/json;q=0.9, text/plain", 200, "application/json"),
        ("application/xml", 406, "application/problem+json"),
    ],
)
async def test_what_clients_accept(url, accept, status, media_type):
    answer = await ask(url + oidc.AUDIENCE, headers=SECURE if accept is None else SECURE | {"Accept": accept})
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (status, media_type)


CALLS = [
    (oidc.AUDIENCE, None),
    (oidc.MINT, sent(token())),
    (oidc.BURN, sent("x")),
    (f"{oidc.DISCOVERY}?discover=%2Frepo%2Fteam-a%2Fsimple%2F", None),
]


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_nothing_goes_over_plain_http(url, path, body):
    for headers in ({}, {"X-Forwarded-Proto": "http"}):
        answer = await ask(url + path, body, headers)
        assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_a_server_that_believes_no_issuer_offers_nothing(server, url, path, body):
    server.minting.replace(IdentityDocument())
    answer = await ask(url + path, body)
    assert (answer.status, answer.code) == (404, "not-found")


async def test_a_storage_that_cannot_be_asked_is_an_error(url, storages):
    storages.down.update((TEAM_A, TEAM_B))
    answer = await ask(url + oidc.MINT, sent(token()))
    assert (answer.status, answer.code) == (503, "unavailable")


async def test_a_used_token_is_refused(url):
    assert (await ask(url + oidc.MINT, sent(token()))).status == 200
    assert (await ask(url + oidc.MINT, sent(token()))).code == "token-used"


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == LOGGER_NAME]


async def test_each_repo_of_a_minted_token_is_audited_once(url, storages, caplog):
    caplog.set_level("INFO", LOGGER_NAME)
    minted = (await ask(url + oidc.MINT, sent(token()))).json["token"]
    storages.down.add(TEAM_A)
    for _ in range(2):
        assert (await ask(url + oidc.BURN, sent(minted))).status == 503
    storages.down.clear()
    for _ in range(10):
        assert (await ask(url + oidc.BURN, sent(minted))).status == 202
    lines = audited(caplog)
    said = [(line["event"], line["repo"], line.get("entry"), line["subject"]) for line in lines]
    subject = "github:repo:acme/tool:environment:pypi"
    assert said == [
        ("mint", "team-a", "release", subject),
        ("mint", "team-b", "release", subject),
        ("burn", "team-b", None, subject),
        ("burn", "team-a", None, subject),
    ]
    assert len({line["token"] for line in lines}) == 1
    assert minted not in caplog.text


async def test_a_refusal_names_the_claims_in_the_audit_alone(url, caplog):
    caplog.set_level("INFO", LOGGER_NAME)
    answer = await ask(url + oidc.MINT, sent(token(repository_owner_id="4712")))
    (line,) = audited(caplog)
    assert (line["event"], line["status"], line["subject"]) == (
        "refusal",
        422,
        "github:repo:acme/tool:environment:pypi",
    )
    assert line["reason"].startswith("not-named: ")
    assert "repository_owner_id=4712" in line["reason"]
    assert "4712" not in answer.body.decode()


async def test_wrong_tokens_are_slowed_and_right_ones_never(url):
    count, answer = 1, await ask(url + oidc.MINT, sent("pypi-wrong"))
    while answer.status == 422 and count < 100:
        count, answer = count + 1, await ask(url + oidc.MINT, sent("pypi-wrong"))
    assert count > 20
    assert (answer.status, answer.code) == (429, "too-many-wrong-secrets")
    assert "Retry-After" in answer.headers
    assert (await ask(url + oidc.MINT, sent(token()))).status == 200


@pytest.mark.parametrize("path", [oidc.MINT, oidc.BURN])
async def test_slow_bodies_take_no_slot(url, path):
    """As many bodies as there are slots, and more, are under way when a right token is exchanged."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SLOTS + 3):
            await stack.enter_async_context(sending_slowly(url, path))
        minted = await ask(url + oidc.MINT, sent(token()))
        assert minted.status == 200
        assert (await ask(url + oidc.BURN, sent(minted.json["token"]))).status == 202


@contextlib.asynccontextmanager
async def sending_slowly(url: str, path: str) -> AsyncIterator[None]:
    """Send a request whose body the server waits for, as it says itself."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST {path} HTTP/1.1", f"Host: {host}", "X-Forwarded-Proto: https", "Content-Length: 99"
        writer.write("\r\n".join([*head, "Expect: 100-continue", "", ""]).encode())
        assert (await reader.readline()).split()[1] == b"100"
        yield
    finally:
        writer.close()
