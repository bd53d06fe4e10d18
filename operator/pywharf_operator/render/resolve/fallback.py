"""The credentials for the configuration that replicas have, while the new configuration cannot be applied.

A replica accepts only secrets of the revision that its configuration names. Secrets of a newer revision would reach
nobody, and a revoked password would stay valid. So the newest secrets are delivered under the old revision.
"""

import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.config_map import ADMIN_SECRET_KEY, CONFIG_KEY, texts_of
from pywharf_operator.render.objects.credentials import MAX_SHARDS, credentials_secrets, secret_key, shard_of
from pywharf_operator.render.resolve.object_sizes import MAX_BYTES, size_of
from pywharf_operator.render.resolve.resolution import RepoVerdict, ServerVerdict
from pywharf_operator.render.resolve.secret_refs import source_uses

_REVISION: Final = re.compile("[0-9a-f]{64}")
_CHANGEABLE: Final = {
    "access",
    "upstream",
    "anonymous_read",
    "download",
    "poll_interval",
    "read_secret",
    "sync_index_interval",
    "write_secret",
}
"""Settings that may differ between two tables of the same packages and the same owner.

`max_file_bytes` is not among them: who may no longer upload large files must not do so by an old configuration.
"""
_FIELDS: Final = {"read": "read_secret", "write": "write_secret"}


def fallback_credentials(
    verdict: ServerVerdict, current: Manifest, wanted: Manifest, session_key: bytes
) -> tuple[Manifest, ...] | None:
    """Return the Secrets for the ConfigMap `current` if `wanted` cannot replace it; None if none can be made.

    A secret that the old configuration names gets a value that nobody knows if the secret is gone or its repo has
    become another one. Without a value the whole set would be refused.
    """
    try:
        config, admin = _tables(current)
        new_config, new_admin = _tables(wanted)
    except (ValueError, TypeError, KeyError, OSError, EOFError):  # somebody else wrote it
        return None
    for key in ("policies_file", "policies_digest", "identity_file", "identity_digest"):
        config.pop(key, None)
    revision, files = config.pop("credentials_revision", None), config.pop("credentials_revision_file", None)
    count = len(files) if isinstance(files, list) else 1 if isinstance(files, str) else 0
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision) or not 0 < count <= MAX_SHARDS:
        return None
    repos = {repo.name: repo for repo in verdict.repos}
    made: tuple[dict[str, bytes], ...] = tuple({} for _ in range(count))
    for name, table in config.items():
        if not isinstance(table, dict):
            return None
        key = RepoName(name)
        is_same = _identity(table) == _identity(new_config.get(name)) and admin.get(name) == new_admin.get(name)
        values = _values(repos.get(key) if is_same else None)
        uses = [use for use, field in _FIELDS.items() if field in table] + (["backend"] if name in admin else [])
        uses += source_uses(table)
        for use in uses:
            unknown_value = hmac.new(
                session_key, f"withdrawn {revision} {name} {use}".encode(), hashlib.sha256
            ).hexdigest()
            made[shard_of(key, count)][secret_key(key, use)] = values.get(use, unknown_value.encode())
    secrets = credentials_secrets(verdict.server, made, revision)
    return secrets if all(size_of(one) <= MAX_BYTES for one in secrets) else None


def _tables(made: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    texts = texts_of(made)
    return tomllib.loads(texts[CONFIG_KEY]), tomllib.loads(texts[ADMIN_SECRET_KEY])


def _identity(table: object) -> object:
    if not isinstance(table, Mapping):
        return None
    return {key: value for key, value in table.items() if key not in _CHANGEABLE}


def _values(repo: RepoVerdict | None) -> Mapping[str, bytes]:
    return {} if repo is None else repo.secrets.given()
