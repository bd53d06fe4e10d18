"""The cluster's issuer and keys that a server was given last, from its ConfigMap: they stay while none can be read."""

from pywharf.core.access.identity_document import Cluster
from pywharf_operator.cluster.kube import Kube
from pywharf_operator.reconciling.adoption import belongs
from pywharf_operator.render.labels import object_name
from pywharf_operator.render.objects.identity import identity_applied
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP
from pywharf_operator.spec.names import CONFIG_SUFFIX


async def kept_cluster(kube: Kube, server: PackageServer) -> Cluster | None:
    """Return the cluster's part of the server's document, so that a restart makes no difference. Raises KubeError."""
    found = await kube.get(CONFIG_MAP, ObjectKey(server.key.namespace, object_name(server, CONFIG_SUFFIX)))
    if found is None or not belongs(CONFIG_MAP, found, server):
        return None
    document = identity_applied(found)
    return None if document is None else document.cluster
