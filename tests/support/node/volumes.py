"""A default StorageClass backed by folders of this machine: `local` volumes, to which the kubelet applies fsGroup."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from support.cluster.cluster import Cluster
from support.cluster.kube_client import ApiError, Json, KubeClient
from support.node.config import NAME

CLASS = "local"
_PERIOD_S = 0.25
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


@contextlib.contextmanager
def local_volumes(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Provide a volume for each claim until the context ends."""
    client = cluster.client()
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {_DEFAULT: "true"}},
        "provisioner": "pywharf.test/local",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Retain",
    }
    client.create("/apis/storage.k8s.io/v1/storageclasses", storage)
    ended = threading.Event()
    thread = threading.Thread(target=_provide, args=(client, folder, ended), name="local-volumes")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        client.close()


def _provide(client: KubeClient, folder: Path, ended: threading.Event) -> None:
    done: set[str] = set()
    while not ended.wait(_PERIOD_S):
        with contextlib.suppress(ApiError, OSError):  # an API server that a test has stopped
            for claim in client.list("/api/v1/persistentvolumeclaims"):
                uid = claim["metadata"]["uid"]
                if uid not in done and not claim["spec"].get("volumeName"):
                    client.create("/api/v1/persistentvolumes", _volume(claim, folder / uid))
                    done.add(uid)


def _volume(claim: Json, folder: Path) -> Json:
    folder.mkdir(parents=True, exist_ok=True)
    metadata, spec = claim["metadata"], claim["spec"]
    ref = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | {k: metadata[k] for k in ("name", "namespace", "uid")}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"local-{metadata['uid']}"},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": spec.get("storageClassName", CLASS),
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": ref,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
