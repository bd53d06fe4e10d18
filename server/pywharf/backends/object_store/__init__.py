"""A backend that keeps packages in a bucket: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

This module is imported with every command. obstore is imported only when such a repo is opened.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config.cache_config import ObjectStoreCache
from pywharf.config.object_stores import AzureSpec, GcsSpec, S3Spec
from pywharf.config.repo_config import type_of
from pywharf.core.errors import InvalidConfigError
from pywharf.index.ports import Backend, CacheStore


def _open(request: OpenBackend[S3Spec] | OpenBackend[GcsSpec] | OpenBackend[AzureSpec]) -> Backend:
    with _needing_the_extra("repo", type_of(request.spec)):
        from pywharf.backends.object_store.opening import open_object_store  # noqa: PLC0415 - see the docstring
    return open_object_store(request)


def open_cache(config: ObjectStoreCache, root: Path, secret: str | None) -> CacheStore:
    """Open the pull-through cache in a bucket. Raises InvalidConfigError."""
    with _needing_the_extra("cache", str(type(config).__struct_config__.tag)):
        from pywharf.backends.object_store.opening import open_bucket_cache  # noqa: PLC0415 - see the docstring
    return open_bucket_cache(config, root, secret)


@contextlib.contextmanager
def _needing_the_extra(what: str, kind: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InvalidConfigError(
            f"A {what} of the type {kind} needs the package {error.name!r}: pip install 'pywharf[{kind}]'."
        ) from error


S3: BackendType[S3Spec] = BackendType(spec=S3Spec, open=_open)
GCS: BackendType[GcsSpec] = BackendType(spec=GcsSpec, open=_open)
AZURE: BackendType[AzureSpec] = BackendType(spec=AzureSpec, open=_open)
