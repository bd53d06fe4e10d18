"""The digest of a rendered object, which reveals that a field is no longer rendered."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec.names import RENDERED_ANNOTATION

_HASH_LENGTH = 32


def rendered_hash(manifest: Mapping[str, Any]) -> str:
    """Return a digest of everything that is rendered."""
    encoded = msgspec.json.encode(manifest, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:_HASH_LENGTH]


def with_hash(manifest: Manifest) -> Manifest:
    """Return the manifest with its digest as an annotation, which reveals that a field is no longer rendered."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), RENDERED_ANNOTATION: rendered_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
