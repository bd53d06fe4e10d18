"""Whether a server may still become the owner of an object."""

from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.live import is_leaving
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.kinds import SERVER


async def confirm_owner(kube: Kube, server: PackageServer) -> None:
    """Ask the API server whether the server is there and stays, right before it adopts something. Raises KubeError.

    `kubectl delete --cascade=orphan` takes the owner off each object first, and the server goes last. Whoever put the
    owner back in between would have the object deleted with it. Kubernetes' own controllers ask the same way.
    """
    found = await kube.get(SERVER, server.key)
    if found is None or found["metadata"].get("uid") != server.metadata.uid or is_leaving(found):
        raise KubeError(None, "ServerDeleted", f"PackageServer {server.key} is being deleted; it adopts nothing.")
