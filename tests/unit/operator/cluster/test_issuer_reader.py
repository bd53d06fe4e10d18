"""How the cluster's issuer and keys are followed. A double stands for the API server, to fail when a test says so."""

import asyncio
import base64
import json
from typing import Any

import pytest

from pywharf_operator.cluster import issuer_reader
from pywharf_operator.cluster.issuer_reader import DISCOVERY_PATH, KEYS_PATH, IssuerReader
from pywharf_operator.cluster.kube import Json, KubeError
from pywharf_operator.spec import ObjectKey
from support.operator.spec_changes import JWKS

ISSUER = "https://kubernetes.default.svc.cluster.local"
KEY: Json = json.loads(JWKS)["keys"][0]
FORBIDDEN = KubeError(403, "Forbidden", "no")
BROKEN = KubeError(None, "Unreachable", "the API server was not reached")
SERVER = ObjectKey("packages", "pywharf")


def key(kid: str) -> Json:
    return KEY | {"kid": kid}


def token(**claims: Any) -> str:
    """Return a token as the operator's own, whose signature nobody here verifies."""
    parts = (b"{}", json.dumps(claims).encode(), b"s")
    return ".".join(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts)


class ApiServer:
    def __init__(self) -> None:
        self.issuer = ISSUER
        self.keys: list[Json] = [key("a")]
        self.fault: KubeError | None = None
        self.own = ""
        self.reads = 0

    async def document(self, path: str, most: int) -> Json:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        documents: dict[str, Json] = {
            DISCOVERY_PATH: {"issuer": self.issuer, "jwks_uri": "x"},
            KEYS_PATH: {"keys": self.keys},
        }
        return documents[path]

    async def token(self) -> str:
        if self.own == "unreadable":
            raise FileNotFoundError
        return self.own


def reading(api: Any) -> IssuerReader:
    return IssuerReader(api)


async def first(reader: IssuerReader) -> Any:
    return await reader.keys(SERVER)


async def again(reader: IssuerReader) -> Any:
    """Read once more, as `run` does when its time has come."""
    await reader.follow()
    return await reader.keys(SERVER)


def kids(found: Any) -> list[str]:
    return [one["kid"] for one in found.found.jwks["keys"]]


async def test_the_keys_are_read_once_and_in_order():
    api = ApiServer()
    api.keys = [key("b"), key("a") | {"x5u": "https://evil.example"}]
    reader = reading(api)
    found = await first(reader)
    assert (found.fault, found.found.issuer) == (None, ISSUER)
    assert found.found.jwks["keys"] == [key("a"), key("b")]
    assert await reader.keys(ObjectKey("packages", "other")) is found
    assert api.reads == 2


async def test_a_new_key_is_taken_and_an_old_one_stays_for_a_while():
    """API servers restart one by one: those that have not yet do not know the new key, the others sign with it."""
    api = ApiServer()
    reader = reading(api)
    assert kids(await first(reader)) == ["a"]
    api.keys = [key("a"), key("b")]
    assert kids(await again(reader)) == ["a", "b"]
    api.keys = [key("a")]
    assert kids(await again(reader)) == ["a", "b"]
    api.keys = [key("b")]
    for _ in range(issuer_reader.ABSENCES - 1):
        assert kids(await again(reader)) == ["a", "b"]
    assert kids(await again(reader)) == ["b"]


@pytest.mark.parametrize("keys", [[], ["a"], [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}], [{"kid": "a"}], None, 7])
async def test_what_is_no_key_is_not_delivered(keys):
    api = ApiServer()
    reader = reading(api)
    before = await first(reader)
    api.keys = keys
    found = await again(reader)
    assert found == before
    api.keys = [*(keys if isinstance(keys, list) else ()), key("b")]
    assert kids(await again(reader)) == ["a", "b"]


async def test_the_issuer_is_the_one_that_the_api_server_shows_now():
    api = ApiServer()
    reader = reading(api)
    assert (await first(reader)).found.issuer == ISSUER
    api.issuer = "https://new.example"
    assert (await again(reader)).found.issuer == "https://new.example"
    assert ISSUER not in str(await reader.keys(SERVER))


async def test_too_many_keys():
    api = ApiServer()
    api.keys = [key(f"k{number}") for number in range(65)]
    found = await first(reading(api))
    assert found.found is None
    assert found.fault.reason == "ClusterKeysUnreadable"
    assert "no list of at most 64 keys" in found.fault.message


async def test_the_last_keys_stay_and_a_lasting_fault_is_reported():
    api = ApiServer()
    reader = reading(api)
    before = await first(reader)
    api.fault = BROKEN
    for _ in range(issuer_reader.FAILURES - 1):
        assert await again(reader) == before
    found = await again(reader)
    assert (found.found, found.fault.reason) == (before.found, "ClusterKeysUnreadable")
    # Other words for the same fault change nothing, so that no status is written each time.
    api.fault = KubeError(None, "Unreachable", "the API server was not reached in another way")
    assert await again(reader) == found
    api.fault = None
    assert await again(reader) == before


async def test_without_the_right_the_remedy_is_named():
    api = ApiServer()
    api.fault = FORBIDDEN
    found = await first(reading(api))
    assert (found.found, found.fault.reason) == (None, "ClusterKeysForbidden")
    assert "system:service-account-issuer-discovery; bind it to the operator's ServiceAccount" in found.fault.message


