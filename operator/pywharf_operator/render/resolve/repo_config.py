"""A repo's table in the server's configuration."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec, parse_spec
from pywharf_operator.render.resolve.secret_refs import lends_identity
from pywharf_operator.spec import PackageRepo, PackageServer
from pywharf_operator.spec.access import delivered


def repo_table(
    repo: PackageRepo,
    server: PackageServer,
    specs: Mapping[str, type[BackendSpec]],
    secret_files: Mapping[str, str],
) -> BackendSpec:
    """Return the repo's table as the server reads it.

    `secret_files` holds the paths of its `read` and `write` secrets, as far as it has them. The backend must be
    installed. Raises InvalidConfigError if the backend refuses the table.
    """
    spec = repo.spec
    table: dict[str, Any] = spec.backend.chosen.table() | {
        "anonymous_read": spec.credentials.anonymous_read,
        "sync_index_interval": spec.index.sync_interval_seconds,
        "upstream": upstream_table(repo, server),
    }
    for permission, path in secret_files.items():
        table[f"{permission}_secret"] = {"file": path}
    if spec.backend.file_system is not None:
        table["owner"] = str(repo.key)
    if spec.access:
        # Sorted, as their order means nothing.
        entries = sorted(map(delivered, spec.access), key=lambda entry: entry.name)
        table["access"] = msgspec.to_builtins(entries, builtin_types=(datetime,))
    if lends_identity(server, repo):
        table["ambient_identity"] = True
    return parse_spec(table, specs, f"spec.backend.{spec.backend.chosen_field}")


def upstream_table(repo: PackageRepo, server: PackageServer) -> dict[str, Any]:
    """Merge the upstream settings: the repo's own override the server's; what either reserves is reserved."""
    own, default = repo.spec.upstream, server.spec.upstream
    url = own.url or default.url
    return {
        "mode": own.mode or default.mode,
        "reserved": list(dict.fromkeys((*default.reserved, *own.reserved))),
        "allow_shadowing": list(own.allow_shadowing),
    } | ({"url": url} if url else {})
