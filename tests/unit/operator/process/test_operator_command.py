"""The flags of `pywharf operator`, its probes and its metrics."""

import asyncio
import contextlib
import subprocess
import sys
from types import SimpleNamespace

import aiohttp
import pytest

from pywharf.core.errors import InvalidConfigError
from pywharf_operator.process.metrics import Metrics
from pywharf_operator.process.options import Options, checked, lease
from pywharf_operator.process.probes import Probes, Pulse
from pywharf_operator.spec import ObjectKey


@pytest.mark.parametrize(
    ("given", "expected"),
    [(("a",), ("a",)), (("a", "b"), ("a", "b")), (("a,b", "c"), ("a", "b", "c")), (("a", "a"), ("a",))],
)
def test_namespaces(given, expected):
    assert checked(Options(namespace=given)).namespace == expected


def test_all_namespaces():
    assert checked(Options(all_namespaces=True)).namespace == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(), "is missing"),
        (Options(namespace=(" ,",)), "is missing"),
        (Options(namespace=("a",), all_namespaces=True), "exclude each other"),
        (Options(namespace=("A_b",)), "--namespace"),
        (Options(namespace=("a",), lease_namespace="A_b"), "--lease_namespace"),
        (Options(namespace=("a",), lease_name="A_b"), "--lease_name"),
        (Options(namespace=("a",), lease_metadata="x"), "--lease_metadata: JSON is malformed"),
        (
            Options(namespace=("a",), lease_metadata='{"labels": {"pywharf.dev/x": "y"}}'),
            "--lease_metadata: labels: keys",
        ),
        (Options(namespace=("a",), lease_metadata='{"label": {}}'), "--lease_metadata: .*unknown field"),
    ],
)
def test_wrong_flags(options, message):
    with pytest.raises(InvalidConfigError, match=message):
        checked(options)


@pytest.mark.parametrize(
    ("options", "own", "expected"),
    [
        (Options(namespace=("a",), lease_namespace="b"), "c", "b"),
        (Options(namespace=("a",), lease_name="other"), "c", "c"),
        (Options(namespace=("a",)), "c", "c"),
        (Options(namespace=("a", "d")), None, "a"),
        (Options(all_namespaces=True), "c", "c"),
    ],
)
def test_where_the_lease_is(options, own, expected):
    assert lease(options, own) == ObjectKey(expected, options.lease_name)


def test_a_lease_needs_a_namespace():
    with pytest.raises(InvalidConfigError, match="--lease_namespace"):
        lease(Options(all_namespaces=True), None)


@pytest.mark.parametrize(
    ("faults", "not_ready", "path", "status", "text"),
    [
        ((), None, "healthz", 200, "ok\n"),
        ((), None, "readyz", 200, "ok\n"),
        (("One.", "Two."), None, "healthz", 503, "One. Two.\n"),
        (("One.",), None, "readyz", 200, "ok\n"),
        ((), "Not yet.", "readyz", 503, "Not yet.\n"),
    ],
)
async def test_probes(faults, not_ready, path, status, text):
    probes = Probes(lambda: faults, lambda: not_ready, lambda: b"")
    async with (
        probes.listening("127.0.0.1", 0) as port,
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/{path}") as answer,
    ):
        assert (answer.status, await answer.text()) == (status, text)


async def test_probes_on_both_families():
    """Pods of a cluster have IPv4 addresses, IPv6 addresses, or both."""
    probes = Probes(lambda: (), lambda: None, lambda: b"")
    async with probes.listening(Options(namespace=("a",)).host, 0) as port, aiohttp.ClientSession() as client:
        for host in ("127.0.0.1", "[::1]"):
            async with client.get(f"http://{host}:{port}/healthz") as answer:
                assert answer.status == 200


async def test_idle_connections_take_the_probes_from_nobody():
    probes = Probes(lambda: (), lambda: None, lambda: b"")
    async with probes.listening("127.0.0.1", 0) as port, contextlib.AsyncExitStack() as stack:
        for _ in range(150):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        async with client.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200


async def test_metrics_are_served():
    metrics = Metrics()
    metrics.watch(depth=lambda: 3, leads=lambda: True)
    metrics.reconciled(ObjectKey("ml", "a"), "success", 0.1)
    metrics.reconciled(ObjectKey("", "policies"), "error", 0.2)
    metrics.requested("list", "200")
    metrics.restarted()
    a, b = ObjectKey("ns", "a"), ObjectKey("ns", "b")
    metrics.repos(a, {("Ready", "True"): 2, ("Ready", "False"): 1})
    metrics.repos(b, {("Ready", "True"): 4})
    metrics.repos(a, {("Ready", "True"): 3})
    probes = Probes(lambda: (), lambda: None, metrics.render)
    async with (
        probes.listening("127.0.0.1", 0) as port,
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    assert {
        'pywharf_operator_reconciles_total{of="server",result="success"} 1.0',
        'pywharf_operator_reconciles_total{of="server",result="error"} 0.0',
        'pywharf_operator_reconciles_total{of="policies",result="error"} 1.0',
        "pywharf_operator_reconcile_seconds_count 2.0",
        "pywharf_operator_queue_depth 3.0",
        'pywharf_operator_repos{condition="Ready",status="True"} 7.0',
        'pywharf_operator_api_requests_total{code="200",verb="list"} 1.0',
        "pywharf_operator_leader 1.0",
        "pywharf_operator_kopf_restarts_total 1.0",
    } <= set(lines)
    assert not [line for line in lines if 'status="False"' in line]
    metrics.repos(a, {})
    assert 'status="True"} 4.0' in metrics.render().decode()


def test_a_blocked_event_loop_is_noticed():
    clock = SimpleNamespace(now=0.0)
    pulse = Pulse(lambda: clock.now)
    clock.now = 10.0
    assert pulse.fault() is None
    clock.now = 30.0
    assert pulse.fault() == "The event loop is 29 s late."


def test_the_flags_cost_no_import_of_the_framework():
    program = (
        "import sys, pywharf_operator.main; print([n for n in ('kopf', 'kubernetes', 'aiohttp') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
