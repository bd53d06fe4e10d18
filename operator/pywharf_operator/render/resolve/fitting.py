"""The repos that fit into a server's configuration and credentials."""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.names import RepoName
from pywharf.core.toml_text import dumps, encode_string
from pywharf_operator.render.objects.cache import CACHE_KEY, cache_text
from pywharf_operator.render.objects.config_map import (
    REPOS_KEY,
    admin_secret_text,
    config_map,
    config_text,
    plain,
    repos_text,
    table_of,
)
from pywharf_operator.render.objects.credentials import MAX_SHARDS, revision_size, secret_key, shard_of
from pywharf_operator.render.objects.identity import IDENTITY_KEY, identity_keys
from pywharf_operator.render.resolve.kept import KeptRepo
from pywharf_operator.render.resolve.object_sizes import LARGE_BYTES, MAX_BYTES, entry_size, size_of
from pywharf_operator.render.resolve.secret_refs import RepoSecrets
from pywharf_operator.render.resolve.shares import Age, Share, excess
from pywharf_operator.spec import ObjectKey, PackageServer

MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of the configuration before compression. Replicas parse it, and a small compressed text can unpack to a
large one."""
_FILL_FRACTION: Final = 0.95
"""Fraction of MAX_BYTES up to which the compressed configuration is filled when repos are refused."""
_TRUST_FRACTION: Final = 0.6
"""Fraction of MAX_BYTES. Below it the estimate is trusted; above it the real ConfigMap is rendered and measured."""
_REVISION: Final = "0" * 64


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A repo that its server would serve."""

    repo: ObjectKey
    name: RepoName
    age: Age
    spec: BackendSpec | Mapping[str, Any]
    """Its configuration, or the table that was applied last."""
    secrets: RepoSecrets
    fixed: bool = False
    """Whether the repo is served already and unreadable now, so that it stays."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return f"Candidate({self.repo})"


def kept_candidate(repo: KeptRepo) -> Candidate:
    """Return the candidate for a repo that stays as it was applied."""
    oldest = (float("-inf"), repo.repo)
    return Candidate(repo=repo.repo, name=repo.name, age=oldest, spec=repo.table, secrets=repo.secrets, fixed=True)


def table_bytes(name: RepoName, spec: BackendSpec) -> int:
    """Return the size in bytes of a repo's table in the configuration."""
    return len(dumps({name: plain(spec)}).encode())


def at_most_bytes(name: RepoName, spec: BackendSpec) -> int:
    """Return a quick upper bound of `table_bytes`."""
    return sum(map(len, _pieces(name, plain(spec)))) + _OVERHEAD


_OVERHEAD: Final = 16
_PUNCTUATION: Final = b'" = [, ]\n'
"""At least as long as the punctuation around a value."""


def _pieces_of(candidate: Candidate) -> bytes:
    """Return the bytes that a repo adds: its table and its owner."""
    owner = _pieces(candidate.name, str(candidate.repo))
    return b"".join([*_pieces(candidate.name, table_of(candidate.spec)), *owner])


def _pieces(path: str, value: object) -> Iterator[bytes]:
    """Yield the bytes that a value adds, not in the order of the text."""
    if isinstance(value, dict):
        yield encode_string(path).encode() + _PUNCTUATION
        for key, item in value.items():
            is_table = isinstance(item, dict) or (isinstance(item, list) and any(isinstance(one, dict) for one in item))
            yield from _pieces(f"{path}.{key}" if is_table else key, item)
    elif isinstance(value, list):
        yield path.encode() + _PUNCTUATION
        for item in value:
            if isinstance(item, dict):
                yield from _pieces(path, item)
            else:
                yield encode_string(str(item)).encode() + b", "
    else:
        yield path.encode() + _PUNCTUATION + encode_string(str(value)).encode()


