"""The listener for the kubelet and Prometheus: `/healthz`, `/readyz`, `/metrics`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from pywharf.listener import listen
from pywharf.web.connections import Connections, noted
from pywharf.web.listening import accepting

_CHECK_INTERVAL_S: Final = 1.0
_LONGEST_LAG_S: Final = 10.0
_MAX_CONNECTIONS: Final = 64
"""Limit of connections; otherwise anybody who reaches the port could use up the process's file descriptors."""
_BACKLOG: Final = 128
_KEEPALIVE_S: Final = 75.0


class Pulse:
    """The lag of the event loop: whatever blocks it delays everything else."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen_at = clock()
        self._lag_s = 0.0

    async def run(self) -> None:
        """Measure the lag until cancelled."""
        while True:
            self._seen_at = self._clock()
            await asyncio.sleep(_CHECK_INTERVAL_S)
            self._lag_s = self._clock() - self._seen_at - _CHECK_INTERVAL_S

    def fault(self) -> str | None:
        """Return what is wrong, as a sentence, or None."""
        lag = max(self._lag_s, self._clock() - self._seen_at - _CHECK_INTERVAL_S)
        return f"The event loop is {lag:.0f} s late." if lag > _LONGEST_LAG_S else None


class Probes:
    """The HTTP application of the probes and metrics.

    `faults` returns what a restart may fix, `not_ready` why the process is not ready; both are empty if all is well.
    """

    def __init__(
        self,
        faults: Callable[[], Iterable[str]],
        not_ready: Callable[[], str | None],
        metrics: Callable[[], bytes],
    ) -> None:
        self._faults = faults
        self._not_ready = not_ready
        self._metrics = metrics

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(middlewares=[noted])
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics_page)
        return application

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context lasts; yield the port. Raises OSError if it is in use."""
        settings: dict[str, Any] = {"access_log": None, "keepalive_timeout": _KEEPALIVE_S}
        runner = web.AppRunner(self.application(), handle_signals=False, shutdown_timeout=0.5, **settings)
        await runner.setup()
        try:
            listener = listen(host, port, _BACKLOG)
            found = int(listener.getsockname()[1])
            connections = Connections(_MAX_CONNECTIONS, f"port {found}")
            async with accepting(runner, listener, connections=connections, settings=settings, backlog=_BACKLOG):
                yield found
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(" ".join(self._faults()))

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._not_ready() or "")

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(fault: str) -> web.Response:
    return web.Response(status=503 if fault else 200, text=f"{fault or 'ok'}\n")
