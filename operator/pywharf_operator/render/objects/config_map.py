"""The ConfigMap `<server>-config`, which `pywharf server --config --admin_secret` reads. It holds no secret."""

import base64
import gzip
import io
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pywharf.config.repo_config import AdminSecret, BackendSpec, type_of
from pywharf.core.names import RepoName
from pywharf.core.toml_text import dumps
from pywharf_operator.render.labels import Manifest, metadata
from pywharf_operator.render.objects.credentials import revision_key, secret_path
from pywharf_operator.render.resolve.object_sizes import LARGE_BYTES, size_of
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.model import fields_of
from pywharf_operator.spec.names import CONFIG_SUFFIX, ConfigMapSuffix

CONFIG_KEY = "config.toml"
ADMIN_SECRET_KEY = "admin_secret.toml"  # noqa: S105 - a file's name
REPOS_KEY = "repos.toml"
"""The owner of each repo. The server does not read it; the operator does when it cannot read a namespace."""
COMPRESSED_SUFFIX = ".gz"
_FIRST_TABLE: Final = re.compile(r"^\[", re.MULTILINE)
_MOST_TEXT_BYTES = 32 * 1024**2
"""Most bytes of a decompressed text. Tables of 32 MiB never fit into one ConfigMap."""


def config_text(
    repos: Mapping[RepoName, BackendSpec | Mapping[str, Any]],
    revision_hex: str,
    shard_count: int,
    folder: str,
    named: Mapping[str, str] | None = None,
) -> str:
    """Return the revision that every shard of the credentials must have, then a table for each repo.

    `named` are the server's own keys that name its policies and its identity document, if it has any.
    """
    document: dict[str, Any] = {
        "credentials_revision": revision_hex,
        "credentials_revision_file": [f"{folder}/{revision_key(shard)}" for shard in range(shard_count)],
        **(named or {}),
    }
    return dumps(document | {name: table_of(repos[name]) for name in sorted(repos)})


def admin_secret_text(repos: Mapping[RepoName, BackendSpec | Mapping[str, Any]], folder: str) -> str:
    """Return a table for each repo of `repos`. All of them have a backend secret."""
    return dumps({name: _admin_table(name, repos[name], folder) for name in sorted(repos)})


def repos_text(repos: Mapping[RepoName, ObjectKey]) -> str:
    """Return the PackageRepo of each repo name."""
    return dumps({name: str(repos[name]) for name in sorted(repos)})


def table_of(repo: BackendSpec | Mapping[str, Any]) -> dict[str, Any]:
    """Return a repo's table, or a copy of the table that was applied before."""
    return plain(repo) if isinstance(repo, BackendSpec) else dict(repo)


def _admin_table(name: RepoName, repo: BackendSpec | Mapping[str, Any], folder: str) -> dict[str, Any]:
    if not isinstance(repo, BackendSpec):
        return dict(repo)
    return plain(AdminSecret(type=type_of(repo), file=secret_path(folder, name, "backend")))


def config_map(
    server: PackageServer, config: str, admin_secret: str, others: Mapping[str, str] | None = None
) -> Manifest:
    """Render the ConfigMap, with `others` under their keys unless they are empty. Large texts are compressed."""
    more = {key: text for key, text in (others or {}).items() if text}
    texts = {CONFIG_KEY: config, ADMIN_SECRET_KEY: admin_secret} | more
    return map_of_texts(server, CONFIG_SUFFIX, texts)


def map_of_texts(server: PackageServer, suffix: ConfigMapSuffix, texts: Mapping[str, str]) -> Manifest:
    """Render the ConfigMap `<server>-<suffix>`. Its texts are compressed if they are large."""
    made: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(server, suffix),
        "data": dict(texts),
    }
    if size_of(made) < LARGE_BYTES:
        return made
    del made["data"]
    compressed = {key + COMPRESSED_SUFFIX: gzip.compress(text.encode(), mtime=0) for key, text in texts.items()}
    return made | {"binaryData": {key: base64.b64encode(value).decode() for key, value in compressed.items()}}


def texts_of(made: Manifest) -> dict[str, str]:
    """Return a ConfigMap's texts by their keys, decompressed if necessary."""
    compressed = (made.get("binaryData") or {}).items()
    plain_texts: dict[str, str] = made.get("data") or {}
    return plain_texts | {
        key.removesuffix(COMPRESSED_SUFFIX): _decompressed(base64.b64decode(value)).decode()
        for key, value in compressed
    }


def own_keys(config: str) -> dict[str, Any]:
    """Return the server's own keys of a configuration, which precede the repos' tables. Raises ValueError."""
    # Thousands of tables may take a second to parse.
    return tomllib.loads(_FIRST_TABLE.split(config, maxsplit=1)[0])


def _decompressed(content: bytes) -> bytes:
    """Decompress a text. Raises OSError and EOFError.

    The text is limited: content that somebody else wrote into the ConfigMap may unpack to any size.
    """
    with gzip.open(io.BytesIO(content)) as file:
        text = file.read(_MOST_TEXT_BYTES + 1)
    if len(text) > _MOST_TEXT_BYTES:
        raise OSError(f"more than {_MOST_TEXT_BYTES} bytes")
    return text


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the struct as a TOML table: lists instead of tuples, and no value that equals its default.

    msgspec's own `omit_defaults` compares by identity, so the text would depend on how a number was created.
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
    return [_value(item) for item in value] if isinstance(value, tuple) else value
