"""A pod's answer may be long, arrive in pieces, or be hostile; each yields a report."""

import asyncio

import aiohttp
import msgspec
import pytest
from aiohttp import web

from pywharf_operator.reconciling import replica_client as replicas
from pywharf_operator.status.programmed import ReplicaReport

BROKEN = {f"repo-{number}": {"code": "broken", "message": "why " * 50} for number in range(500)}
LONG = msgspec.json.encode({"digest": "abc", "broken": BROKEN})


@pytest.fixture
def answered(monkeypatch):
    """Return a function that reads the report from a pod whose answer arrives in the given pieces."""

    async def answered(
        *pieces: bytes, headers: dict[str, str] | None = None, address: str = "127.0.0.1"
    ) -> ReplicaReport:
        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            for piece in pieces:
                await response.write(piece)
                await asyncio.sleep(0.02)
            return response

        application = web.Application()
        application.router.add_get("/config", handle)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, 0).start()
            monkeypatch.setattr(replicas, "INTERNAL_PORT", runner.addresses[0][1])
            async with aiohttp.ClientSession() as client:
                pod = {"metadata": {"name": "pod"}, "status": {"podIP": address}}
                (report,) = await replicas.ask(client, [pod])
                return report
        finally:
            await runner.cleanup()

    return answered


async def test_a_pod_of_an_ipv6_cluster_is_asked(answered):
    report = await answered(b'{"digest": "abc"}', address="::1")
    assert (report.digest, report.failure) == ("abc", None)


async def test_an_answer_in_pieces_is_read_to_its_end(answered):
    report = await answered(LONG[:10], LONG[10:50_000], LONG[50_000:])
    assert (report.digest, report.failure) == ("abc", None)
    assert set(report.broken) == set(BROKEN)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"digest": "a", "other": ' + b"[" * 100_000, "its answer cannot be read"),
        (b'{"digest": "\xff"}', "its answer cannot be read"),
        (b"{", "its answer cannot be read"),
        (b'{"digest": 1}', "its answer cannot be read"),
        (b'{"digest": "' + b"a" * 5_000_000 + b'"}', "its answer is too long"),
    ],
)
async def test_a_hostile_answer_is_a_report(answered, answer, said):
    report = await answered(answer)
    assert (report.digest, report.failure) == (None, said)
