"""The cluster's issuer and keys that a server was given last, from its ConfigMap: they stay while none can be read."""

import msgspec

from pywharf.core.access.identity_document import Cluster
from pywharf_operator.cluster.kube import Kube
from pywharf_operator.cluster.live import owned_by
from pywharf_operator.render.labels import object_name
from pywharf_operator.render.objects.identity import identity_applied
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP
from pywharf_operator.spec.names import CONFIG_SUFFIX


async def kept_cluster(kube: Kube, server: PackageServer) -> Cluster | None:
    """Return the cluster's part of the server's document, so that a restart makes no difference. Raises KubeError.

    The ConfigMap must have this server as its controller, so one without an owner is ignored, unlike elsewhere.
    """
    found = await kube.get(CONFIG_MAP, ObjectKey(server.key.namespace, object_name(server, CONFIG_SUFFIX)))
    if found is None or not owned_by(found, server.metadata.uid or ""):
        return None
    document = identity_applied(found)
    return None if document is None else document.cluster


def with_kept(keys: ClusterKeys, kept: Cluster | None) -> ClusterKeys:
    """Return what this server is given while the keys cannot be read: what it has, with what is known now."""
    if kept is None or (keys.found is not None and not kept.jwks):
        return keys
    if keys.found is not None and keys.found.audiences:
        kept = msgspec.structs.replace(kept, audiences=keys.found.audiences)
    return ClusterKeys(kept, keys.fault)
