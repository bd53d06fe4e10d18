"""A configuration brought to a server's replicas: the credentials first, then what names them, then a nudge."""

import asyncio
import itertools
import logging
from collections.abc import Sequence

from pywharf_operator.apply import Applier, Live, Refusal
from pywharf_operator.kinds import POD
from pywharf_operator.kube import Json, Kube, KubeError
from pywharf_operator.observe import key_of
from pywharf_operator.render import RenderedServer
from pywharf_operator.replicas import is_running
from pywharf_operator.spec import PackageServer

CONFIG_ANNOTATION = "pywharf.dev/config"
_logger = logging.getLogger(__name__)


async def deliver(applier: Applier, server: PackageServer, rendered: RenderedServer, live: Live) -> list[Refusal]:
    """Apply both. The configuration waits for the credentials that it names; replicas take only a matching set."""
    refusals = await applier.apply(server, rendered.credentials, live)
    if not refusals:
        refusals = await applier.apply(server, [rendered.config_map], live)
    return refusals


class Nudges:
    """Changes an annotation of pods, at which their kubelets look at their volumes at once and not in a minute."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._again = itertools.count(1)
        self._said = ""

    async def nudge(self, pods: Sequence[Json], digest: str, *, again: Sequence[str] = ()) -> None:
        """Tell each running pod of the configuration once, and those named in `again` once more.

        A kubelet that was told before it saw the new ConfigMap itself would else go on with the old one.
        """
        told: list[tuple[Json, str]] = []
        for pod in pods:
            current = (pod["metadata"].get("annotations") or {}).get(CONFIG_ANNOTATION, "")
            if not is_running(pod):
                continue
            if current.partition("/")[0] != digest:
                told.append((pod, digest))
            elif pod["metadata"]["name"] in again:
                told.append((pod, f"{digest}/{next(self._again)}"))
        await asyncio.gather(*(self._annotate(pod, value) for pod, value in told))

    async def _annotate(self, pod: Json, value: str) -> None:
        change = {"metadata": {"annotations": {CONFIG_ANNOTATION: value}}}
        try:
            await self._kube.merge(POD, key_of(pod), change)
        except KubeError as error:
            if not error.is_permanent:
                raise
            # Its kubelet looks by itself within about a minute.
            if str(error) != self._said:
                _logger.warning("Pod %s is not told of its configuration, which comes later so: %s", key_of(pod), error)
            self._said = str(error)
