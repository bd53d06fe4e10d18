"""The check whether a server may still become the owner of an object."""

from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.kinds import SERVER


async def confirm_owner(kube: Kube, server: PackageServer) -> None:
    """Ask the API server, right before an adoption, whether the server exists and stays. Raises KubeError.

    `kubectl delete --cascade=orphan` removes the owner from each object first and deletes the server last. An object
    that gets its owner back in between would be deleted with the server. Kubernetes' own controllers do the same.
    """
    found = await kube.get(SERVER, server.key)
    if found is None or found["metadata"].get("uid") != server.metadata.uid or is_being_deleted(found):
        raise KubeError(None, "ServerDeleted", f"PackageServer {server.key} is being deleted; it adopts nothing.")
