"""The ConfigMap `<server>-config`: what `pywharf server --config --admin_secret` reads. It holds no secret."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pywharf.config import AdminSecret, BackendSpec, type_of
from pywharf.core.names import RepoName
from pywharf.core.toml_text import dumps
from pywharf_operator.render.credentials import REVISION_KEY, secret_path
from pywharf_operator.render.labels import metadata
from pywharf_operator.spec import PackageServer

CONFIG_KEY = "config.toml"
ADMIN_SECRET_KEY = "admin_secret.toml"  # noqa: S105 - a file's name


def config_text(repos: Mapping[RepoName, BackendSpec], revision_hex: str, folder: str) -> str:
    """A table for each repo, after the revision that the credentials must have."""
    document: dict[str, Any] = {
        "credentials_revision": revision_hex,
        "credentials_revision_file": f"{folder}/{REVISION_KEY}",
    }
    return dumps(document | {name: _plain(repos[name]) for name in sorted(repos)})


def admin_secret_text(repos: Mapping[RepoName, BackendSpec], folder: str) -> str:
    """A table for each repo of `repos`, all of which have a backend secret."""
    return dumps(
        {
            name: _plain(AdminSecret(type=type_of(repos[name]), file=secret_path(folder, name, "backend")))
            for name in sorted(repos)
        }
    )


def config_map(server: PackageServer, config: str, admin_secret: str) -> dict[str, Any]:
    """The ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(server, "config"),
        "data": {CONFIG_KEY: config, ADMIN_SECRET_KEY: admin_secret},
    }


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    """The struct as TOML has it: lists instead of tuples, and nothing that equals its default.

    msgspec's own `omit_defaults` goes by identity, so that the text would depend on how a number was made.
    """
    config = struct.__struct_config__
    table: dict[str, Any] = {} if config.tag is None else {str(config.tag_field): config.tag}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value != field.default:
            table[field.encode_name] = _value(value)
    return table


def _value(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return _plain(value)
    return list(value) if isinstance(value, tuple) else value
