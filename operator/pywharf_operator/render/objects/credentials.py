"""The Secrets `<server>-credentials…`: every repo's secrets as files for the server, and their revision.

Mostly it is one. Where one would be large the repos are spread over several by a hash of their names: shards.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import Manifest, metadata, object_name
from pywharf_operator.render.resolve.object_sizes import LARGE_BYTES, entry_size
from pywharf_operator.render.resolve.secret_refs import RepoSecrets
from pywharf_operator.spec import PackageServer

MAX_SHARDS: Final = 8
"""A power of two, as every number of shards is. A pod mounts all of them, each if it is there: another number of them
changes no pod. It lists them backwards: of a key that an outdated shard still holds, the lower shard's value counts."""
_REVISION: Final = "revision"


def secret_key(name: RepoName, use: str) -> str:
    """The key of a repo's secret; `use` is read, write or backend."""
    return f"{name}.{use}"


def secret_path(folder: str, name: RepoName, use: str) -> str:
    """Where the server finds that secret."""
    return f"{folder}/{secret_key(name, use)}"


def revision_key(shard: int) -> str:
    """The key of a shard's revision. No repo's key: those have a dot."""
    return f"{_REVISION}-{shard}"


def shard_name(server: PackageServer, shard: int) -> str:
    """The name of a shard's Secret."""
    return object_name(server, _suffix(shard))


def shard_of(name: RepoName, count: int) -> int:
    """Which of `count` shards holds a repo's secrets."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count


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


def shards(content: Mapping[str, bytes]) -> tuple[dict[str, bytes], ...]:
    """The content in as few shards as keep each small; past MAX_SHARDS they grow."""
    count = 1
    while True:
        made: tuple[dict[str, bytes], ...] = tuple({} for _ in range(count))
        for key, value in content.items():
            made[shard_of(RepoName(key.rpartition(".")[0]), count)][key] = value
        if count == MAX_SHARDS or all(_size(shard) < LARGE_BYTES for shard in made):
            return made
        count *= 2


def credentials_secrets(
    server: PackageServer, shards_made: tuple[Mapping[str, bytes], ...], revision_hex: str
) -> tuple[Manifest, ...]:
    """A Secret for each shard, which holds the revision of all of them together."""
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(server, _suffix(number)),
            "type": "Opaque",
            "data": {
                key: base64.b64encode(value).decode()
                for key, value in {**shard, revision_key(number): revision_hex.encode()}.items()
            },
        }
        for number, shard in enumerate(shards_made)
    )


def revision_size() -> int:
    """Bytes that a shard's revision takes."""
    return entry_size(revision_key(0), 2 * hashlib.sha256().digest_size)


def _suffix(shard: int) -> str:
    return f"credentials-{shard}" if shard else "credentials"


def _size(shard: Mapping[str, bytes]) -> int:
    """Bytes of the shard with its revision, which is a SHA-256 in hex."""
    return revision_size() + sum(entry_size(key, len(value)) for key, value in shard.items())
