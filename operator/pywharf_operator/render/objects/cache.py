"""The text `cache.toml` in the ConfigMap `<server>-config`: where the server keeps what it takes from other indexes.

It holds no secret. Servers read it once, when they start, so the pod template names its digest.
"""

import hashlib
from decimal import Decimal
from typing import Any, Final

from pywharf.core.toml_text import dumps
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.quantities import quantity
from pywharf_operator.spec.staging import DEFAULT_STAGING_SIZE

CACHE_KEY: Final = "cache.toml"
CACHE_MOUNT: Final = "/var/lib/pywharf-cache"
CACHE_SECRET_FOLDER: Final = "/etc/pywharf-cache"  # noqa: S105 - a folder's name
CACHE_SECRET_KEY: Final = "secret"  # noqa: S105 - a file's name
CACHE_SPOOL_FOLDER: Final = "/var/lib/pywharf/upstream-cache"
"""Where files lie while they are fetched, if the cache is in a bucket: the server's own folder in its ROOT."""
CACHE_SPOOL_SIZE: Final = DEFAULT_STAGING_SIZE
_FOLDER: Final = "kept"
"""Folder of the volume, whose own one may hold what the file system or others put there."""

_MOST_BYTES: Final = Decimal(2**53)
_USABLE: Final = Decimal("0.9")
"""Fraction of a folder that may be taken. A kubelet evicts the pod past the whole, counting in blocks."""


def spools_on_node(server: PackageServer) -> bool:
    """Return whether files that are fetched lie on the node's disk, as the cache has no volume."""
    return server.spec.cache is not None and server.spec.cache.object_store is not None


def share_of_node_disk(server: PackageServer, size: object) -> int:
    """Return how many bytes one of the server's folders of that size may take before a kubelet evicts the pod.

    A limit of the container's whole disk is for uploads and for fetched files together.
    """
    own = (server.spec.resources and server.spec.resources.limits) or {}
    whole = quantity(own.get("ephemeral-storage"))
    shared = None if whole is None else whole / (2 if spools_on_node(server) else 1)
    return max(1, int(min(_MOST_BYTES, *(one for one in (quantity(size), shared) if one is not None)) * _USABLE))


def cache_text(server: PackageServer) -> str:
    """Return the cache's configuration as the server reads it; empty if there is no cache."""
    cache = server.spec.cache
    if cache is None:
        return ""
    store = cache.object_store
    table: dict[str, Any] = {"type": "file_system", "folder": f"{CACHE_MOUNT}/{_FOLDER}"}
    if store is not None:
        # The server's own default of a field is the model's, and a text without it is shorter.
        table = {field: value for field, value in store.table().items() if value is not False}
        table["max_spool_bytes"] = share_of_node_disk(server, CACHE_SPOOL_SIZE)
        if cache.credentials_secret_ref is None:
            table["ambient_identity"] = True
        else:
            table["secret"] = {"file": f"{CACHE_SECRET_FOLDER}/{CACHE_SECRET_KEY}"}
    return dumps(table | cache.limits_table())


def cache_digest(server: PackageServer) -> str:
    """Return a digest of the configuration, by which a change of it starts new pods."""
    return hashlib.sha256(cache_text(server).encode()).hexdigest()
