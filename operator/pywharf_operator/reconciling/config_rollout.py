"""A configuration brought to a server's replicas: the credentials first, then what names them, then a nudge."""

import asyncio
import hashlib
import hmac
import itertools
import logging
from collections.abc import Sequence

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_running, key_of, owned_by
from pywharf_operator.reconciling.apply import Applier, Live, Refusal
from pywharf_operator.render import RenderedServer, ServerVerdict
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.resolve.fallback import fallback_credentials
from pywharf_operator.spec.kinds import CONFIG_MAP, POD

CONFIG_ANNOTATION = "pywharf.dev/config"
_logger = logging.getLogger(__name__)


class Delivery(msgspec.Struct, frozen=True):
    """What became of a configuration."""

    refusals: tuple[Refusal, ...] = ()
    config_refused: bool = False
    """Whether it is the configuration itself that was not applied, rather than its credentials."""
    fallback: str | None = None
    """What changes with the secrets that were delivered for the configuration that replicas have, if they were."""

    @property
    def is_complete(self) -> bool:
        """Whether the newest configuration is there, with its credentials."""
        return not self.refusals and not self.config_refused


async def deliver(  # noqa: PLR0913, PLR0917 - what is delivered, and to whom
    applier: Applier,
    verdict: ServerVerdict,
    rendered: RenderedServer,
    live: Live,
    session_key: bytes,
    refused_before: bool,  # noqa: FBT001 - what Delivery.config_refused said the last time
) -> Delivery:
    """Apply both. Replicas take only a matching set, so the configuration comes after the credentials that it names.

    Where it cannot be applied, the newest secrets are delivered for the configuration that replicas have: a revoked one
    must not stay valid. The next time the configuration is tried first, so that the credentials do not go back and
    forth.
    """
    server, config = verdict.server, [rendered.config_map]
    refusals: list[Refusal] = []
    if rendered.config_rendered.status:
        if not refused_before:
            refusals = await applier.apply(server, rendered.credentials, live)
            if refusals:
                return Delivery(tuple(refusals))
        refusals = await applier.apply(server, config, live)
        if not refusals:
            again = await applier.apply(server, rendered.credentials, live) if refused_before else []
            return Delivery(tuple(again))
    current = live.get((CONFIG_MAP, rendered.config_map["metadata"]["name"]))
    if current is None or not owned_by(current, server.metadata.uid or ""):
        return Delivery(tuple(refusals), config_refused=True)
    secrets = await asyncio.to_thread(fallback_credentials, verdict, current, rendered.config_map, session_key)
    if secrets is None:
        return Delivery(tuple(refusals), config_refused=True)
    refusals += await applier.apply(server, secrets, live)
    return Delivery(tuple(refusals), config_refused=True, fallback=_mark(secrets, session_key))


def _mark(secrets: Sequence[Manifest], session_key: bytes) -> str:
    """Return a text that changes with the secrets and tells nothing of them."""
    return hmac.new(session_key, msgspec.json.encode([one["data"] for one in secrets]), hashlib.sha256).hexdigest()


class RolloutAnnotations:
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
