"""The ConfigMaps of `spec.clientConfig`. Each lies in its repo's namespace and belongs to the PackageRepo.

Anybody may have a ConfigMap of that name there, so they are created (which fails where one exists) and merged into
under their uid and resourceVersion, never applied: an apply would write into an object that appeared in between.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
from cachetools import LRUCache

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import annotations_of, is_being_deleted, key_of, labels_of, metadata_change, owned_by
from pywharf_operator.reconciling.adoption import has_controller
from pywharf_operator.reconciling.drift import Contest, Difference
from pywharf_operator.render import Finding
from pywharf_operator.render.digest import with_hash
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.client_config import OWN_LABELS
from pywharf_operator.render.resolve.findings import refused
from pywharf_operator.spec import ObjectKey, PackageRepo
from pywharf_operator.spec.kinds import CONFIG_MAP, REPO
from pywharf_operator.spec.names import RENDERED_ANNOTATION, REPO_LABEL
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.status.conditions import CLIENT_CONFIGURED

_CONCURRENT: Final = 16
"""Maximum number of ConfigMaps that are read and written concurrently."""
_MOST_NAMESPACE_LISTS: Final = 8
"""Number of namespaces above which one list of the whole cluster is cheaper."""
_MOST_REMEMBERED: Final = 20_000
_TRIES: Final = 3
_CONFLICT, _FORBIDDEN = 409, 403
_RETRY_S: Final = 60.0
"""Seconds before a retry of what the API server refuses or another owner blocks."""
_SOONEST_S: Final = 1.0


class Kept(msgspec.Struct, frozen=True):
    """What became of one ConfigMap."""

    finding: Finding
    again_s: float | None = _RETRY_S
    """Seconds after which a retry may succeed; None: nothing is to be done."""


_WRITTEN: Final = Kept(Finding(status=True, reason="Written", message="Pods can mount the ConfigMap."), None)


class ClientConfigs:
    """Keeps the ConfigMaps of all repos. Those in the desired state are not read again."""

    def __init__(
        self, kube: Kube, watched: tuple[str, ...] | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the keeper. `watched`: the watched namespaces; None: all."""
        self._kube = kube
        self._cluster_wide = watched is None
        self._clock = clock
        self._same: LRUCache[str, tuple[str, str]] = LRUCache(_MOST_REMEMBERED)
        """The resourceVersion and the desired hash of those in the desired state, by uid."""
        self._applied: LRUCache[ObjectKey, str] = LRUCache(_MOST_REMEMBERED)
        """The hash that was written last. If a ConfigMap has lost it, somebody else writes all of it."""
        self._contests: LRUCache[ObjectKey, Contest] = LRUCache(_MOST_REMEMBERED)

    async def keep(
        self, repos: Collection[PackageRepo], rendered: Mapping[ObjectKey, Manifest], fault: Finding | None = None
    ) -> dict[ObjectKey, Kept]:
        """Write what differs and delete what no repo of `repos` names. Return what became of each rendered one.

        `fault` is reported of those that are written. A ConfigMap of a repo that is not served now stays as it is.
        Raises KubeError.
        """
        # In a thread, as it may be thousands.
        wanted = await asyncio.to_thread(_hashed, rendered)
        live = await self._listed(repos, {key_of(one) for one in rendered.values()})
        slots = asyncio.Semaphore(_CONCURRENT)

        async def one(repo: PackageRepo) -> tuple[ObjectKey, Kept]:
            async with slots:
                return repo.key, await self._kept(repo, wanted[repo.key], live)

        found = dict(await asyncio.gather(*(one(repo) for repo in repos if repo.key in wanted)))
        await self._prune(repos, live.values())
        if fault is None:
            return found
        return {key: Kept(fault) if kept is _WRITTEN else kept for key, kept in found.items()}

    async def prune(self, repos: Iterable[PackageRepo]) -> None:
        """Delete what the repos no longer name, by what their statuses report; of repos without a server."""
        had = [repo for repo in repos if repo.status is not None and _is_reported(repo.status)]
        if had:
            await self.keep(had, {})

    async def _listed(self, repos: Iterable[PackageRepo], wanted: Collection[ObjectKey]) -> dict[ObjectKey, Json]:
        """Return the metadata of the ConfigMaps with our label that are wanted or belong to one of `repos`.

        Anybody may give the label to any number of them. A namespace that may not be read has none.
        """
        owners = {repo.metadata.uid for repo in repos}
        namespaces = {repo.key.namespace for repo in repos}

        def counts(item: Json) -> bool:
            listed = item["metadata"].get("ownerReferences") or []
            return key_of(item) in wanted or any(one.get("uid") in owners for one in listed)

        several = self._cluster_wide and len(namespaces) > _MOST_NAMESPACE_LISTS
        where = [None] if several else sorted(namespaces)
        lists = await asyncio.gather(*(self._list(one, counts) for one in where))
        return {key_of(item): item for items in lists for item in items}

    async def _list(self, namespace: str | None, only: Callable[[Json], bool]) -> list[Json]:
        try:
            return await self._kube.list_metadata(CONFIG_MAP, namespace, REPO_LABEL, only=only)
        except KubeError as error:
            if error.status == _FORBIDDEN:
                return []
            raise

    async def _kept(self, repo: PackageRepo, wanted: Manifest, live: Mapping[ObjectKey, Json]) -> Kept:
        listed = live.get(key_of(wanted))
        if listed is not None and self._same.get(listed["metadata"]["uid"]) == _state(listed, wanted):
            return _WRITTEN
        try:
            for _ in range(_TRIES):
                finding = await self._written(repo, wanted)
                if finding is not None:
                    return finding
        except KubeError as error:
            if not error.is_permanent:
                raise
            message = f"ConfigMap {key_of(wanted)}: the API server refuses it: {error.message or error.reason}"
            return Kept(refused("ApplyRefused", message))
        message = f"ConfigMap {key_of(wanted)} changes while it is written; it is tried again."
        return Kept(refused("Contested", message), _SOONEST_S)

    async def _written(self, repo: PackageRepo, wanted: Manifest) -> Kept | None:
        """Create or correct the ConfigMap; None if it changed meanwhile. Raises KubeError."""
        key, uid = key_of(wanted), repo.metadata.uid or ""
        # Its content is read only if it is the repo's: another one may have a megabyte.
        found = await self._kube.get_metadata(CONFIG_MAP, key)
        if found is None:
            return await self._created(key, wanted)
        if not owned_by(found, uid) and not is_orphan_of_repo(found, wanted):
            return _not_owned(key, found)
        current = await self._kube.get(CONFIG_MAP, key)
        if current is None or current["metadata"]["uid"] != found["metadata"]["uid"]:
            return None
        change = _change(current, wanted, uid)
        return await self._corrected(repo, wanted, current, change) if change else self._known(current, wanted)

    async def _created(self, key: ObjectKey, wanted: Manifest) -> Kept | None:
        made = await self._kube.create(CONFIG_MAP, wanted)
        if made is None:
            return None
        self._applied[key] = annotations_of(wanted)[RENDERED_ANNOTATION]
        return self._known(made, wanted)

    async def _corrected(self, repo: PackageRepo, wanted: Manifest, current: Json, change: Manifest) -> Kept | None:
        key = key_of(wanted)
        if not owned_by(current, repo.metadata.uid or "") and not await self._exists(repo):
            return _WRITTEN  # its status is no longer written
        contested = self._contested(key, current, wanted)
        if contested is not None:
            return contested
        stated = {field: current["metadata"][field] for field in ("uid", "resourceVersion")}
        try:
            await self._kube.merge(CONFIG_MAP, key, change | {"metadata": stated | change.get("metadata", {})})
        except KubeError as error:
            if error.status != _CONFLICT:
                raise
            return None
        self._applied[key] = annotations_of(wanted)[RENDERED_ANNOTATION]
        return _WRITTEN

    async def _exists(self, repo: PackageRepo) -> bool:
        """Return whether the repo may still become an owner. `--cascade=orphan` removes the owner before it goes."""
        found = await self._kube.get_metadata(REPO, repo.key)
        return found is not None and found["metadata"].get("uid") == repo.metadata.uid and not is_being_deleted(found)

    def _contested(self, key: ObjectKey, current: Json, wanted: Manifest) -> Kept | None:
        """Return a finding while the ConfigMap must wait, because somebody keeps changing it."""
        rendered = annotations_of(wanted)[RENDERED_ANNOTATION]
        if rendered not in {annotations_of(current).get(RENDERED_ANNOTATION), self._applied.get(key)}:
            return None  # the operator itself wants something else than before
        contest = self._contests.setdefault(key, Contest())
        wait_s = contest.wait(self._clock())
        if wait_s <= 0:
            contest.put_back(self._clock())
            return None
        message = f"ConfigMap {key}: {contest.message(current, Difference('drifted', ('data',)))}"
        return Kept(refused("Contested", message), max(wait_s, _SOONEST_S))

    async def _prune(self, repos: Iterable[PackageRepo], live: Iterable[Json]) -> None:
        """Delete the ConfigMaps of `repos` that no longer have the name that their repo gives."""
        named: dict[str | None, str | None] = {
            repo.metadata.uid: repo.spec.client_config.config_map if repo.spec.client_config is not None else None
            for repo in repos
            if repo.metadata.uid is not None
        }
        for item in live:
            owners = (one.get("uid") for one in item["metadata"].get("ownerReferences") or [] if one.get("controller"))
            owner = next(owners, None)
            if owner not in named or named[owner] == item["metadata"]["name"] or is_being_deleted(item):
                continue
            try:
                await self._kube.delete(CONFIG_MAP, key_of(item), item["metadata"]["uid"])
            except KubeError as error:
                if not error.is_permanent:
                    raise
                # It has no condition without the field; the next reconcile tries again.

    def _known(self, current: Json, wanted: Manifest) -> Kept:
        self._same[current["metadata"]["uid"]] = _state(current, wanted)
        return _WRITTEN