def without_room(
    server: PackageServer, candidates: Sequence[Candidate], folder: str, identity: str = ""
) -> Mapping[ObjectKey, frozenset[str]]:
    """Return the repos that do not fit, with the full objects: `configuration`, `credentials`.

    `identity` is the longest document about identities that the configuration may get.

    The namespace that takes the most of a full object loses its newest repos until the rest fits; see `excess`.
    """
    found: dict[ObjectKey, set[str]] = defaultdict(set)
    for where, refused in (
        ("credentials", _over_credentials(candidates)),
        ("configuration", _over_configuration(server, candidates, folder, identity)),
    ):
        for repo in refused:
            found[repo].add(where)
    return {repo: frozenset(where) for repo, where in found.items()}


def _over_credentials(candidates: Sequence[Candidate]) -> frozenset[ObjectKey]:
    """Return the repos whose shard has no room.

    Each shard is filled separately: a tenant's choice of names cannot fill another shard.
    """
    sizes = {
        one.repo: sum(entry_size(secret_key(one.name, use), len(value)) for use, value in one.secrets.given().items())
        for one in candidates
    }
    refused: set[ObjectKey] = set()
    for shard in range(MAX_SHARDS):
        own = [one for one in candidates if shard_of(one.name, MAX_SHARDS) == shard]
        shares = [Share(one.repo, one.age, sizes[one.repo], one.fixed) for one in own]
        refused |= excess(shares, MAX_BYTES - revision_size())
    return frozenset(refused)


def _over_configuration(
    server: PackageServer, candidates: Sequence[Candidate], folder: str, identity: str
) -> frozenset[ObjectKey]:
    pieces = {one.repo: _pieces_of(one) for one in candidates}
    shares = [Share(one.repo, one.age, len(pieces[one.repo]) + _OVERHEAD, one.fixed) for one in candidates]
    if sum(share.size for share in shares) < LARGE_BYTES // 2:
        return frozenset()
    refused = set(excess(shares, MAX_TEXT_BYTES))
    beside = identity + cache_text(server)
    room = MAX_BYTES - len(zlib.compress(beside.encode()))
    budget = int(room * _FILL_FRACTION)
    while True:
        kept = [one for one in candidates if one.repo not in refused]
        compressed = _compressed(kept, pieces)
        more = excess(compressed, budget)
        refused |= more
        if not more:
            used = sum(share.size for share in compressed)
            if used < room * _TRUST_FRACTION or _fits(server, kept, folder, identity):
                return frozenset(refused)
            budget = int(budget * _FILL_FRACTION)


def _compressed(candidates: Sequence[Candidate], pieces: Mapping[ObjectKey, bytes]) -> list[Share]:
    """Divide the compressed size of each namespace's tables among its repos, by the length of their tables.

    Each namespace is compressed separately, so the sum is no less than the compressed size of all tables together.
    """
    by_namespace: dict[str, list[Candidate]] = defaultdict(list)
    for one in sorted(candidates, key=lambda one: one.age):
        by_namespace[one.repo.namespace].append(one)
    shares = []
    for own in by_namespace.values():
        texts = [pieces[one.repo] for one in own]
        packed, length = len(zlib.compress(b"".join(texts))), sum(map(len, texts))
        shares += [
            Share(one.repo, one.age, -(-packed * len(text) // length), one.fixed)
            for one, text in zip(own, texts, strict=True)
        ]
    return shares


def _fits(server: PackageServer, kept: Sequence[Candidate], folder: str, identity: str) -> bool:
    specs = {one.name: one.spec for one in kept}
    with_backend = {one.name: one.spec for one in kept if one.secrets.backend is not None}
    owners = {one.name: one.repo for one in kept}
    config = config_text(specs, _REVISION, MAX_SHARDS, folder, identity_keys(identity, folder))
    others = {
        REPOS_KEY: repos_text(owners),
        IDENTITY_KEY: identity,
        CACHE_KEY: cache_text(server),
    }
    made = config_map(server, config, admin_secret_text(with_backend, folder), others)
    return size_of(made) <= MAX_BYTES
