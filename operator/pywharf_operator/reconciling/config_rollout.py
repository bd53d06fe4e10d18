"""The rollout of a configuration: policies and credentials first, then the ConfigMap that names them; then the pods."""

import asyncio
import hashlib
import hmac
import itertools
import logging
from collections.abc import Sequence

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import annotations_of, is_running, key_of, owned_by
from pywharf_operator.reconciling.apply import Applier, Live, Part
from pywharf_operator.render import RenderedServer, ServerVerdict
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.resolve.fallback import fallback_credentials
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP, POD
from pywharf_operator.status.refusal import Refusal

CONFIG_ANNOTATION = "pywharf.dev/config"
_logger = logging.getLogger(__name__)


class Delivery(msgspec.Struct, frozen=True):
    """The result of a configuration's rollout."""

    refusals: tuple[Refusal, ...] = ()
    refused: Part | None = None
    """The part that was not applied. The others are as the replicas' present configuration needs them."""
    fallback: str | None = None
    """A mark of the secrets that were applied for the replicas' present configuration; None if there were none."""

    @property
    def is_complete(self) -> bool:
        """Whether the newest configuration, its credentials and its policies are applied."""
        return self.refused is None


async def deliver(  # noqa: PLR0913, PLR0917 - what is delivered, and to whom
    applier: Applier,
    verdict: ServerVerdict,
    rendered: RenderedServer,
    live: Live,
    session_key: bytes,
    refused_before: Part | None,
) -> Delivery:
    """Apply the policies and the credentials, then the configuration that names them.

    Replicas accept only a matching set. If the policies or the configuration cannot be applied, the newest secrets are
    applied for the replicas' present configuration, because a revoked secret must not stay valid; and what was already
    applied is put back, without which no replica could start. `refused_before`, what Delivery.refused said the last
    time, is tried first, so that nothing alternates.
    """
    server = verdict.server
    refusals: list[Refusal] = []
    refused: Part | None = "config"
    if rendered.config_rendered.status:
        refusals, refused = await _apply_parts(applier, server, rendered, live, refused_before)
        if refused in {None, "credentials"}:
            return Delivery(tuple(refusals), refused)
    current = await applier.whole(server, CONFIG_MAP, rendered.config_map["metadata"]["name"], live)
    if current is None or not owned_by(current, server.metadata.uid or ""):
        return Delivery(tuple(refusals), refused)
    secrets = await asyncio.to_thread(fallback_credentials, verdict, current, rendered.config_map, session_key)
    if secrets is None:
        return Delivery(tuple(refusals), refused)
    refusals += await applier.apply(server, secrets, live)
    return Delivery(tuple(refusals), refused, _mark(secrets, session_key))


async def _apply_parts(
    applier: Applier, server: PackageServer, rendered: RenderedServer, live: Live, first: Part | None
) -> tuple[list[Refusal], Part | None]:
    """Apply the parts until one is refused. Return why, and which; the policies and the configuration are put back."""
    parts: dict[Part, Sequence[Manifest]] = {
        "policies": [] if rendered.policies is None else [rendered.policies],
        "credentials": rendered.credentials,
        "config": [rendered.config_map],
    }
    replaced: list[Manifest] = []
    for part in sorted(parts, key=lambda one: one != first):
        before = []
        if part != "credentials":
            before = [await applier.replaced(server, manifest, live) for manifest in parts[part]]
        refusals = await applier.apply(server, parts[part], live)
        if refusals:
            return refusals + await applier.apply(server, replaced, live), part
        replaced += [manifest for manifest in before if manifest is not None]
    return [], None


def _mark(secrets: Sequence[Manifest], session_key: bytes) -> str:
    """Return a text that changes with the secrets and reveals nothing of them."""
    return hmac.new(session_key, msgspec.json.encode([one["data"] for one in secrets]), hashlib.sha256).hexdigest()


class RolloutAnnotations:
    """Annotates pods, so that their kubelets refresh their volumes immediately instead of within a minute."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._again = itertools.count(1)
        self._last_message = ""

    async def announce(self, pods: Sequence[Json], digest: str, *, again: Sequence[str] = ()) -> None:
        """Annotate each running pod with the digest once, and those named in `again` once more.

        A kubelet that is notified before it has seen the new ConfigMap would otherwise keep the old one.
        """
        values: list[tuple[Json, str]] = []
        for pod in pods:
            current = annotations_of(pod).get(CONFIG_ANNOTATION, "")
            if not is_running(pod):
                continue
            if current.partition("/")[0] != digest:
                values.append((pod, digest))
            elif pod["metadata"]["name"] in again:
                values.append((pod, f"{digest}/{next(self._again)}"))
        await asyncio.gather(*(self._annotate(pod, value) for pod, value in values))

    async def _annotate(self, pod: Json, value: str) -> None:
        change = {"metadata": {"annotations": {CONFIG_ANNOTATION: value}}}
        try:
            await self._kube.merge(POD, key_of(pod), change)
        except KubeError as error:
            if not error.is_permanent:
                raise
            # Its kubelet refreshes the volumes by itself within about a minute.
            if str(error) != self._last_message:
                _logger.warning("Pod %s is not told of its configuration, which comes later so: %s", key_of(pod), error)
            self._last_message = str(error)
