"""The life of one pod: volumes, processes, probes, status, end."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.kubelet import process as kubelet_process
from support.kubelet.container import Container, now, termination_message
from support.kubelet.expansion import expanded
from support.kubelet.probes import Probing
from support.kubelet.process import Mount
from support.kubelet.volumes import Json, NotYetError, Volumes, data_of, field_of
from support.server.serving import PYWHARF

NODE = "stand-in"
_POLL_S = 0.02
Patch = Callable[[str, Json], Awaitable[None]]
"""A function that merges a change into the object at a path below the pod's path."""
_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.2, 5.0
"""Seconds; far shorter than a kubelet's."""


class Pod:
    """A pod. `run` runs it until it is cancelled or the pod has ended."""

    def __init__(self, made: Json, folder: Path, address: str, volumes: Volumes, patch: Patch) -> None:
        self.made = made
        self.folder = folder
        self.address = address
        self.volumes = volumes
        self._patch = patch
        self.name = str(made["metadata"]["name"])
        self.containers = [Container(spec, Probing(spec, address)) for spec in made["spec"]["containers"]]
        self.since = now()
        self.waits_for = ""
        self._ending = False
        self._sent: Json = {}
        self._reporting = asyncio.Lock()
        self._conditions: dict[str, Json] = {}
        assert not made["spec"].get("initContainers"), "the stand-in for a kubelet runs no initContainers"

    async def run(self) -> None:
        """Start the containers once the volumes are ready and keep them running; returns when none is left."""
        await self._materialise()
        async with asyncio.TaskGroup() as group:
            for container in self.containers:
                group.create_task(self._keep(container))

    async def _materialise(self) -> None:
        while True:
            try:
                await self.volumes.refresh()
                environments = [await self._environment(container.spec) for container in self.containers]
            except NotYetError as error:
                self.waits_for = str(error)
                await self.report()
                await asyncio.sleep(0.2)
            else:
                self.waits_for = ""
                self._environments = dict(zip((one.name for one in self.containers), environments, strict=True))
                return

    async def _keep(self, container: Container) -> None:
        wait_s = _BACK_OFF_S
        while True:
            status = await self._run_once(container)
            policy = self.made["spec"].get("restartPolicy", "Always")
            container.done = self._ending or policy == "Never" or (policy == "OnFailure" and status == 0)
            await self.report()
            if container.done:
                return
            ended = container.state
            container.state = {"waiting": {"reason": "CrashLoopBackOff" if status else "Completed"}}
            container.last_state = ended
            await self.report()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_BACK_OFF_S)
            if self._ending:
                container.state, container.done = ended, True
                await self.report()
                return
            container.restarts += 1

    async def _run_once(self, container: Container) -> int:
        spec = container.spec
        log = self.folder / f"{container.name}-{container.restarts}.log"
        container.logs.append(log)
        message = self.folder / f"{container.name}-{container.restarts}.message"
        message.touch()
        began = now()
        container.probing.reset()
        container.process = kubelet_process.start(
            self._command(spec), self._mounts(spec, message), self.folder, self._environments[container.name], log
        )
        container.swept = False
        container.state = {"running": {"startedAt": began}}
        await self.report()
        probing = asyncio.create_task(self._probe(container))
        try:
            while (status := container.process.poll()) is None:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(_POLL_S)
        finally:
            probing.cancel()
            container.sweep()
        status = 128 - status if status < 0 else status
        container.state = {
            "terminated": {
                "exitCode": status,
                "reason": "Completed" if status == 0 else "Error",
                "message": termination_message(spec, message, log, status),
                "startedAt": began,
                "finishedAt": now(),
            }
        }
        return status

    async def _probe(self, container: Container) -> None:
        async for alive in container.probing.run():
            await self.report()
            if not alive:
                container.signal(signal.SIGTERM)
                await asyncio.sleep(self._grace_s)
                container.signal_all(signal.SIGKILL)
                return

    @property
    def _grace_s(self) -> float:
        return float(self.made["spec"].get("terminationGracePeriodSeconds", 30))

    async def end(self, grace_s: float) -> None:
        """Ask the containers to end, wait up to `grace_s` seconds, then kill them."""
        self._ending = True
        until = time.monotonic() + grace_s
        await asyncio.gather(*(self._stop(container, grace_s) for container in self.containers))
        while self.is_running and time.monotonic() < until:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(_POLL_S)
        self.kill()

    async def _stop(self, container: Container, grace_s: float) -> None:
        hook = container.spec.get("lifecycle", {}).get("preStop")
        if hook is not None:
            assert set(hook) == {"sleep"}, "the stand-in for a kubelet knows no preStop but sleep"
            await asyncio.sleep(min(hook["sleep"]["seconds"], grace_s))
        container.signal(signal.SIGTERM)

    @property
    def is_running(self) -> bool:
        return any(one.process is not None and one.process.poll() is None for one in self.containers)

    def signal_all(self, number: int) -> None:
        for container in self.containers:
            container.signal_all(number)

    def kill(self) -> None:
        """Kill all processes immediately; returns when all have ended."""
        self._ending = True
        for container in self.containers:
            container.sweep()

    def _command(self, spec: Json) -> list[str]:
        arguments = [self._expanded(spec, text) for text in spec.get("args", ())]
        if command := spec.get("command"):
            return [*(self._expanded(spec, text) for text in command), *arguments]
        if "server" in arguments[:1]:
            # The pod has its own address but no network namespace.
            arguments = [text for text in arguments if not text.startswith("--host")] + [f"--host={self.address}"]
        return [PYWHARF, *arguments]

    def _expanded(self, spec: Json, text: str) -> str:
        return expanded(text, self._environments[spec["name"]])

    def _mounts(self, spec: Json, message: Path) -> Sequence[Mount]:
        made = [Mount(message, spec.get("terminationMessagePath", "/dev/termination-log"))]
        for mount in spec.get("volumeMounts", ()):
            source = self.volumes.path(mount["name"]) / mount.get("subPath", "")
            if not source.exists():
                source.mkdir(parents=True)
            made.append(Mount(source, mount["mountPath"].rstrip("/"), mount.get("readOnly", False)))
        return made

    async def _environment(self, spec: Json) -> dict[str, str]:
        made = {"HOSTNAME": self.name}
        for source in spec.get("envFrom", ()):
            kind, reference = ("Secret", "secretRef") if "secretRef" in source else ("ConfigMap", "configMapRef")
            content = await self._content(kind, source[reference])
            made |= {source.get("prefix", "") + key: value for key, value in content.items()}
        for variable in spec.get("env", ()):
            value = await self._value(variable)
            if value is not None:
                made[variable["name"]] = expanded(value, made)
        return made

    async def _value(self, variable: Json) -> str | None:
        source: Mapping[str, Any] = variable.get("valueFrom") or {}
        if reference := source.get("fieldRef"):
            pod = self.made | {"status": {"podIP": self.address, "hostIP": self.address}}
            return field_of(pod, reference["fieldPath"])
        for kind, name in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
            if reference := source.get(name):
                content = await self._content(kind, reference)
                if reference["key"] not in content and not reference.get("optional"):
                    raise NotYetError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
                return content.get(reference["key"])
        return str(variable.get("value", ""))

    async def _content(self, kind: str, reference: Mapping[str, Any]) -> dict[str, str]:
        found = await self.volumes.read(kind, reference["name"])
        if found is None:
            if reference.get("optional"):
                return {}
            raise NotYetError(f'{kind.lower()} "{reference["name"]}" not found')
        return {key: value.decode() for key, value in data_of(found).items()}

    @property
    def is_ready(self) -> bool:
        return all(one.status["ready"] for one in self.containers)

    @property
    def phase(self) -> str:
        states = [one.state for one in self.containers]
        if all(one.done for one in self.containers):
            failed = any(state["terminated"]["exitCode"] for state in states)
            return "Failed" if failed else "Succeeded"
        return "Running" if any(one.process is not None for one in self.containers) else "Pending"

    async def report(self) -> None:
        """Write the status if it changed. Writes are serialized; otherwise an old status might arrive last."""
        async with self._reporting:
            status = self._status()
            if status != self._sent:
                self._sent = status
                await self._patch("/status", {"status": status})

    def _status(self) -> Json:
        phase, over = self.phase, all(one.done for one in self.containers)
        ready = self.is_ready and not over
        for kind, true in (
            ("PodScheduled", True),
            ("PodReadyToStartContainers", not over and phase == "Running"),
            ("Initialized", True),
            ("ContainersReady", ready),
            ("Ready", ready),
        ):
            self._set_condition(kind, true=true)
        return {
            "phase": phase,
            "conditions": list(self._conditions.values()),
            "containerStatuses": [one.status for one in self.containers],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self.since,
            "message": self.waits_for or None,
        }

    def _set_condition(self, kind: str, *, true: bool) -> None:
        status = str(true)
        if self._conditions.get(kind, {}).get("status") != status:
            self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": now()}
