"""The reader of Secrets: those that repos name are read one by one, all others only as metadata.

Anybody who may create Secrets can create any number of them, of 1 MiB each. So only the Secrets and the keys that a
repo names are kept, and each value only up to the maximum length of a secret.
"""

import asyncio
import base64
import binascii
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from cachetools import LRUCache

from pywharf_operator.cluster.kube import Json, Kube
from pywharf_operator.render.resolve.secret_refs import MAX_BYTES, SOURCE_FIELDS
from pywharf_operator.spec import CREDENTIALS_LABEL, ObjectKey, ObjectMeta, PackageRepo, Secret
from pywharf_operator.spec.kinds import SECRET

LABELLED: Final = f"{CREDENTIALS_LABEL}=true"
_MOST_CACHED_BYTES: Final = 16 * 1024**2
"""Maximum bytes of cached values and names; a server accepts at most 8 MiB of credentials."""
_ENTRY_OVERHEAD_BYTES: Final = 512
"""Bytes that a cached Secret takes besides its values."""
_CONCURRENT: Final = 8
"""Maximum number of Secrets read concurrently: each may take 1.4 MiB until its keys are picked."""
_MAX_UNLISTED: Final = 20
"""Maximum number of unlisted Secrets per namespace that are checked for whether they only lack the label."""
_MAX_NAMESPACE_LISTS: Final = 8
"""Number of namespaces above which one list of the whole cluster is cheaper."""

Wanted = Mapping[ObjectKey, frozenset[str]]
"""The needed keys of each Secret."""


class _Cached(msgspec.Struct, frozen=True):
    version: tuple[str, str]
    """uid and resourceVersion."""
    asked: frozenset[str]
    secret: Secret
    size: int

    def __repr__(self) -> str:
        """Hide the secret."""
        return "_Cached(...)"


def wanted_by(repos: Iterable[PackageRepo]) -> Wanted:
    """Return the Secrets, and the keys of each, that the repos name."""
    found: dict[ObjectKey, set[str]] = defaultdict(set)
    for repo in repos:
        credentials = repo.spec.credentials
        for ref in (credentials.read_secret_ref, credentials.write_secret_ref, credentials.backend_secret_ref):
            if ref is not None:
                found[ObjectKey(repo.key.namespace, ref.name)].add(ref.key)
        for source in repo.spec.upstream.sources:
            if source.credentials_secret_ref is not None:
                found[ObjectKey(repo.key.namespace, source.credentials_secret_ref.name)].update(SOURCE_FIELDS)
    return {key: frozenset(keys) for key, keys in found.items()}


class SecretReader:
    """The reader of Secrets. Those that have not changed come from a bounded cache."""

    def __init__(self, kube: Kube, *, cluster_wide: bool) -> None:
        """Create the reader. `cluster_wide`: whether the account may list the Secrets of all namespaces."""
        self._kube = kube
        self._cluster_wide = cluster_wide
        self._reading = asyncio.Semaphore(_CONCURRENT)
        self._cache: LRUCache[ObjectKey, _Cached] = LRUCache(_MOST_CACHED_BYTES, lambda cached: cached.size)

    async def read(self, wanted: Wanted, namespaces: Iterable[str] | None = None) -> tuple[Secret, ...]:
        """Return the wanted Secrets that exist; one without the label comes without values. Raises KubeError.

        `namespaces`: the namespaces to list; None: those of the wanted Secrets.
        """
        listed = {key.namespace for key in wanted} if namespaces is None else namespaces
        versions = await self._versions(wanted, sorted(listed))
        left: dict[str, int] = defaultdict(lambda: _MAX_UNLISTED)
        reads = []
        for key in sorted(wanted):
            version = versions.get(key)
            if version is not None:
                reads.append(self._current(key, wanted[key], version))
            elif left[key.namespace]:
                left[key.namespace] -= 1
                reads.append(self._unlabelled(key))
        found = await asyncio.gather(*reads)
        return tuple(secret for secret in found if secret is not None)

    async def value(self, key: ObjectKey, name: str) -> bytes | None:
        """Return one value of a Secret that the server's owner names, labelled or not. Nothing else of it is kept."""
        found = await self._kube.get_metadata(SECRET, key)
        if found is None:
            return None
        secret = await self._current(key, frozenset({name}), _version_of(found))
        return None if secret is None else secret.value(name)

    async def _versions(self, wanted: Wanted, listed: Sequence[str]) -> dict[ObjectKey, tuple[str, str]]:
        """Return the uid and resourceVersion of the wanted Secrets that carry the label."""
        namespaces: Sequence[str | None] = (
            [None] if self._cluster_wide and len(listed) > _MAX_NAMESPACE_LISTS else listed
        )
        lists = await asyncio.gather(
            *(
                self._kube.list_metadata(SECRET, one, LABELLED, only=lambda item: _key_of(item) in wanted)
                for one in namespaces
            )
        )
        return {_key_of(item): _version_of(item) for items in lists for item in items}

    async def _current(self, key: ObjectKey, asked: frozenset[str], version: tuple[str, str]) -> Secret | None:
        known = self._cache.get(key)
        if known is not None and known.version == version and asked <= known.asked:
            return known.secret
        if known is not None:
            # Two servers may need different keys of one Secret.
            asked |= known.asked if known.version == version else frozenset()
        async with self._reading:
            raw = await self._kube.get(SECRET, key)
            if raw is None:
                return None
            secret = _picked(key, raw, asked)
            with contextlib.suppress(ValueError):  # it is larger than the cache
                self._cache[key] = _Cached(_version_of(raw), asked, secret, _size(secret))
        return secret

    async def _unlabelled(self, key: ObjectKey) -> Secret | None:
        """Return the Secret without values if it exists and only lacks the label."""
        found = await self._kube.get_metadata(SECRET, key)
        return None if found is None else _picked(key, {"metadata": found["metadata"]}, frozenset())


def _picked(key: ObjectKey, raw: Json, asked: frozenset[str]) -> Secret:
    """Return the part of a Secret to keep. Of a value that is too long, enough is kept to detect that."""
    metadata = raw["metadata"]
    label = (metadata.get("labels") or {}).get(CREDENTIALS_LABEL)
    data: Mapping[str, Any] = raw.get("data") or {}
    return Secret(
        api_version="v1",
        kind="Secret",
        metadata=ObjectMeta(
            name=key.name,
            namespace=key.namespace,
            labels={CREDENTIALS_LABEL: label} if isinstance(label, str) else {},
        ),
        data={name: _bounded(str(data[name])) for name in sorted(asked) if name in data},
    )


def _bounded(encoded: str) -> str:
    most = (MAX_BYTES + 3) // 3 * 4
    if len(encoded) <= most:
        return encoded
    try:
        value = base64.b64decode(encoded[: most + 4])
    except binascii.Error:
        value = bytes(MAX_BYTES + 1)
    return base64.b64encode(value[: MAX_BYTES + 1]).decode()


def _size(secret: Secret) -> int:
    return _ENTRY_OVERHEAD_BYTES + sum(len(name) + len(value) for name, value in (secret.data or {}).items())


def _key_of(item: Json) -> ObjectKey:
    metadata = item.get("metadata") or {}
    return ObjectKey(str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))


def _version_of(item: Json) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("uid")), str(metadata.get("resourceVersion"))
