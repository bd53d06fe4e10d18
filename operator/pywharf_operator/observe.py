"""A fresh reading of everything that one server's reconcile depends on."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from pywharf.core.names import REPO_NAME_PATTERN
from pywharf_operator.explain import explain
from pywharf_operator.kinds import NAMESPACE, REPO, SECRET, SERVER, Kind
from pywharf_operator.kube import Json, Kube
from pywharf_operator.render import Finding, NameClaim, Snapshot
from pywharf_operator.spec import (
    CREDENTIALS_LABEL,
    NamespaceObject,
    ObjectKey,
    PackageRepo,
    PackageServer,
    Resource,
    Secret,
)
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus
from pywharf_operator.waking import server_named_by

R = TypeVar("R", bound=Resource)
_CHUNK = 100
"""Objects that are parsed before others have their turn."""


class Malformed(msgspec.Struct, frozen=True):
    """A repo that got past the schema and cannot be read."""

    key: ObjectKey
    raw: Json
    finding: Finding


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. Objects that are being deleted are gone already."""

    key: ObjectKey
    server: PackageServer | None
    server_raw: Json | None
    """None: there is no such server, or it is being deleted."""
    server_fault: Finding | None
    """Why it cannot be read, where there is one."""
    repos: tuple[PackageRepo, ...]
    """Those that name the server."""
    raws: Mapping[ObjectKey, Json]
    """The same, as they were read."""
    malformed: tuple[Malformed, ...]
    secrets: tuple[Secret, ...]
    namespaces: Mapping[str, Mapping[str, str]] | None
    """Labels by namespace; None where they are not watched."""
    watched: tuple[str, ...] | None = None
    """Namespaces that are looked after; None: all."""

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return f"Observed({self.key})"

    @property
    def snapshot(self) -> Snapshot:
        """What rendering reads."""
        return Snapshot(
            repos=self.repos,
            servers=() if self.server is None else (self.server,),
            secrets=self.secrets,
            namespaces=self.namespaces,
            claims=tuple(_claim(one) for one in self.malformed),
            watched=self.watched,
        )


class Observer:
    """Reads. What has not changed since the last time is not parsed again."""

    def __init__(self, kube: Kube, namespaces: tuple[str, ...] | None) -> None:
        self._kube = kube
        self._namespaces = namespaces
        """Those that are watched; None: all."""
        self._parsed: dict[str, tuple[str, Any]] = {}
        """By uid: resourceVersion, and the struct or a Finding."""

    def watches(self, namespace: str) -> bool:
        """Whether the operator may look there."""
        return self._namespaces is None or namespace in self._namespaces

    async def server_keys(self) -> set[ObjectKey]:
        """Every server, and every one that a repo names."""
        servers, repos = await asyncio.gather(self._everywhere(SERVER), self._everywhere(REPO))
        return {key_of(raw) for raw in servers} | {server_named_by(raw) for raw in repos}

    async def observe(self, key: ObjectKey) -> Observed:
        """Everything about the server `key` and the repos that name it."""
        server_raw, repos_raw, secrets_raw, namespaces = await asyncio.gather(
            self._server(key), self._everywhere(REPO), self._credentials(), self._labels()
        )
        repos_raw = [raw for raw in repos_raw if server_named_by(raw) == key and not is_leaving(raw)]
        server, server_fault = None, None
        if server_raw is not None:
            found = self._parse(server_raw, PackageServer)
            server, server_fault = (None, found) if isinstance(found, Finding) else (found, None)
        repos: list[PackageRepo] = []
        malformed: list[Malformed] = []
        for number, raw in enumerate(repos_raw):
            if number % _CHUNK == _CHUNK - 1:
                await asyncio.sleep(0)
            parsed = self._parse(raw, PackageRepo)
            if isinstance(parsed, Finding):
                malformed.append(Malformed(key_of(raw), raw, parsed))
            else:
                repos.append(parsed)
        return Observed(
            key=key,
            server=server,
            server_raw=server_raw,
            server_fault=server_fault,
            repos=tuple(repos),
            raws={key_of(raw): raw for raw in repos_raw},
            malformed=tuple(malformed),
            secrets=tuple(secret for raw in secrets_raw if isinstance(secret := self._parse(raw, Secret), Secret)),
            namespaces=namespaces,
            watched=self._namespaces,
        )

    async def _server(self, key: ObjectKey) -> Json | None:
        if not self.watches(key.namespace):
            return None
        raw = await self._kube.get(SERVER, key)
        return None if raw is None or is_leaving(raw) else raw

    async def _credentials(self) -> list[Json]:
        return await self._everywhere(SECRET, f"{CREDENTIALS_LABEL}=true")

    async def _labels(self) -> Mapping[str, Mapping[str, str]] | None:
        if self._namespaces is not None:
            return None
        found = [self._parse(raw, NamespaceObject) for raw in await self._kube.list(NAMESPACE)]
        return {one.metadata.name: one.metadata.labels or {} for one in found if isinstance(one, NamespaceObject)}

    async def _everywhere(self, kind: Kind, labels: str | None = None) -> list[Json]:
        if self._namespaces is None:
            return await self._kube.list(kind, None, labels)
        lists = await asyncio.gather(*(self._kube.list(kind, one, labels) for one in self._namespaces))
        return [item for items in lists for item in items]

    def _parse(self, raw: Json, struct: type[R]) -> R | Finding:
        uid, version = str(raw["metadata"].get("uid")), str(raw["metadata"].get("resourceVersion"))
        known = self._parsed.get(uid)
        if known is not None and known[0] == version:
            cached: R | Finding = known[1]  # an object never changes its kind
            return cached
        parsed = _parsed(raw, struct)
        self._parsed[uid] = (version, parsed)
        return parsed

    def forget(self) -> None:
        """Free what was remembered of objects, those that are gone among them."""
        self._parsed.clear()


