"""A backend of pywharf that keeps packages in a SQLite database."""

from typing import Annotated

import msgspec

from pywharf.backends.api import Backend, BackendSpec, BackendType, OpenBackend
from pywharf_sqlite.backend import SqliteBackend

_LARGEST_BYTES = 900_000_000
"""SQLite takes 10^9 bytes in a row, which also holds the file's metadata."""


class SqliteSpec(BackendSpec, frozen=True, kw_only=True, tag="sqlite"):
    """The fields of a repo's table, besides those that every backend has."""

    max_file_bytes: Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_BYTES)] = _LARGEST_BYTES
    """Maximum size of a file, in bytes."""
    lock_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=300)] = 20
    """Seconds that a call waits while another writer has the database locked."""


def _open(request: OpenBackend[SqliteSpec]) -> Backend:
    folder = request.root / "sqlite" / request.name
    return SqliteBackend(folder, request.spec.index_name, request.spec.lock_timeout_s)


BACKEND = BackendType(spec=SqliteSpec, open=_open)
