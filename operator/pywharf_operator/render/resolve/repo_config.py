"""A repo's table in the server's configuration."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec, parse_spec
from pywharf_operator.render.resolve.secret_refs import SOURCE_FIELDS, lends_identity, source_use
from pywharf_operator.spec import PackageRepo, PackageServer
from pywharf_operator.spec.access import delivered
from pywharf_operator.spec.package_repo import UpstreamSource


def repo_table(
    repo: PackageRepo,
    server: PackageServer,
    specs: Mapping[str, type[BackendSpec]],
    secret_files: Mapping[str, str],
) -> BackendSpec:
    """Return the repo's table as the server reads it.

    `secret_files` holds the paths of its secrets by use, but for `backend`, as far as it has them. The backend must be
    installed. Raises InvalidConfigError if the backend refuses the table.
    """
    spec = repo.spec
    table: dict[str, Any] = spec.backend.chosen.table() | {
        "anonymous_read": spec.credentials.anonymous_read,
        "sync_index_interval": spec.index.sync_interval_seconds,
        "upstream": upstream_table(repo, server, secret_files),
    }
    for permission in ("read", "write"):
        if permission in secret_files:
            table[f"{permission}_secret"] = {"file": secret_files[permission]}
    if spec.backend.file_system is not None:
        table["owner"] = str(repo.key)
    if spec.access:
        # Sorted, as their order means nothing.
        entries = sorted(map(delivered, spec.access), key=lambda entry: entry.name)
        table["access"] = msgspec.to_builtins(entries, builtin_types=(datetime,))
    if lends_identity(server, repo):
        table["ambient_identity"] = True
    return parse_spec(table, specs, f"spec.backend.{spec.backend.chosen_field}")


def without_cache(spec: BackendSpec) -> BackendSpec:
    """Return the table with the mode Pages instead of Cached; the same if its mode is another."""
    if spec.upstream.mode != "Cached":
        return spec
    return msgspec.structs.replace(spec, upstream=msgspec.structs.replace(spec.upstream, mode="Pages"))


def waits_for_cache(repo: PackageRepo, server: PackageServer, spec: BackendSpec) -> bool:
    """Return whether the repo is to use the cache and does not yet, because of pods that have none."""
    return upstream_mode(repo, server) == "Cached" != spec.upstream.mode


def upstream_mode(repo: PackageRepo, server: PackageServer) -> str:
    """Return the repo's own mode, or the server's."""
    return repo.spec.upstream.mode or server.spec.upstream.mode


def upstream_table(repo: PackageRepo, server: PackageServer, secret_files: Mapping[str, str]) -> dict[str, Any]:
    """Merge the upstream settings: the repo's own override the server's; what either reserves is reserved."""
    own, default = repo.spec.upstream, server.spec.upstream
    if own.sources:
        asked: dict[str, Any] = {"sources": [_source_table(source, secret_files) for source in own.sources]}
    else:
        url = own.url or default.url
        asked = {"url": url} if url else {}
    return asked | {
        "mode": upstream_mode(repo, server),
        "reserved": list(dict.fromkeys((*default.reserved, *own.reserved))),
        "allow_shadowing": list(own.allow_shadowing),
    }


def _source_table(source: UpstreamSource, secret_files: Mapping[str, str]) -> dict[str, Any]:
    table: dict[str, Any] = {"url": source.url, "projects": list(source.projects)}
    if source.credentials_secret_ref is not None:
        for field in SOURCE_FIELDS:
            # A repo whose Secret is missing is not served, so that its table may lack it.
            path = secret_files.get(source_use(source, field), "")
            table[field] = {"file": path}
    return table
