"""The writer of statuses and Events. It writes only what changed."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import key_of
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import EVENT, Kind
from pywharf_operator.spec.names import MANAGER
from pywharf_operator.status.conditions import EventText, as_json, events_of, same

_logger = logging.getLogger(__name__)
_MAX_MESSAGE = 1024
_CHUNK = 100
_CONFLICT = 409
_ATTEMPTS = 3
Status = msgspec.Struct | Mapping[str, Any]


class Statuses:
    """The writer of the objects' statuses, with an Event for each change."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._refused: dict[str, str] = {}
        """Why a status was refused, by uid, so that it is logged once."""

    async def write(
        self,
        kind: Kind,
        wanted: Sequence[tuple[Json, Status]],
        now: datetime,
        superseded: Callable[[], bool] = lambda: False,
    ) -> None:
        """Write the statuses that changed, with their Events. An object that is gone meanwhile is ignored.

        So is an object whose status is refused, e.g. by a newer schema, or cannot be written as JSON; it is retried on
        the next reconcile.
        `superseded` stops the writing between two chunks.
        """
        bodies = [(raw, self._body(kind, raw, status)) for raw, status in wanted]
        changed = [(raw, body) for raw, body in bodies if body is not None and not same(raw.get("status"), body)]
        for start in range(0, len(changed), _CHUNK):
            if start and superseded():
                return
            chunk = changed[start : start + _CHUNK]
            await asyncio.gather(*(self._write_one(kind, raw, body, now) for raw, body in chunk))

    def _body(self, kind: Kind, raw: Json, status: Status) -> Json | None:
        """Return the status as JSON; None if one of its values cannot be converted, which stops no other status."""
        try:
            return as_json(status)
        except (ValueError, OverflowError) as error:
            self._report_refused(kind, raw, str(error))
            return None

    def _report_refused(self, kind: Kind, raw: Json, why: str) -> None:
        if self._refused.get(raw["metadata"]["uid"]) != why:
            _logger.warning("The status of %s %s is refused: %s", kind.name, key_of(raw), why[:_MAX_MESSAGE])
        self._refused[raw["metadata"]["uid"]] = why

    async def _write_one(self, kind: Kind, raw: Json, body: Json, now: datetime) -> None:
        events = events_of(raw.get("status"), body)
        key = key_of(raw)
        try:
            await self._apply(kind, key, body, raw["metadata"]["uid"])
        except KubeError as error:
            if error.status in {404, _CONFLICT}:
                return
            if not error.is_permanent:
                raise
            self._report_refused(kind, raw, str(error))
            return
        self._refused.pop(raw["metadata"]["uid"], None)
        for event in events:
            await self._emit_event(kind, raw, event, now)

    async def _apply(self, kind: Kind, key: ObjectKey, body: Json, uid: str) -> None:
        """Apply the status to this very object: one that was created again under its name gets its own.

        Concurrent writers cause conflicts, too, after which no event would start another reconcile. So it is repeated.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._kube.apply_status(kind, key, body, uid=uid)
            except KubeError as error:
                if error.status != _CONFLICT or attempt == _ATTEMPTS:
                    raise
            else:
                return

    async def _emit_event(self, kind: Kind, raw: Json, event: EventText, now: datetime) -> None:
        key = key_of(raw)
        try:
            await self._kube.create(EVENT, _event(kind, raw, event, now))
        except KubeError as error:
            # The condition reports it too.
            _logger.warning("An Event of %s %s was not written: %s", kind.name, key, error.reason)


def _event(kind: Kind, raw: Mapping[str, Any], event: EventText, now: datetime) -> Json:
    key, metadata = key_of(raw), raw["metadata"]
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{key.name[:200].rstrip('.-')}.{time.time_ns():x}", "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "name": key.name,
            "namespace": key.namespace,
            "uid": metadata.get("uid"),
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:_MAX_MESSAGE],
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
