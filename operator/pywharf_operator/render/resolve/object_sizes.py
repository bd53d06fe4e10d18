"""The sizes of a server's configuration objects, and the largest that the API server accepts."""

import base64
from collections.abc import Mapping
from typing import Final

from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.resolve.findings import Finding

LARGE_BYTES: Final = 768 * 1024
"""Bytes from which an object is compressed or split. The API server's additions to it need room too."""
MAX_BYTES: Final = 1_048_576
"""Most bytes that a ConfigMap or a Secret may hold. With its managed fields it then stays below the 1.5 MiB that etcd
accepts in one request."""
_BESIDE_KEY = 16
_NAMED = 3
"""Most namespaces that a message names."""


def entry_size(key: str, value_bytes: int) -> int:
    """Return the bytes of one key and its value. Server-side apply repeats each key in the managed fields."""
    return 2 * len(key.encode()) + _BESIDE_KEY + value_bytes


def size_of(manifest: Manifest) -> int:
    """Return the bytes of a ConfigMap's or a Secret's keys and values, as they are mounted."""
    texts: dict[str, str] = manifest.get("data", {})
    binary: dict[str, str] = manifest.get("binaryData", {})
    if manifest["kind"] == "Secret":
        texts, binary = {}, texts
    return sum(entry_size(key, len(text.encode())) for key, text in texts.items()) + sum(
        entry_size(key, len(base64.b64decode(text))) for key, text in binary.items()
    )


def config_rendered(
    config_map: Manifest, credentials: tuple[Manifest, ...], refused: Mapping[str, int] | None = None
) -> Finding:
    """Return the condition ConfigRendered: whether the API server accepts all of the objects.

    `refused` counts, by namespace, the repos that were left out because their namespace takes too much.
    """
    for manifest in (config_map, *credentials):
        size = size_of(manifest)
        if size > MAX_BYTES:
            return Finding(
                status=False,
                reason="ConfigTooLarge",
                message=(
                    f"{manifest['kind']} {manifest['metadata']['name']} would take {size} bytes, and Kubernetes takes "
                    f"{MAX_BYTES}; move repos to another PackageServer. Until then the last configuration stays."
                ),
            )
    if refused:
        most = sorted(refused, key=lambda namespace: (-refused[namespace], namespace))
        named = ", ".join(f"{refused[namespace]} of {namespace}" for namespace in most[:_NAMED])
        more = f" and of {len(most) - _NAMED} more namespaces" if len(most) > _NAMED else ""
        return Finding(
            status=True,
            reason="ReposRefused",
            message=(
                f"{sum(refused.values())} repos are refused, because their namespaces take too much: {named}{more}; "
                "everybody else is served. See the condition Accepted of these repos, and spec.limits."
            ),
        )
    return Finding(status=True, reason="Rendered", message="The configuration fits into its objects.")
