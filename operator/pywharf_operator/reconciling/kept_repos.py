"""The repos of unreadable namespaces as a server last had them, read from its ConfigMap and Secrets."""

import asyncio
from collections.abc import Callable, Collection

from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.live import owned_by
from pywharf_operator.render import KeptRepo, repos_applied
from pywharf_operator.render.labels import object_name
from pywharf_operator.render.objects.credentials import MAX_SHARDS, shard_name
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP, SECRET
from pywharf_operator.spec.names import CONFIG_SUFFIX


async def kept_repos(
    kube: Kube, server: PackageServer, namespaces: Collection[str], is_deleted: Callable[[ObjectKey], bool]
) -> tuple[KeptRepo, ...]:
    """Return the repos of these namespaces that the server last had, except those known to be deleted.

    They are read from the server's own objects, so that a restart of the operator makes no difference. Raises KubeError
    if it is unknown what is served; then nothing may be applied.
    """
    where = server.key.namespace
    wanted = [(CONFIG_MAP, object_name(server, CONFIG_SUFFIX))]
    wanted += [(SECRET, shard_name(server, number)) for number in range(MAX_SHARDS)]
    found = await asyncio.gather(*(kube.get(kind, ObjectKey(where, name)) for kind, name in wanted))
    config_map, *secrets = (
        one if one is not None and owned_by(one, server.metadata.uid or "") else None for one in found
    )
    if config_map is None:
        return ()
    try:
        applied = repos_applied(server.key, config_map, (one for one in secrets if one is not None), namespaces)
    except ValueError as error:
        raise KubeError(
            None,
            "KeptReposUnknown",
            f"ConfigMap {where}/{object_name(server, CONFIG_SUFFIX)} cannot be read ({error}), so what it serves of "
            f"{', '.join(sorted(namespaces))} is not known; nothing is applied until they can be read or it is deleted",
        ) from error
    return tuple(one for one in applied if not is_deleted(one.repo))
