"""The ConfigMap `<server>-config`: what `pywharf server --config --admin_secret` reads. It holds no secret."""

import base64
import gzip
import io
from collections.abc import Mapping
from typing import Any

import msgspec

from pywharf.config.repo_config import AdminSecret, BackendSpec, type_of
from pywharf.core.names import RepoName
from pywharf.core.toml_text import dumps
from pywharf_operator.render.labels import Manifest, metadata
from pywharf_operator.render.objects.credentials import revision_key, secret_path
from pywharf_operator.render.resolve.object_sizes import LARGE_BYTES, size_of
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.model import fields_of

CONFIG_KEY = "config.toml"
ADMIN_SECRET_KEY = "admin_secret.toml"  # noqa: S105 - a file's name
REPOS_KEY = "repos.toml"
"""Whose each repo is. The server does not read it: the operator does, where it cannot read a namespace."""
COMPRESSED_SUFFIX = ".gz"
_MOST_TEXT_BYTES = 32 * 1024**2
"""Of a text, unpacked: tables of 32 MiB are never one ConfigMap."""


def config_text(
    repos: Mapping[RepoName, BackendSpec | Mapping[str, Any]], revision_hex: str, shard_count: int, folder: str
) -> str:
    """A table for each repo, after the revision that every shard of the credentials must have."""
    document: dict[str, Any] = {
        "credentials_revision": revision_hex,
        "credentials_revision_file": [f"{folder}/{revision_key(shard)}" for shard in range(shard_count)],
    }
    return dumps(document | {name: table_of(repos[name]) for name in sorted(repos)})


def admin_secret_text(repos: Mapping[RepoName, BackendSpec | Mapping[str, Any]], folder: str) -> str:
    """A table for each repo of `repos`, all of which have a backend secret."""
    return dumps({name: _admin_table(name, repos[name], folder) for name in sorted(repos)})


def repos_text(repos: Mapping[RepoName, ObjectKey]) -> str:
    """The PackageRepo of each name."""
    return dumps({name: str(repos[name]) for name in sorted(repos)})


def table_of(repo: BackendSpec | Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a repo, or one that was applied before."""
    return plain(repo) if isinstance(repo, BackendSpec) else dict(repo)


def _admin_table(name: RepoName, repo: BackendSpec | Mapping[str, Any], folder: str) -> dict[str, Any]:
    if not isinstance(repo, BackendSpec):
        return dict(repo)
    return plain(AdminSecret(type=type_of(repo), file=secret_path(folder, name, "backend")))


def config_map(server: PackageServer, config: str, admin_secret: str, repos: str = "") -> Manifest:
    """The ConfigMap, its texts compressed where they are large."""
    texts = {CONFIG_KEY: config, ADMIN_SECRET_KEY: admin_secret} | ({REPOS_KEY: repos} if repos else {})
    made: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(server, "config"),
        "data": texts,
    }
    if size_of(made) < LARGE_BYTES:
        return made
    del made["data"]
    compressed = {key + COMPRESSED_SUFFIX: gzip.compress(text.encode(), mtime=0) for key, text in texts.items()}
    return made | {"binaryData": {key: base64.b64encode(value).decode() for key, value in compressed.items()}}


def texts_of(made: Manifest) -> dict[str, str]:
    """What a ConfigMap holds, by CONFIG_KEY and ADMIN_SECRET_KEY, compressed or not."""
    compressed = (made.get("binaryData") or {}).items()
    plain_texts: dict[str, str] = made.get("data") or {}
    return plain_texts | {
        key.removesuffix(COMPRESSED_SUFFIX): _decompressed(base64.b64decode(value)).decode()
        for key, value in compressed
    }


def _decompressed(content: bytes) -> bytes:
    """Raises OSError and EOFError. What somebody else wrote into the ConfigMap may unpack to any size."""
    with gzip.open(io.BytesIO(content)) as file:
        text = file.read(_MOST_TEXT_BYTES + 1)
    if len(text) > _MOST_TEXT_BYTES:
        raise OSError(f"more than {_MOST_TEXT_BYTES} bytes")
    return text


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """The struct as TOML has it: lists instead of tuples, and nothing that equals its default.

    msgspec's own `omit_defaults` goes by identity, so that the text would depend on how a number was made.
    """
    config = struct.__struct_config__
    table: dict[str, Any] = {} if config.tag is None else {str(config.tag_field): config.tag}
    for field in fields_of(type(struct)):
        value = getattr(struct, field.name)
        if value != field.default:
            table[field.encode_name] = _value(value)
    return table


def _value(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return plain(value)
    return list(value) if isinstance(value, tuple) else value
