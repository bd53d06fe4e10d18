"""The text `cache.toml` in the ConfigMap `<server>-config`: where the server keeps what it takes from other indexes.

It holds no secret. Servers read it once, when they start, so the pod template names its digest.
"""

import hashlib
from typing import Any, Final

from pywharf.core.toml_text import dumps
from pywharf_operator.spec.cache import Cache

CACHE_KEY: Final = "cache.toml"
CACHE_MOUNT: Final = "/var/lib/pywharf-cache"
CACHE_SECRET_FOLDER: Final = "/etc/pywharf-cache"  # noqa: S105 - a folder's name
CACHE_SECRET_KEY: Final = "secret"  # noqa: S105 - a file's name
_FOLDER: Final = "kept"
"""Folder of the volume, whose own one may hold what the file system or others put there."""


def cache_text(cache: Cache | None) -> str:
    """Return the cache's configuration as the server reads it; empty if there is no cache."""
    if cache is None:
        return ""
    store = cache.object_store
    table: dict[str, Any] = {"type": "file_system", "folder": f"{CACHE_MOUNT}/{_FOLDER}"}
    if store is not None:
        # The server's own default of a field is the model's, and a text without it is shorter.
        table = {field: value for field, value in store.table().items() if value is not False}
        if cache.credentials_secret_ref is None:
            table["ambient_identity"] = True
        else:
            table["secret"] = {"file": f"{CACHE_SECRET_FOLDER}/{CACHE_SECRET_KEY}"}
    return dumps(table | cache.limits_table())


def cache_digest(cache: Cache) -> str:
    """Return a digest of the configuration, by which a change of it starts new pods."""
    return hashlib.sha256(cache_text(cache).encode()).hexdigest()
