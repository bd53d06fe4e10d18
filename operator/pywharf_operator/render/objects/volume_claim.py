"""The PersistentVolumeClaim `<server>-data`: the ROOT of fileSystem repos, and so the packages themselves."""

from typing import Final

from pywharf_operator.render.labels import Manifest, metadata
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment

_KEEP: Final = {
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
}
"""Annotations that keep Argo CD from pruning the claim. If Argo CD tracks by the label app.kubernetes.io/instance, an
Application with the server's name would count the claim, which has no owner, as its own and prune it."""


def volume_claim(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the claim; None without storage or with an existing claim. It has no owner: packages outlive servers."""
    server = verdict.server
    storage = server.spec.storage
    if storage is None or storage.size is None:
        return None
    spec: Manifest = {
        "accessModes": list(storage.access_modes),
        "resources": {"requests": {"storage": str(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(server, "data", owned=False, annotations=_KEEP),
        "spec": spec,
    }
