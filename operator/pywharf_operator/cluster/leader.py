"""Leader election: of several replicas, the one that holds the Lease works.

docs/decisions/0010 says why the client library's election is not used. Only this process's own clock is trusted.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import metadata_change
from pywharf_operator.render.digest import with_hash
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import LEASE
from pywharf_operator.spec.names import RENDERED_ANNOTATION

_logger = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """Another replica may lead from now on, so this process must end."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """The times of the election. The defaults are those of Kubernetes' own controllers."""

    lease_s: float = 15.0
    """Seconds that other replicas wait after the last renewal they have seen."""
    renew_s: float = 10.0
    """Seconds without a renewal after which a leader no longer writes."""
    retry_s: float = 2.0


def _clock() -> float:
    """Return monotonic seconds. If the system supports it, they include the time that the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leadership:
    """One process's part in the election.

    Call `await acquire()`, then `await keep()`, which raises when the Lease is lost, and `await release()` at the end.
    """

    def __init__(  # noqa: PLR0913 - the last three are for tests
        self,
        kube: Kube,
        lease: ObjectKey,
        identity: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        times: Times | None = None,
        clock: Callable[[], float] = _clock,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Set up the election. `kube` must not check `holds` itself; no other process may have the same identity.

        `metadata`: the labels and annotations of the Lease.
        """
        self._kube = kube
        self._key = lease
        self._identity = identity
        self._metadata: Json = dict(metadata or {})
        self._times = times or Times()
        self._clock = clock
        self._now = now
        self._renewed_at: float | None = None
        """When the last successful renewal was sent."""
        self._seen: tuple[object, float] | None = None
        """The resourceVersion last read of another replica's Lease, and when it was first read."""
        self._last_message = ""

    def holds(self) -> bool:
        """Return whether this process may write; called before every write."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._times.renew_s

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while not await self.attempt():  # noqa: ASYNC110 - nothing in this process reports it
            await asyncio.sleep(self._times.retry_s * (1 + random.random() / 5))  # noqa: S311 - it spreads load
        _logger.info("This replica leads (%s).", self._identity)

    async def keep(self) -> None:
        """Renew the Lease until it is lost. Raises LeadershipLostError."""
        while True:
            await asyncio.sleep(self._times.retry_s)
            if not self.holds():
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._left()):
                    if not await self.attempt() and self._renewed_at is None:
                        break
        self._renewed_at = None
        raise LeadershipLostError(
            f"The Lease {self._key} could not be renewed in {self._times.renew_s:.0f} s, or another replica has it."
        )

    async def release(self) -> None:
        """Let another replica lead immediately. Call it only when this process no longer writes."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        try:
            async with asyncio.timeout(self._times.retry_s):
                lease = await self._kube.get(LEASE, self._key)
                if lease is not None and _spec(lease).get("holderIdentity") == self._identity:
                    await self._kube.replace(LEASE, lease | {"spec": _spec(lease) | {"holderIdentity": ""}})
        except (KubeError, TimeoutError) as error:
            _logger.warning("The Lease %s was not released (%s); another takes over when it ends.", self._key, error)

    def _left(self) -> float:
        """Return the seconds for one attempt.

        It ends at the deadline or earlier, so that a request that hangs is not the only one.
        """
        left = (self._renewed_at or 0.0) + self._times.renew_s - self._clock()
        return max(min(left, self._times.renew_s / 3), 0.0)

    async def attempt(self) -> bool:
        """Take or renew the Lease if allowed; return whether this process has it now."""
        try:
            taken = await self._take()
        except KubeError as error:
            if str(error) != self._last_message:
                _logger.warning("The Lease %s cannot be had, which is tried again: %s", self._key, error)
            self._last_message = str(error)
            return False
        self._last_message = ""
        return taken

    async def _take(self) -> bool:
        lease = await self._kube.get(LEASE, self._key)
        sent_at = self._clock()
        if lease is None:
            written = await self._kube.create(LEASE, self._made())
        elif self._may_take(lease):
            held = {"spec": self._held(_spec(lease)), "metadata": self._labelled(lease)}
            written = await self._kube.replace(LEASE, lease | held)
        else:
            return False
        if written is None:  # another was faster
            return False
        self._renewed_at, self._seen = sent_at, None
        return True

    def _may_take(self, lease: Json) -> bool:
        """Return whether the Lease is ours, unheld, or has been observed unchanged for its full duration."""
        spec = _spec(lease)
        holder = spec.get("holderIdentity")
        if holder == self._identity or not holder:
            return True
        if self._renewed_at is not None:
            self._renewed_at = None  # this process held it and has lost it
            return False
        version, now = _version(lease), self._clock()
        if self._seen is None or self._seen[0] != version:
            self._seen = version, now
            _logger.debug("The Lease %s is held by %s.", self._key, holder)
            return False
        seconds = spec.get("leaseDurationSeconds")
        lasts_s = float(seconds) if isinstance(seconds, int) else self._times.lease_s
        return now - self._seen[1] >= max(lasts_s, self._times.lease_s)

    def _made(self) -> dict[str, Any]:
        metadata = {"name": self._key.name, "namespace": self._key.namespace}
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": self._labelled({"metadata": metadata}),
            "spec": self._held({}),
        }

    def _labelled(self, lease: Json) -> Json:
        """Return the Lease's metadata with the wanted labels and annotations."""
        metadata: Json = lease["metadata"]
        known = RENDERED_ANNOTATION in (metadata.get("annotations") or {})
        if not known and not any(self._metadata.values()):
            return metadata
        change = metadata_change(lease, with_hash({"metadata": self._metadata})["metadata"])
        merged = {part: (metadata.get(part) or {}) | given for part, given in change.items()}
        return metadata | {
            part: {key: value for key, value in given.items() if value is not None} for part, given in merged.items()
        }

    def _held(self, before: Json) -> Json:
        now = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        renewed = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(round(self._times.lease_s), 1),
            "renewTime": now,
        }
        if before.get("holderIdentity") == self._identity:
            return dict(before) | renewed
        return dict(before) | renewed | {"acquireTime": now, "leaseTransitions": _transitions(before) + bool(before)}


def _spec(lease: Json) -> Json:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}


def _version(lease: Json) -> object:
    metadata = lease.get("metadata")
    return metadata.get("resourceVersion") if isinstance(metadata, dict) else None


def _transitions(spec: Json) -> int:
    count = spec.get("leaseTransitions")
    return count if isinstance(count, int) else 0
