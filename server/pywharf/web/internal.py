"""The internal port: it answers the cluster, separately from clients, until the server ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from socket import socket
from typing import Any

import msgspec
from aiohttp import web

from pywharf.core.errors import UnavailableError
from pywharf.core.reports import ConfigReport, Fault
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.repos import ServedRepos
from pywharf.serving.worker_digests import ServedConfigs
from pywharf.web import status
from pywharf.web.app import name_server
from pywharf.web.connections import Connections, noted
from pywharf.web.keys import METRICS, REPOS, RUNNING
from pywharf.web.listening import accepting

_CLOSING_S = 1.0
_MAX_CONNECTIONS = 32
"""Separate from clients' connections, so that the kubelet, the operator and Prometheus are always answered."""
_MAX_FAILING = 100
"""Failing indexes that are reported; the operator reads a bounded answer."""
_BACKLOG = 128
_KEEPALIVE_S = 75.0


def build_internal_app(
    repos: ServedRepos,
    metrics: Metrics,
    running: RunningRequests,
    served: ServedConfigs,
    reviews_forbidden: Callable[[], Awaitable[bool]],
) -> web.Application:
    """Build the application of one worker's internal port. `reviews_forbidden` may take a second."""

    async def config(_request: web.Request) -> web.Response:
        broken = {str(name): Fault(UnavailableError.code, reason) for name, reason in repos.broken.items()}
        for repository in repos.repositories:
            failure = repository.status().failure
            if failure is not None:
                broken[repository.name] = Fault(failure.code, str(failure))
        digest, withheld = await asyncio.to_thread(served.common), await asyncio.to_thread(repos.withheld)
        failing = {one.url: one for repository in repos.repositories for one in repository.failing_sources()}
        report = ConfigReport(
            digest,
            broken,
            withheld,
            access=True,
            upstreams=tuple(failing.values())[:_MAX_FAILING],
            sources=True,
            refused=served.refused,
            reviews_forbidden=await reviews_forbidden(),
        )
        return web.Response(
            body=msgspec.json.encode(report) + b"\n",
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    app = web.Application(middlewares=[noted])
    app.on_response_prepare.append(name_server)
    app[REPOS], app[METRICS], app[RUNNING] = repos, metrics, running
    app.router.add_get("/healthz", status.healthz)
    app.router.add_get("/readyz", status.readyz)
    app.router.add_get("/metrics", status.metrics)
    app.router.add_get("/config", config)
    return app


@asynccontextmanager
async def answering(app: web.Application, listener: socket) -> AsyncIterator[None]:
    """Serve the application on that socket, in plain HTTP, within the context."""
    settings: dict[str, Any] = {"access_log": None, "keepalive_timeout": _KEEPALIVE_S, "auto_decompress": False}
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_CLOSING_S, **settings)
    await runner.setup()
    connections = Connections(_MAX_CONNECTIONS, "internal port")
    try:
        async with accepting(runner, listener, connections=connections, settings=settings, backlog=_BACKLOG):
            yield
    finally:
        await runner.cleanup()
