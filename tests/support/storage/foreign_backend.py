"""A backend of another distribution, described by a file, as the contract suite and the server open it."""

import os
import tomllib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import BackendSpec, parse_spec

VARIABLE = "PYWHARF_TEST_BACKEND"
"""The environment variable with the path of the file."""


class ForeignBackend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file. docs/backends.md describes its fields."""

    table: Mapping[str, Any]
    """A repo's table, without `index_filename`. `{storage}` in a text becomes a new name for each test."""
    secret_env: str | None = None
    """The environment variable with the admin secret; None: the backend is opened without one."""
    shared: bool = True
    """Whether backends that are opened with the same table and root share a storage, as those of two servers do."""
    folding: bool = True
    """Whether fold_journal removes entries."""
    claims: bool = False
    """Whether it keeps claims."""

    @property
    def type(self) -> str:
        return str(self.table["type"])

    def new_storage(self) -> Mapping[str, Any]:
        """Return the table of an empty storage."""
        name = f"contract-{uuid.uuid4().hex[:12]}"
        return {k: v.replace("{storage}", name) if isinstance(v, str) else v for k, v in self.table.items()}

    def spec(self, table: Mapping[str, Any], index_filename: str) -> BackendSpec:
        return parse_spec({**table, "index_filename": index_filename}, spec_types(), VARIABLE)

    def secret(self) -> str | None:
        return None if self.secret_env is None else os.environ[self.secret_env]


def given_backend() -> ForeignBackend | None:
    """Return the backend that the environment names, if any."""
    path = os.environ.get(VARIABLE)
    return msgspec.convert(tomllib.loads(Path(path).read_text()), ForeignBackend) if path else None
