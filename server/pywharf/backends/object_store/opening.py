"""Open a repo's bucket."""

from pywharf.backends.registration import OpenBackend
from pywharf.config.object_stores import AzureSpec, GcsSpec, S3Spec
from pywharf.core.errors import InvalidConfigError
from pywharf.index.ports import Backend


def open_object_store(request: OpenBackend[S3Spec] | OpenBackend[GcsSpec] | OpenBackend[AzureSpec]) -> Backend:
    """Open a repo's backend. Raises InvalidConfigError."""
    raise InvalidConfigError(f"{request.name}: not built yet.")
