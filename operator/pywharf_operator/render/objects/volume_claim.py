"""The PersistentVolumeClaims `<server>-data`, the ROOT of fileSystem repos, and `<server>-cache`.

Neither has an owner: packages outlive servers, and what an air gap was filled with is not easily fetched again.
"""

from typing import Final

from pywharf_operator.render.labels import Manifest, metadata
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.volume import Volume

_KEEP: Final = {
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
}
"""Annotations that keep Argo CD from pruning the claim. If Argo CD tracks by the label app.kubernetes.io/instance, an
Application with the server's name would count the claim, which has no owner, as its own and prune it."""


def volume_claim(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the claim of the packages; None without storage or with an existing claim."""
    return _claim(verdict.server, "data", verdict.server.spec.storage)


def cache_claim(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the claim of the cache; None if it is in a bucket, or with an existing claim."""
    cache = verdict.server.spec.cache
    return _claim(verdict.server, "cache", None if cache is None else cache.file_system)


def _claim(server: PackageServer, suffix: str, volume: Volume | None) -> Manifest | None:
    if volume is None or volume.size is None:
        return None
    spec: Manifest = {
        "accessModes": list(volume.access_modes),
        "resources": {"requests": {"storage": str(volume.size)}},
    }
    if volume.storage_class_name is not None:
        spec["storageClassName"] = volume.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(server, suffix, owned=False, annotations=_KEEP),
        "spec": spec,
    }