def _is_reported(status: PackageRepoStatus) -> bool:
    return any(one.type == CLIENT_CONFIGURED for one in status.conditions)


def _hashed(rendered: Mapping[ObjectKey, Manifest]) -> dict[ObjectKey, Manifest]:
    return {repo: with_hash(manifest) for repo, manifest in rendered.items()}


def _state(current: Json, wanted: Manifest) -> tuple[str, str]:
    return current["metadata"]["resourceVersion"], wanted["metadata"]["annotations"][RENDERED_ANNOTATION]


def is_orphan_of_repo(live: Mapping[str, Any], wanted: Manifest) -> bool:
    """Return whether a ConfigMap has no controller and was made for this repo, as a backup restores it."""
    own = {key: value for key, value in wanted["metadata"]["labels"].items() if key in OWN_LABELS}
    return not has_controller(live) and own.items() <= labels_of(live).items()


def _change(current: Json, wanted: Manifest, uid: str) -> Manifest:
    """Return the merge patch that makes `current` the wanted ConfigMap; empty if it is. Others' metadata stays."""
    change: Manifest = {}
    have, want = current.get("data") or {}, wanted["data"]
    if have != want:
        change["data"] = want | dict.fromkeys(have.keys() - want.keys())
    if current.get("binaryData"):
        change["binaryData"] = None
    metadata = metadata_change(current, wanted["metadata"])
    lost = {key: value for key, value in wanted["metadata"]["labels"].items() if labels_of(current).get(key) != value}
    if lost:
        metadata["labels"] = (metadata.get("labels") or {}) | lost
    if not owned_by(current, uid):
        metadata["ownerReferences"] = [
            *(current["metadata"].get("ownerReferences") or []),
            *wanted["metadata"]["ownerReferences"],
        ]
    return change | ({"metadata": metadata} if metadata else {})


def _not_owned(key: ObjectKey, live: Mapping[str, Any]) -> Kept:
    owners = live["metadata"].get("ownerReferences") or []
    owner = next((one for one in owners if one.get("controller")), None)
    whose = f"it belongs to {owner.get('kind')} {owner.get('name')}" if owner else "it was not made for this repo"
    message = (
        f"ConfigMap {key} exists: {whose}, so it is left alone; delete or rename it, or give "
        "spec.clientConfig.configMap another name."
    )
    return Kept(refused("ObjectNotOwned", message))
