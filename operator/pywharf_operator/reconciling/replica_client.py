"""The client of the replicas' internal port, which reports the configuration that each of them serves."""

import asyncio
from collections.abc import Sequence

import aiohttp
import msgspec

from pywharf.core.reports import ConfigReport
from pywharf_operator.cluster.kube import Json
from pywharf_operator.render.pod.pod_template import INTERNAL_PORT
from pywharf_operator.status.programmed import ReplicaReport

_TIMEOUT = aiohttp.ClientTimeout(total=3.0, connect=1.5)
_MAX_BYTES = 4 * 1024**2
_OK = 200


async def ask(client: aiohttp.ClientSession, pods: Sequence[Json]) -> tuple[ReplicaReport, ...]:
    """Return a report for each pod, in the same order. If a pod does not answer, its report says so."""
    return tuple(await asyncio.gather(*(_ask(client, pod) for pod in pods)))


async def _ask(client: aiohttp.ClientSession, pod: Json) -> ReplicaReport:
    name, address = str(pod["metadata"]["name"]), str(pod["status"].get("podIP"))
    host = f"[{address}]" if ":" in address else address
    try:
        async with client.get(
            f"http://{host}:{INTERNAL_PORT}/config", timeout=_TIMEOUT, allow_redirects=False
        ) as response:
            if response.status != _OK:
                # The response is probably from a mesh or a proxy in between.
                return _failed(name, f"it answered {response.status}", reached=False)
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > _MAX_BYTES:
                    return _failed(name, "its answer is too long")
            answer = msgspec.json.decode(content, type=ConfigReport)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return _failed(name, f"it did not answer ({type(error).__name__})", reached=False)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, and so is that of invalid UTF-8
        return _failed(name, "its answer cannot be read")
    return ReplicaReport(
        pod=name,
        digest=answer.digest or None,
        broken=answer.broken,
        failure=None,
        policies=answer.policies or {},
        knows_policies=answer.policies is not None,
        knows_access=answer.access,
        knows_sources=answer.sources,
        upstreams=answer.upstreams,
        refused=answer.refused,
        reviews_forbidden=answer.reviews_forbidden,
    )


def _failed(pod: str, why: str, *, reached: bool = True) -> ReplicaReport:
    return ReplicaReport(pod=pod, digest=None, broken={}, failure=why, reached=reached)