@pytest.mark.parametrize(
    ("own", "issuer"),
    [
        ({"iss": ISSUER, "aud": ["https://api", 7]}, ISSUER),
        ({"iss": ISSUER, "aud": "https://api"}, ISSUER),
        ({"iss": "kubernetes/serviceaccount"}, None),
        ({"iss": 7}, None),
    ],
)
async def test_the_operators_own_token_names_the_issuer(own, issuer):
    """It is enough to ask the API server about tokens."""
    api = ApiServer()
    api.fault, api.own = FORBIDDEN, token(**own)
    found = await first(reading(api))
    assert found.fault is not None
    assert (None if found.found is None else found.found.issuer) == issuer
    assert found.found is None or found.found.audiences == ("https://api",)
    assert found.found is None or found.found.jwks == {}


@pytest.mark.parametrize("own", ["", "unreadable", "a.b", "a.b.c", "a.W10.c", f"a.{'x' * 20_000}.c", "a.é.c"])
async def test_a_token_of_another_form_names_none(own):
    api = ApiServer()
    api.own = own
    found = await first(reading(api))
    assert found.found is not None
    assert found.found.audiences == ()


async def test_the_api_servers_audiences_are_known_from_the_own_token():
    api = ApiServer()
    api.own = token(iss=ISSUER, aud=["https://kubernetes.default.svc"])
    found = await first(reading(api))
    assert found.found is not None
    assert found.found.audiences == ("https://kubernetes.default.svc",)
    reader = reading(api)
    known = await first(reader)
    api.own = "unreadable"  # for a moment, while its file is replaced
    assert await again(reader) == known
    api.own = token(iss="https://another.example", aud=["pywharf"])
    found = await first(reading(api))
    assert found.found is not None
    assert found.found.audiences == ()


async def test_only_servers_that_need_them_are_told():
    api: Any = ApiServer()
    told: list[ObjectKey] = []
    reader, other = IssuerReader(api, told.append), ObjectKey("packages", "other")
    await reader.follow()
    assert api.reads == 0
    await reader.keys(SERVER)
    await reader.keys(other)
    reader.forget(other)
    await reader.follow()
    assert told == []
    api.keys = [key("b")]
    await reader.follow()
    assert told == [SERVER]
    reads = api.reads
    reader.forget_gone([])
    await reader.follow()
    assert api.reads == reads
    # What was known is old when a server needs it again.
    assert kids(await reader.keys(SERVER)) == ["b"]
    assert api.reads == reads + 2


class Hanging(ApiServer):
    """It hangs where `hangs` is the path."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = KEYS_PATH
        self.reached = asyncio.Event()

    async def document(self, path: str, most: int) -> Json:
        found = await super().document(path, most)
        if path == self.hangs:
            self.reached.set()
            await asyncio.Event().wait()
        return found


async def test_no_reconcile_waits_for_a_read_once_keys_are_known():
    api: Any = Hanging()
    api.hangs = ""
    reader = IssuerReader(api, timeout_s=3600)
    known = await first(reader)
    api.hangs = KEYS_PATH
    following, reads = asyncio.create_task(reader.follow()), api.reads
    await api.reached.wait()
    assert [await reader.keys(ObjectKey("packages", f"s{number}")) for number in range(8)] == [known] * 8
    assert api.reads == reads + 2
    following.cancel()


async def test_all_wait_for_the_same_first_read_and_not_for_long():
    api: Any = Hanging()
    reader = IssuerReader(api, timeout_s=0.01)
    found: list[Any] = await asyncio.gather(*(reader.keys(ObjectKey("packages", f"s{number}")) for number in range(8)))
    assert api.reads == 2
    (fault,) = {(one.found, one.fault.reason) for one in found}
    assert fault == (None, "ClusterKeysUnreadable")
    assert "did not answer within 0.01 seconds" in found[0].fault.message
    # A failed read is not repeated by the next reconcile either, but by `follow`.
    assert await first(reader) == found[0]
    assert api.reads == 2
    api.hangs = ""
    assert kids(await again(reader)) == ["a"]


async def test_who_is_cancelled_takes_nobody_else_along():
    api: Any = Hanging()
    reader = IssuerReader(api, timeout_s=3600)
    gone = asyncio.create_task(reader.keys(SERVER))
    await api.reached.wait()
    waits = asyncio.create_task(reader.keys(SERVER))
    api.hangs = ""
    gone.cancel()
    assert kids(await waits) == ["a"]


async def test_faults_by_turns_are_one_fault_for_a_while():
    """Several API servers fail in ways of their own; each change of the reason would be a write of each status."""
    api: Any = ApiServer()
    told: list[ObjectKey] = []
    reader = IssuerReader(api, told.append)
    api.fault = BROKEN
    before = await first(reader)
    assert before.fault.reason == "ClusterKeysUnreadable"
    for number in range(20):
        api.fault = (FORBIDDEN, BROKEN)[number % 2]
        assert await again(reader) == before
    assert told == []
    api.fault = FORBIDDEN
    for _ in range(issuer_reader.OTHER_FAULTS - 1):
        assert await again(reader) == before
    assert (await again(reader)).fault.reason == "ClusterKeysForbidden"
    assert told == [SERVER]
