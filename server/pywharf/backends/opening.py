"""Find the installed backends by entry point, built-in and third-party alike; open a repo's backend, and the cache."""

import functools
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config.cache_config import CacheConfig, FileSystemCache
from pywharf.config.repo_config import BackendSpec, type_of
from pywharf.core.errors import InvalidConfigError
from pywharf.index.ports import Backend, CacheStore

GROUP = "pywharf.backends"


@functools.cache
def backend_types() -> Mapping[str, BackendType[Any]]:
    """Return the installed backends by type. Raises InvalidConfigError if two claim a type or one cannot be loaded."""
    types: dict[str, BackendType[Any]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        try:
            backend = point.load()
        except ImportError as error:
            raise InvalidConfigError(
                f"The backend {point.name!r} ({point.value}) cannot be loaded: {error}."
            ) from error
        tag = backend.spec.__struct_config__.tag if isinstance(backend, BackendType) else None
        if tag != point.name:
            raise InvalidConfigError(
                f"The entry point {point.name!r} ({point.value}) must be a BackendType whose spec has that tag."
            )
        if point.name in types:
            raise InvalidConfigError(f"Two installed distributions register the backend {point.name!r}; uninstall one.")
        types[point.name] = backend
    return types


def spec_types() -> Mapping[str, type[BackendSpec]]:
    """Return the configuration struct of each installed backend by type."""
    return {name: backend.spec for name, backend in backend_types().items()}


def open_backend(request: OpenBackend[Any]) -> Backend:
    """Open the repo's storage. Raises InvalidConfigError, for example if the secret that it needs is missing."""
    return backend_types()[type_of(request.spec)].open(request)


def open_cache(config: CacheConfig, root: Path, secret: str | None = None) -> CacheStore:
    """Open the store of the pull-through cache.

    Parameters:
        config: Where it lies.
        root: The server's ROOT.
        secret: The text of the configuration's secret; None if it has none.

    Raises:
        InvalidConfigError: The store cannot be opened by this configuration.
    """
    del secret
    if isinstance(config, FileSystemCache):
        from pywharf.backends.file_system.cache_store import open_folder  # noqa: PLC0415 - each store needs its extra

        return open_folder(config.folder, root)
    raise InvalidConfigError("--cache_config: this version keeps the cache in a folder only; use type file_system.")
