"""A container's probes, actually sent."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Json = dict[str, Any]
_EAGER_S = 0.1
"""Seconds between attempts of a failing start-up or readiness probe, so that tests need not wait for its period.

A failure of such an extra attempt is not counted."""


@dataclass
class _Probe:
    spec: Json
    good: bool
    """The current verdict: at first an assumption, then the result that was repeated often enough."""
    next_at: float = 0.0
    counted_at: float = 0.0
    streak: int = 0
    """Consecutive results that contradict the verdict."""

    def take(self, *, success: bool, now: float) -> None:
        if success == self.good:
            self.streak = 0
            return
        period_s = self.spec.get("periodSeconds", 10)
        if not success and now < self.counted_at + 0.9 * period_s:
            return
        self.counted_at = now
        self.streak += 1
        needed = self.spec.get("successThreshold", 1) if success else self.spec.get("failureThreshold", 3)
        if self.streak >= needed:
            self.good, self.streak = success, 0


@dataclass
class Probing:
    """The probes of one container at one address."""

    container: Json
    address: str
    started: bool = field(init=False)
    ready: bool = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Reset to the state at the container's start."""
        self.started = "startupProbe" not in self.container
        self.ready = self.started and "readinessProbe" not in self.container

    async def run(self) -> AsyncIterator[bool]:
        """Yield after each change whether the container may keep running.

        Ends after a failed start-up probe or when no probe is left.
        """
        if (startup := self.container.get("startupProbe")) is not None:
            probe, failures = _Probe(startup, good=False), 0
            next_count = time.monotonic() + startup.get("periodSeconds", 10)
            while not probe.good:
                success = await self._ask(startup)
                probe.take(success=success, now=time.monotonic())
                if not success and time.monotonic() >= next_count:
                    failures, next_count = failures + 1, next_count + startup.get("periodSeconds", 10)
                    if failures >= startup.get("failureThreshold", 3):
                        yield False
                        return
                await asyncio.sleep(0 if success else _EAGER_S)
            self.started = True
            self.ready = "readinessProbe" not in self.container
            yield True
        kept = {
            name: _Probe(self.container[name], good, next_at=time.monotonic() + delay_s)
            for name, good in (("readinessProbe", False), ("livenessProbe", True))
            if name in self.container
            for delay_s in (self.container[name].get("initialDelaySeconds", 0),)
        }
        while kept:
            name, probe = min(kept.items(), key=lambda item: item[1].next_at)
            await asyncio.sleep(max(0.0, probe.next_at - time.monotonic()))
            before = probe.good
            probe.take(success=await self._ask(probe.spec), now=time.monotonic())
            eager = name == "readinessProbe" and not probe.good
            probe.next_at = time.monotonic() + (_EAGER_S if eager else probe.spec.get("periodSeconds", 10))
            if probe.good != before:
                if name == "readinessProbe":
                    self.ready = probe.good
                yield name == "readinessProbe"
        # With no probe left there is nothing to report.

    async def _ask(self, probe: Json) -> bool:
        timeout_s = probe.get("timeoutSeconds", 1)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                if http := probe.get("httpGet"):
                    return await self._get(http)
                if tcp := probe.get("tcpSocket"):
                    _, writer = await asyncio.open_connection(self.address, self._port(tcp["port"]))
                    writer.close()
                    return True
                raise AssertionError(f"the stand-in for a kubelet knows no probe {sorted(probe)}")
        return False

    async def _get(self, http: Json) -> bool:
        scheme = http.get("scheme", "HTTP").lower()
        url = f"{scheme}://{self.address}:{self._port(http['port'])}{http.get('path', '/')}"
        headers = {"Connection": "close", **{one["name"]: one["value"] for one in http.get("httpHeaders", ())}}
        async with (
            aiohttp.ClientSession() as client,
            client.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
        ):
            return answer.status < 400

    def _port(self, named: int | str) -> int:
        return port_of(self.container, named)


def port_of(container: Json, named: int | str) -> int:
    """Return the number of a container's port, given by name or number. Raises LookupError."""
    if isinstance(named, int):
        return named
    ports = [one["containerPort"] for one in container.get("ports", ()) if one.get("name") == named]
    if not ports:
        raise LookupError(named)
    return int(ports[0])