def _parsed(raw: Json, struct: type[R]) -> R | Finding:
    # What somebody wrote into a status must not make the spec unreadable.
    status = _status(raw, struct)
    item = {key: value for key, value in raw.items() if key != "status"}
    try:
        return msgspec.convert(item | ({"status": status} if status is not None else {}), struct)
    except msgspec.ValidationError as error:
        return Finding(status=False, reason="InvalidSpec", message=_sentence(explain(error, item, struct)))


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a field, whose name is spelt as it is."""
    return text if _FIELD.match(text) else text[:1].upper() + text[1:]


_FIELD = re.compile(r"(apiVersion|kind|metadata|spec)\b")
_NAME = re.compile(REPO_NAME_PATTERN)


_STATUS: dict[type[Resource], type[msgspec.Struct]] = {
    PackageRepo: PackageRepoStatus,
    PackageServer: PackageServerStatus,
}


def _status(raw: Json, struct: type[Resource]) -> object:
    kind = _STATUS.get(struct)
    if kind is None:
        return None
    try:
        msgspec.convert(raw.get("status") or {}, kind)
    except msgspec.ValidationError:
        return None
    return raw.get("status") or None


def key_of(raw: Mapping[str, Any]) -> ObjectKey:
    """Namespace and name of an object as the API server has it."""
    metadata = raw["metadata"]
    return ObjectKey(str(metadata.get("namespace") or ""), str(metadata["name"]))


def is_leaving(raw: Mapping[str, Any]) -> bool:
    """Whether the object is being deleted, though somebody's finalizer still holds it."""
    return raw["metadata"].get("deletionTimestamp") is not None


def _claim(one: Malformed) -> NameClaim:
    """The name that a repo held before it became unreadable, and still holds. Its status may have it yet."""
    holders = (one.raw.get("spec"), one.raw.get("status"))
    names = (holder.get("repoName") for holder in holders if isinstance(holder, dict))
    name = next((name for name in names if isinstance(name, str) and _NAME.fullmatch(name)), one.key.name)
    try:
        created = msgspec.convert(one.raw["metadata"].get("creationTimestamp"), datetime | None)
    except msgspec.ValidationError:
        created = None
    return NameClaim(server_named_by(one.raw), name, one.key, created)
