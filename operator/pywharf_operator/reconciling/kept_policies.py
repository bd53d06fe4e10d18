"""The policies that a server was given last, read from its ConfigMap: those that cannot be read now stay in force."""

from pywharf.core.policy.model import Policy
from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.live import owned_by
from pywharf_operator.render.labels import object_name
from pywharf_operator.render.objects.policies import SUFFIX, policies_applied
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP


async def kept_policies(kube: Kube, server: PackageServer) -> tuple[Policy, ...]:
    """Return the policies that the server last had, from its own object, so that a restart makes no difference.

    Raises KubeError if they are unknown; then nothing may be applied.
    """
    name = object_name(server, SUFFIX)
    found = await kube.get(CONFIG_MAP, ObjectKey(server.key.namespace, name))
    if found is None or not owned_by(found, server.metadata.uid or ""):
        return ()
    try:
        return policies_applied(found)
    except ValueError as error:
        raise KubeError(
            None,
            "KeptPoliciesUnknown",
            f"ConfigMap {server.key.namespace}/{name} cannot be read ({error}), and some policies cannot be read "
            "either, so what is in force is not known; nothing is applied until they can be read or it is deleted",
        ) from error
