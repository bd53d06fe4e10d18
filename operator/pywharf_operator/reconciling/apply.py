"""Apply a server's objects: patch what differs, prune what is no longer wanted, leave foreign objects alone."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted, other_owner
from pywharf_operator.reconciling.adoption import adoption, belongs, has_controller, is_orphan, stale_data, taken_over
from pywharf_operator.reconciling.drift import (
    REPLICAS_MANAGER,
    Contest,
    Difference,
    differs,
    kept_replicas,
    with_kept_size,
)
from pywharf_operator.reconciling.owner import confirm_owner
from pywharf_operator.render.digest import with_hash
from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CRON_JOB, JOB, OWNED, VOLUME_CLAIM, Kind, kind_of
from pywharf_operator.spec.names import RENDERED_ANNOTATION, SERVER_LABEL
from pywharf_operator.status.refusal import Refusal

_CHUNK = 50
"""Maximum number of objects that are compared and applied concurrently, before other work may run."""
RETRY_REFUSED_S = 60.0
"""Seconds before a retry of what the API server refuses or another owner blocks."""
_CONFLICT, _INVALID = 409, 422
_MANY = 10
"""Number of missing objects of a kind above which one list is cheaper than a request for each."""

_OF_METADATA = frozenset({"apiVersion", "kind", "metadata"})
"""The fields of an object whose metadata alone was read."""

Live = dict[tuple[Kind, str], Json]
"""The current objects of the server's namespace, by kind and name."""
Part = Literal["policies", "credentials", "config"]
"""A part of a rollout, in the usual order: each is applied before what names it."""


