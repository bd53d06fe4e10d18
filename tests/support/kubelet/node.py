"""The core of the stand-in for a kubelet: it watches the pods of namespaces and runs each."""

import asyncio
import base64
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from support.cluster.cluster import Cluster
from support.kubelet.api import Api, ApiAnswerError
from support.kubelet.pod import NODE, Pod
from support.kubelet.volumes import Json, NotYetError, Volumes, data_of

_MERGE = "application/merge-patch+json"
_SHORTEST_SECRET = 6
_PUBLIC_KEYS = ("revision", "tls.crt", "ca.crt")
"""Prefixes of keys in Secrets whose values are not secret."""
_PORTS = 8888, 9090
_GONE = 404, 409
"""Statuses of responses when the pod was deleted meanwhile."""


@dataclass
class Held:
    """Kinds, or objects as KIND/NAME, whose changes a pod's volumes do not see."""

    kinds: set[str] = field(default_factory=set)
    seen: dict[tuple[str, str], Json | None] = field(default_factory=dict)


class Node:
    """The node. All its coroutines run in the loop in which `running` is entered."""

    loop: asyncio.AbstractEventLoop
    api: Api

    def __init__(self, cluster: Cluster, folder: Path, refresh_s: float) -> None:
        self._cluster = cluster
        self._folder = folder
        self._refresh_s = refresh_s
        self.secrets: set[str] = set()
        """Values of the Secrets that pods read."""
        self.pods: dict[str, Pod] = {}
        """Pods by uid, including ended ones."""
        self.failures: list[BaseException] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._annotations: dict[str, Any] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, Held] = {}
        self._volumes: set[str] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the node within the context. At the end all that it started is removed, even after an error."""
        self.loop = asyncio.get_running_loop()
        self.api = Api(self._cluster)
        try:
            yield
        finally:
            for pod in self.pods.values():
                pod.kill()
            tasks = [*self._watches.values(), *self._tasks.values(), *self._ends.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for pod in self.pods.values():
                pod.kill()  # processes that a task has just started
            with contextlib.suppress(ApiAnswerError, aiohttp.ClientError, OSError):
                await self._clean_up()
            await self.api.close()
        if self.failures:
            raise self.failures[0]

    async def _clean_up(self) -> None:
        """Delete the pods and volumes; otherwise a namespace would wait forever for its pods to end."""
        for namespace in self._watches:
            path = f"/api/v1/namespaces/{namespace}/pods"
            await self.api.ask("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
        for name in self._volumes:
            await self.api.ask("DELETE", f"/api/v1/persistentvolumes/{name}")

    async def watch(self, namespace: str) -> None:
        if namespace not in self._watches:
            self._watches[namespace] = asyncio.create_task(self._watch(namespace))

    async def _watch(self, namespace: str) -> None:
        """Follow the pods of a namespace, even across outages of the API server."""
        path = f"/api/v1/namespaces/{namespace}/pods"
        while True:
            with contextlib.suppress(ApiAnswerError, aiohttp.ClientError, OSError, TimeoutError):
                found = await self.api.ask("GET", path)
                there = {pod["metadata"]["uid"] for pod in found["items"]}
                for uid, known in list(self.pods.items()):
                    if uid not in there and known.made["metadata"]["namespace"] == namespace:
                        self._gone(uid)
                for pod in found["items"]:
                    self._seen(pod)
                async for event in self.api.watch(path, found["metadata"]["resourceVersion"]):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] == "DELETED":
                        self._gone(event["object"]["metadata"]["uid"])
                    else:
                        self._seen(event["object"])
            await asyncio.sleep(0.2)

    def _seen(self, made: Json) -> None:
        metadata = made["metadata"]
        uid = metadata["uid"]
        if uid not in self.pods:
            if metadata.get("deletionTimestamp") or made.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
                return
            self.pods[uid] = pod = self._made(made)
            self._tasks[uid] = self._task(self._run(pod))
            self._annotations[uid] = metadata.get("annotations")
            return
        pod = self.pods[uid]
        if metadata.get("deletionTimestamp"):
            if uid not in self._ends:
                self._ends[uid] = self._task(self._end(pod, metadata.get("deletionGracePeriodSeconds", 30)))
        elif metadata.get("annotations") != self._annotations[uid]:
            self._annotations[uid] = metadata.get("annotations")
            pod.made = made
            self._ends[f"refresh {uid} {time.monotonic_ns()}"] = self._task(self.refresh(pod))

    def _gone(self, uid: str) -> None:
        """Kill a pod that was deleted without grace."""
        pod = self.pods.get(uid)
        if pod is not None:
            pod.kill()
            self._tasks[uid].cancel()

    def _task(self, what: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        async def noted() -> None:
            try:
                await what
            except* (aiohttp.ClientError, TimeoutError):
                pass  # the API server is unreachable: the test ends, or the caller retries
            except* ApiAnswerError as group:
                _, others = group.split(lambda error: isinstance(error, ApiAnswerError) and error.status in _GONE)
                if others is not None:
                    self.failures.append(others)
            except* Exception as group:  # noqa: BLE001 - it is raised when the test ends
                self.failures.append(group)

        return asyncio.create_task(noted())

    def _made(self, made: Json) -> Pod:
        metadata = made["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        folder = self._folder / f"{name}-{metadata['uid'][:8]}"
        folder.mkdir(parents=True)
        account = made["spec"].get("serviceAccountName", "default")

        async def read(kind: str, of: str) -> Json | None:
            return await self._read(name, namespace, kind, of)

        async def token(seconds: int) -> str:
            body = {"spec": {"expirationSeconds": max(600, seconds)}}
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
            request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", **body}
            return str((await self.api.ask("POST", path, request))["status"]["token"])

        async def patch(below: str, change: Mapping[str, Any]) -> None:
            await self._patch(f"/api/v1/namespaces/{namespace}/pods/{name}{below}", change, metadata["uid"])

        volumes = Volumes(made, folder, self._folder / "claims" / namespace, read, token)
        return Pod(made, folder, _free_address(), volumes, patch)

    def held_of(self, pod: str) -> Held:
        return self._held.setdefault(pod, Held())

    async def _patch(self, path: str, change: Mapping[str, Any], uid: str) -> None:
        """Patch a pod, retrying while the API server is unreachable, so that no status is lost."""
        while True:
            try:
                await self.api.ask("PATCH", path, {**change, "metadata": {"uid": uid}}, _MERGE)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.2)
            except ApiAnswerError as error:
                if error.status < 500 and error.status != 429:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    async def _read(self, pod: str, namespace: str, kind: str, name: str) -> Json | None:
        held = self.held_of(pod)
        if {kind, f"{kind}/{name}"} & held.kinds:
            return held.seen.get((kind, name))  # None if it was never delivered
        plural = {"ConfigMap": "configmaps", "Secret": "secrets"}[kind]
        found = await self.api.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
        held.seen[kind, name] = found
        if found is not None and kind == "Secret":
            for key, value in data_of(found).items():
                if len(value) >= _SHORTEST_SECRET and not key.startswith(_PUBLIC_KEYS):
                    self.secrets.add(value.decode(errors="replace").strip())
                    self.secrets.add(base64.b64encode(value).decode())
        return found

    async def _run(self, pod: Pod) -> None:
        metadata = pod.made["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{pod.name}"
        if not pod.made["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name}, "target": target}
            await self.api.ask("POST", f"{path}/binding", binding)
            pod.made["spec"]["nodeName"] = NODE
        for claim in pod.volumes.claimed:
            await self._bind(metadata["namespace"], claim)
        refreshing = self._task(self._refresh_often(pod))
        try:
            await pod.run()
        finally:
            refreshing.cancel()

    async def _bind(self, namespace: str, name: str) -> None:
        """Create a volume for a claim that has none. Pods do not wait until the controllers bind it."""
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        while (claim := await self.api.get(path)) is None:  # noqa: ASYNC110 - it is made by others
            await asyncio.sleep(0.2)
        volume = f"stand-in-{claim['metadata']['uid']}"
        if claim["spec"].get("volumeName") or volume in self._volumes:
            return
        self._volumes.add(volume)
        spec = {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "storageClassName": claim["spec"].get("storageClassName", ""),
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": namespace, "name": name, "uid": claim["metadata"]["uid"]},
        }
        made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec}
        await self.api.ask("POST", "/api/v1/persistentvolumes", made)

    async def _refresh_often(self, pod: Pod) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self.refresh(pod)

    async def refresh(self, pod: Pod) -> None:
        with contextlib.suppress(NotYetError):  # on an error the old files stay
            await pod.volumes.refresh()

    async def _end(self, pod: Pod, grace_s: float) -> None:
        metadata = pod.made["metadata"]
        await pod.end(grace_s)
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{pod.name}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        task = self._tasks[metadata["uid"]]
        if any(one.process is not None for one in pod.containers):
            await asyncio.wait([task], timeout=10)  # it reports how the containers ended
        task.cancel()
        await self.api.ask("DELETE", path, body)


def _free_address() -> str:
    """Return an address in 127.0.0.0/8, outside the commonly used part, where a server's usual ports are free."""
    for _ in range(20):
        second, third, fourth = random.randint(64, 254), random.randint(1, 254), random.randint(1, 254)
        address = f"127.{second}.{third}.{fourth}"
        try:
            for port in _PORTS:
                with socket.socket() as tried:
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    tried.bind((address, port))
        except OSError:
            continue
        return address
    raise AssertionError(f"something on this machine listens on 0.0.0.0 at one of the ports {_PORTS}; end it")
