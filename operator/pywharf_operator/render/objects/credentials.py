"""The Secrets `<server>-credentials…`: every repo's secrets as files for the server, and their revision.

Usually there is one Secret. If it would be large, the repos are spread over several Secrets, called shards, by a hash
of their names.
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
"""Most shards of a server. Every number of shards is a power of two. A pod mounts each of these shards that exists, so
a change of their number changes no pod. It lists them backwards: if an outdated shard still holds a key, the lower
shard's value wins."""
_REVISION: Final = "revision"


def secret_key(name: RepoName, use: str) -> str:
    """Return the key of a repo's secret; `use` is read, write or backend."""
    return f"{name}.{use}"


def secret_path(folder: str, name: RepoName, use: str) -> str:
    """Return the path where the server finds that secret."""
    return f"{folder}/{secret_key(name, use)}"


def revision_key(shard: int) -> str:
    """Return the key of a shard's revision. It is no repo's key: those have a dot."""
    return f"{_REVISION}-{shard}"


def shard_name(server: PackageServer, shard: int) -> str:
    """Return the name of a shard's Secret."""
    return object_name(server, _suffix(shard))


def shard_of(name: RepoName, count: int) -> int:
    """Return which of `count` shards holds a repo's secrets."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count


def credentials_content(repos: Mapping[RepoName, RepoSecrets]) -> dict[str, bytes]:
    """Return every secret by its key, without the revision."""
    return {
        secret_key(name, use): value for name in sorted(repos) for use, value in sorted(repos[name].given().items())
    }


def revision(content: Mapping[str, bytes], session_key: bytes) -> str:
    """Return a keyed hex digest of the content. A ConfigMap holds it, where it must not help to guess a weak secret."""
    digest = hmac.new(session_key, digestmod=hashlib.sha256)
    for key in sorted(content):
        for part in (key.encode(), content[key]):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def shards(content: Mapping[str, bytes]) -> tuple[dict[str, bytes], ...]:
    """Split the content into the fewest shards that keep each small. With MAX_SHARDS of them, they may grow larger."""
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
    """Render a Secret for each shard. Each holds the revision of all shards together."""
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
    """Return the bytes that a shard's revision takes."""
    return entry_size(revision_key(0), 2 * hashlib.sha256().digest_size)


def _suffix(shard: int) -> str:
    return f"credentials-{shard}" if shard else "credentials"


def _size(shard: Mapping[str, bytes]) -> int:
    """Return the bytes of the shard with its revision, which is a SHA-256 in hex."""
    return revision_size() + sum(entry_size(key, len(value)) for key, value in shard.items())