class Applier:
    """Applies one server's objects. It remembers which are in the desired state and does not compare them again."""

    def __init__(self, kube: Kube, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._clock = clock
        self._contests: dict[tuple[Kind, ObjectKey], Contest] = {}
        self._same: dict[str, tuple[str, str]] = {}
        """The resourceVersion and the desired hash of objects in the desired state, by uid."""
        self._applied: dict[tuple[Kind, ObjectKey], str] = {}
        """The hash that was applied last. If an object has lost it, somebody else writes the whole object."""
        self._writes = 0

    async def read(self, server: ObjectKey, kinds: Iterable[Kind]) -> Live:
        """Read the metadata of the objects that carry the server's label.

        Only the metadata, because anybody in its namespace may create such objects. Objects to compare are later read
        whole, by name.
        """
        kinds = tuple(kinds)
        labels = f"{SERVER_LABEL}={server.name}"
        lists = await asyncio.gather(*(self._kube.list_metadata(kind, server.namespace, labels) for kind in kinds))
        return {
            (kind, item["metadata"]["name"]): item for kind, items in zip(kinds, lists, strict=True) for item in items
        }

    async def apply(
        self,
        server: PackageServer,
        manifests: Sequence[Manifest],
        live: Live,
        superseded: Callable[[], bool] = lambda: False,
    ) -> list[Refusal]:
        """Apply the manifests that differ, in chunks. Raises KubeError.

        It stops between two chunks if `superseded` returns true, but only after something was applied. So a server
        that always has newer events also gets all its objects.
        """
        wanted = [with_hash(one) for one in manifests]
        await self._read_whole(server, wanted, live)
        refusals: list[Refusal] = []
        before = self._writes
        for start in range(0, len(wanted), _CHUNK):
            if self._writes > before and superseded():
                break
            chunk = wanted[start : start + _CHUNK]
            found = await asyncio.gather(*(self._apply(server, one, live) for one in chunk))
            refusals += [refusal for refusal in found if refusal is not None]
        return refusals

    async def whole(self, server: PackageServer, kind: Kind, name: str, live: Live) -> Json | None:
        """Return the object of the server's namespace with its content, not only its metadata; None if it is gone."""
        current = live.get((kind, name))
        if current is not None and not current.keys() <= _OF_METADATA:
            return current
        return await self._kube.get(kind, ObjectKey(server.key.namespace, name))

    async def replaced(self, server: PackageServer, manifest: Manifest, live: Live) -> Manifest | None:
        """Return the manifest with the content that an apply of it would replace; None if the server has none."""
        wanted = with_hash(manifest)
        await self._read_whole(server, [wanted], live)
        kind, name = kind_of(wanted), wanted["metadata"]["name"]
        current = live.get((kind, name))
        if current is None or self._is_known(current, wanted) or not belongs(kind, current, server):
            return None
        content = {field: value for field, value in manifest.items() if field in _OF_METADATA}
        return content | {field: current[field] for field in ("data", "binaryData") if current.get(field)}

    async def prune(
        self, server: PackageServer, wanted: Iterable[Manifest], live: Live, keep: set[str]
    ) -> list[Refusal]:
        """Delete the server's objects that are no longer wanted. Raises KubeError.

        Volume claims stay, because they hold packages.
        """
        names = {(kind_of(one), one["metadata"]["name"]) for one in wanted}
        gone = [
            (kind, item)
            for (kind, name), item in live.items()
            if (kind, name) not in names
            and name not in keep
            and kind is not VOLUME_CLAIM
            and belongs(kind, item, server)
            and not is_being_deleted(item)
        ]
        refusals = []
        for kind, item in gone:
            key = ObjectKey(server.key.namespace, item["metadata"]["name"])
            try:
                await self._kube.delete(kind, key, item["metadata"]["uid"])
            except KubeError as error:
                if not error.is_permanent:
                    raise
                message = (
                    f"it is wanted no more, and the API server refuses to delete it: {error.message or error.reason}"
                )
                refusals.append(Refusal(f"{kind.name} {key}", "ApplyRefused", message, RETRY_REFUSED_S))
            else:
                self._same.pop(item["metadata"]["uid"], None)
                self._applied.pop((kind, key), None)
        return refusals

    async def adopt_jobs(self, server: PackageServer, jobs: Iterable[Json]) -> list[Refusal]:
        """Make the server the owner of its Jobs without one, so that they are deleted with it. Raises KubeError."""
        orphans = [job for job in jobs if is_orphan(JOB, job, server)]
        if orphans:
            await confirm_owner(self._kube, server)
        found = await asyncio.gather(*(self._adopt_job(server, job) for job in orphans))
        return [refusal for refusal in found if refusal is not None]

    async def _adopt_job(self, server: PackageServer, job: Json) -> Refusal | None:
        try:
            await self._kube.apply(JOB, adoption(job, server))
        except KubeError as error:
            if error.status == _CONFLICT:  # it is gone, or another has its name
                return None
            if not error.is_permanent:
                raise
            key = ObjectKey(server.key.namespace, job["metadata"]["name"])
            message = f"the API server refuses its owner reference: {error.message or error.reason}"
            return Refusal(f"{JOB.name} {key}", "ApplyRefused", message, RETRY_REFUSED_S)
        return None

    async def _read_whole(self, server: PackageServer, wanted: Sequence[Manifest], live: Live) -> None:
        """Read the objects of the wanted names whole into `live`, except those known to be in the desired state."""
        missing = []
        for desired in wanted:
            kind, name = kind_of(desired), desired["metadata"]["name"]
            current = live.get((kind, name))
            if current is None or (current.keys() <= _OF_METADATA and not self._is_known(current, desired)):
                missing.append((kind, name))
        for kind in {kind for kind, _ in missing}:
            names = {name for other, name in missing if other is kind}
            if len(names) > _MANY and kind is CRON_JOB:
                items = await self._kube.list(kind, server.key.namespace, only=_named(names))
            else:
                got = await asyncio.gather(
                    *(self._kube.get(kind, ObjectKey(server.key.namespace, name)) for name in names)
                )
                items = [item for item in got if item is not None]
            for name in names:
                live.pop((kind, name), None)
            live |= {(kind, item["metadata"]["name"]): item for item in items if item["metadata"]["name"] in names}

    async def _apply(self, server: PackageServer, desired: Manifest, live: Live) -> Refusal | None:
        kind, name = kind_of(desired), desired["metadata"]["name"]
        key = ObjectKey(server.key.namespace, name)
        current = live.get((kind, name))
        if current is not None and not belongs(kind, current, server):
            return Refusal(
                f"{kind.name} {key}", "ObjectNotOwned", other_owner(current, server.metadata.uid or ""), RETRY_REFUSED_S
            )
        if current is not None and self._is_known(current, desired):
            return None
        desired = with_kept_size(desired, current)
        difference = differs(desired, current)
        if difference.kind == "same":
            self._know(current, desired)
            return None
        rendered = desired["metadata"]["annotations"][RENDERED_ANNOTATION]
        undone = difference.kind == "changed" and self._applied.get((kind, key)) == rendered
        if difference.kind == "drifted" or undone:
            refusal = self._contested(kind, key, difference, current)
            if refusal is not None:
                return refusal
        try:
            applied = await self._write(server, desired, current, drifted=difference.kind == "drifted")
        except KubeError as error:
            if not error.is_permanent:
                raise
            message = f"the API server refuses it: {error.message or error.reason}"
            return Refusal(f"{kind.name} {key}", "ApplyRefused", message, RETRY_REFUSED_S)
        self._writes += 1
        live[kind, name] = applied
        self._applied[kind, key] = rendered
        return None

    async def _write(self, server: PackageServer, desired: Manifest, current: Json | None, *, drifted: bool) -> Json:
        """Apply a manifest. It adopts an object without a controller, with the uid as a precondition."""
        kind, key = kind_of(desired), ObjectKey(server.key.namespace, desired["metadata"]["name"])
        adopted = current is not None and kind is not VOLUME_CLAIM and not has_controller(current)
        if adopted and current is not None:
            await confirm_owner(self._kube, server)
            current = await self._take_over(kind, key, current)
            desired = {**desired, "metadata": {**desired["metadata"], "uid": current["metadata"]["uid"]}}
        kept = kept_replicas(desired, current)
        if kept is not None:
            await self._kube.apply(kind, kept, REPLICAS_MANAGER)
        applied = await self._put(kind, key, desired, drifted=drifted or adopted)
        stale = stale_data(kind, desired, applied) if adopted else {}
        if stale:
            await self._kube.merge(kind, key, stale)
        return applied

    async def _take_over(self, kind: Kind, key: ObjectKey, current: Json) -> Json:
        """Make the operator the owner of a restored object's fields, so that applying it removes the unwanted ones."""
        entries = taken_over(current)
        if entries is None:
            return current
        metadata = {field: current["metadata"][field] for field in ("uid", "resourceVersion")}
        await self._kube.merge(kind, key, {"metadata": metadata | {"managedFields": entries}})
        return current | {"metadata": current["metadata"] | {"managedFields": entries}}

    async def _put(self, kind: Kind, key: ObjectKey, desired: Manifest, *, drifted: bool) -> Json:
        """Apply a manifest; if that is invalid because of what somebody added, replace its lists first.

        Such an addition is, for example, a second port of the same name.
        """
        try:
            return await self._kube.apply(kind, desired)
        except KubeError as error:
            if error.status != _INVALID or not drifted:
                raise
        # Lists are replaced whole.
        content = {field: value for field, value in desired.items() if field not in {"apiVersion", "kind", "metadata"}}
        await self._kube.merge(kind, key, content)
        return await self._kube.apply(kind, desired)

    def _contested(self, kind: Kind, key: ObjectKey, difference: Difference, current: Json | None) -> Refusal | None:
        """Return a refusal while the object must wait, because somebody keeps changing it."""
        contest = self._contests.setdefault((kind, key), Contest())
        wait = contest.wait(self._clock())
        if wait <= 0:
            contest.put_back(self._clock())
            return None
        message = contest.message(current, difference)
        return Refusal(f"{kind.name} {key}", "Contested", message, wait)

    def _is_known(self, current: Json, desired: Manifest) -> bool:
        return self._same.get(current["metadata"]["uid"]) == _state(current, desired)

    def _know(self, current: Json | None, desired: Manifest) -> None:
        if current is not None:
            self._same[current["metadata"]["uid"]] = _state(current, desired)


def _named(names: set[str]) -> Callable[[Json], bool]:
    return lambda item: item["metadata"]["name"] in names


def _state(current: Json, desired: Manifest) -> tuple[str, str]:
    return current["metadata"]["resourceVersion"], desired["metadata"]["annotations"][RENDERED_ANNOTATION]


READ_FIRST = tuple(kind for kind in OWNED if kind.name in {"Secret", "ConfigMap"})
"""The kinds that the rollout of a configuration needs."""
READ_LATER = tuple(kind for kind in OWNED if kind not in READ_FIRST)
