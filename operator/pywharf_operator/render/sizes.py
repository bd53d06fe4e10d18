"""How large the objects of a server's configuration are, and what the API server still takes."""

import base64
from typing import Final

from pywharf_operator.render.findings import Finding
from pywharf_operator.render.labels import Manifest

LARGE_BYTES: Final = 768 * 1024
"""From here on an object is compressed, or spread over several: what the API server adds to it needs room too."""
MAX_BYTES: Final = 1_048_576
"""What a ConfigMap or a Secret may hold in all."""


def size_of(manifest: Manifest) -> int:
    """Bytes of the keys and the values of a ConfigMap or a Secret, as they are mounted."""
    encoded = manifest["kind"] == "Secret"
    texts = manifest.get("data", {})
    binary = manifest.get("binaryData", {}) | (texts if encoded else {})
    plain = {} if encoded else texts
    return (
        sum(len(key.encode()) for key in (*plain, *binary))
        + sum(len(text.encode()) for text in plain.values())
        + sum(len(base64.b64decode(text)) for text in binary.values())
    )


def config_rendered(config_map: Manifest, credentials: tuple[Manifest, ...]) -> Finding:
    """The condition ConfigRendered: whether the API server takes all of them."""
    for manifest in (config_map, *credentials):
        size = size_of(manifest)
        if size > MAX_BYTES:
            return Finding(
                status=False,
                reason="ConfigTooLarge",
                message=(
                    f"{manifest['kind']} {manifest['metadata']['name']} would hold {size} bytes, and Kubernetes takes "
                    f"{MAX_BYTES}; move repos to another PackageServer. Until then the last configuration stays."
                ),
            )
    return Finding(status=True, reason="Rendered", message="The configuration fits into its objects.")
