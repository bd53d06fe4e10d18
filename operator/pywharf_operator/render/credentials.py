"""The Secret `<server>-credentials`: every repo's secrets as files for the server, and their revision."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import metadata
from pywharf_operator.render.secrets import RepoSecrets
from pywharf_operator.spec import PackageServer

REVISION_KEY = "revision"
"""No repo's key: those have a dot."""


def secret_key(name: RepoName, use: str) -> str:
    """The key of a repo's secret; `use` is read, write or backend."""
    return f"{name}.{use}"


def secret_path(folder: str, name: RepoName, use: str) -> str:
    """Where the server finds that secret."""
    return f"{folder}/{secret_key(name, use)}"


def credentials_content(repos: Mapping[RepoName, RepoSecrets]) -> dict[str, bytes]:
    """Every secret by its key, without the revision."""
    return {
        secret_key(name, use): value for name in sorted(repos) for use, value in sorted(repos[name].given().items())
    }


def revision(content: Mapping[str, bytes], session_key: bytes) -> str:
    """Hex digest of the content, keyed: it stands in a ConfigMap, and there must not help to guess a weak secret."""
    digest = hmac.new(session_key, digestmod=hashlib.sha256)
    for key in sorted(content):
        for part in (key.encode(), content[key]):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def credentials_secret(server: PackageServer, content: Mapping[str, bytes], revision_hex: str) -> dict[str, Any]:
    """The Secret."""
    data = {**content, REVISION_KEY: revision_hex.encode()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(server, "credentials"),
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
