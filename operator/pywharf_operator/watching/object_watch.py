"""The operator's own watch of one kind in one namespace: it reads one object at a time, of some kinds only metadata.

kopf reads whole pages and events, so 120 Secrets of 1 MiB each would fill the operator's memory.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.spec.faults import error_location
from pywharf_operator.spec.kinds import METADATA_ONLY
from pywharf_operator.watching.registry import Watch, WatchTimeouts
from pywharf_operator.watching.waking import LISTED, Wakeup, Waking

_logger = logging.getLogger(__name__)
_MISSING_AGAIN_S: Final = 60.0
"""Between two tries to watch a kind that the cluster lacks."""


class _MissingError(Exception):
    """The cluster has no such kind."""


class _EndedError(Exception):
    """The stream cannot be continued, so everything must be listed again."""


class ObjectWatch:
    """A watch that never ends by itself. An unreadable namespace does not stop the other watches."""

    def __init__(
        self, kube: Kube, watch: Watch, namespace: str | None, waking: Waking, wake: Callable[[Wakeup], None]
    ) -> None:
        self._kube = kube
        self._watch = watch
        self._namespace = namespace
        self._waking = waking
        self._wake = wake

    async def run(self, timeouts: WatchTimeouts) -> None:
        """Watch until cancelled."""
        failures, listed_before = 0, False
        while True:
            try:
                version = await self._list()
                if listed_before:
                    # Objects that were deleted meanwhile have no event.
                    self._wake(Wakeup(everything=True))
                listed_before, failures = True, 0
                while True:
                    version = await self._follow(version, timeouts)
            except _MissingError:
                failures, listed_before = 0, True
                await asyncio.sleep(_MISSING_AGAIN_S)
                continue
            except (KubeError, _EndedError) as error:
                failures += 1
                _logger.debug("Watch of %s in %s: %s", self._watch.kind.plural, self._namespace or "all", error)
            except Exception as error:  # noqa: BLE001 - one odd object must not end the watch for good
                failures += 1
                _logger.warning("A watch of %s begins anew: %s", self._watch.kind.plural, error_location(error))
            await asyncio.sleep(timeouts.retry_s(failures))

    async def _list(self) -> str:
        watch = self._watch
        _, version = await self._kube.listed(
            watch.kind,
            self._namespace,
            watch.labels,
            metadata=watch.kind in METADATA_ONLY,
            each=lambda item: self._take(LISTED, item),
        )
        if not version and watch.kind.optional:
            raise _MissingError
        return version

    async def _follow(self, version: str, timeouts: WatchTimeouts) -> str:
        """Follow one stream; return the resourceVersion to continue from."""
        watch = self._watch
        events = self._kube.watch(
            watch.kind,
            self._namespace,
            watch.labels,
            version,
            metadata=watch.kind in METADATA_ONLY,
            seconds=timeouts.stream_s,
        )
        async for kind, item in events:
            if kind == "ERROR":
                raise _EndedError(str(item.get("code")))
            seen = (item.get("metadata") or {}).get("resourceVersion")
            version = seen if isinstance(seen, str) and seen else version
            if kind != "BOOKMARK":
                self._take(kind, item)
        return version

    def _take(self, event: str | None, item: dict[str, Any]) -> None:
        wakeup = self._waking.woken(self._watch.kind, event, item)
        if wakeup.keys or wakeup.everything or wakeup.policies:
            self._wake(wakeup)
