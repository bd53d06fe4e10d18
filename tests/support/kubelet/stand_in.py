"""A stand-in for scheduler, node and kubelet on a control plane without nodes: pods run as real processes here.

Every pod of its namespaces gets its own address in 127.0.0.0/8, so that servers use their real ports, and its own
mounts, so that they use their real paths. The differences from a node:

- The image is ignored: the program is the `pywharf` of these tests, and a `command` runs this machine's program.
- There is no network namespace: `--host=<the pod's address>` is added to a server's arguments. A process of this
  machine that listens on 0.0.0.0 at 8888 or 9090 blocks every pod; an error then reports that. The API server rejects
  loopback addresses in Endpoints, so a Service has no Endpoints: `urls` returns the addresses instead.
- Users, capabilities, seccomp, resources and a read-only root are ignored.
- Volumes are refreshed from the API server every `refresh_s`, and immediately when the pod's annotations change.
  No watch refreshes them.
- Restarts back off only briefly, and a failing readiness probe is repeated ten times a second.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from support.background import in_background
from support.cluster.cluster import GIVEN, Cluster
from support.kubelet import process as kubelet_process
from support.kubelet.api import ApiAnswerError
from support.kubelet.node import Node
from support.kubelet.pod import Pod
from support.kubelet.probes import port_of
from support.kubelet.volumes import Json
from support.parts import missing
from support.server.serving import check_text
from support.waiting import wait_for

T = TypeVar("T")
REFRESH_S = 60.0
_ANSWER_S = 60.0
_SHOWN_BYTES = 8000


class Kubelet:
    """The tests' interface. Its methods block until done and may be called from any thread but its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.secrets: set[str] = set()
        """Texts that no log may hold, besides the values of the Secrets that pods read."""
        self.logs_may_hold_tracebacks = False

    def watch(self, namespace: str) -> None:
        """Run the pods of that namespace too."""
        self._do(self._node.watch(namespace))

    def pods(self, namespace: str, **labels: str) -> list[Json]:
        """Return the pods with these labels from the API server."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        return list(self._do(self._node.api.ask("GET", path))["items"])

    def urls(self, namespace: str, service: str, port: str | int | None = None) -> list[str]:
        """Return the URLs of the ready pods for the Service's port, without a trailing slash.

        `port` is a name or number; None is the Service's first port.
        """
        found = self._do(self._node.api.ask("GET", f"/api/v1/namespaces/{namespace}/services/{service}"))
        ports = found["spec"]["ports"]
        wanted = next(one for one in ports if port in {None, one.get("name"), one["port"]})
        scheme = "https" if wanted.get("name") == "https" else "http"
        selector = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"].items())
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        return [
            f"{scheme}://{pod['status']['podIP']}:{_target(pod, wanted)}"
            for pod in self._do(self._node.api.ask("GET", path))["items"]
            if _is_ready(pod)
        ]

    def wait_for_urls(
        self, namespace: str, service: str, count: int, port: str | int | None = None, *, longest_s: float = 60.0
    ) -> list[str]:
        """Wait until `urls` returns `count` URLs, and return them."""

        def complete() -> tuple[list[str]] | None:
            with contextlib.suppress(ApiAnswerError):
                found = self.urls(namespace, service, port)
                return (found,) if len(found) == count else None
            return None

        try:
            (found,) = wait_for(complete, f"{count} ready pods of {service}", longest_s=longest_s) or ([],)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.account()}") from None
        return found

    def hold_volumes(self, pod: str, *kinds: str) -> None:
        """Hide changes of these kinds (default: ConfigMap and Secret) from the pod's volumes until `release`.

        Each is a kind, or one object as KIND/NAME.
        """
        self._node.held_of(pod).kinds |= set(kinds or ("ConfigMap", "Secret"))

    def release(self, pod: str, *kinds: str) -> None:
        """End `hold_volumes` for these kinds (default: all) and update the pod's volumes immediately."""
        held = self._node.held_of(pod)
        held.kinds -= set(kinds or held.kinds)
        self.refresh(pod)

    def refresh(self, pod: str) -> None:
        """Update the pod's volumes now."""
        self._do(self._node.refresh(self._named(pod)))

    def freeze(self, pod: str) -> None:
        """Stop the pod's processes (SIGSTOP), so that its probes fail."""
        self._named(pod).signal_all(signal.SIGSTOP)

    def thaw(self, pod: str) -> None:
        self._named(pod).signal_all(signal.SIGCONT)

    def kill(self, pod: str) -> None:
        """Kill the pod's processes, as the out-of-memory killer does; containers restart if their policy says so."""
        self._named(pod).signal_all(signal.SIGKILL)

    def log(self, pod: str) -> str:
        """Return the logs of all its containers, including earlier runs."""
        logs = [path for one in self._named(pod).containers for path in one.logs if path.exists()]
        return "".join(path.read_text(errors="replace") for path in logs)

    def volume(self, pod: str, name: str) -> Path:
        """Return the folder of one of the pod's volumes."""
        return self._named(pod).volumes.path(name)

    def account(self) -> str:
        """Describe each pod so far with the end of its log, for a failed test."""
        pods = list(self._node.pods.values())
        return f"{len(pods)} pods so far\n" + "\n".join(
            f"--- pod {pod.name} at {pod.address}: {pod.phase} {pod.waits_for}\n{self.log(pod.name)[-_SHOWN_BYTES:]}"
            for pod in pods
        )

    def check_logs(self) -> None:
        """Assert that no log holds a secret or a traceback."""
        for pod in list(self._node.pods.values()):
            forms = dict.fromkeys(self.secrets | self._node.secrets, "that of a Secret")
            signs = () if self.logs_may_hold_tracebacks else ("Traceback", "Logging error", "Warning:")
            check_text(self.log(pod.name), forms, signs)

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._node.loop).result(_ANSWER_S)

    def _named(self, name: str) -> Pod:
        """Return the latest pod of that name."""
        known = list(self._node.pods.values())
        found = [pod for pod in known if pod.name == name]
        assert found, f"the stand-in for a kubelet has no pod {name}; it has {[pod.name for pod in known]}"
        return found[-1]


def _target(pod: Json, port: Json) -> int:
    for container in pod["spec"]["containers"]:
        with contextlib.suppress(LookupError):
            return port_of(container, port.get("targetPort") or int(port["port"]))
    raise AssertionError(f"no container has the port {port}")


def _is_ready(pod: Json) -> bool:
    conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@contextlib.contextmanager
def kubelet_of(cluster: Cluster, folder: Path, *namespaces: str, refresh_s: float = REFRESH_S) -> Iterator[Kubelet]:
    """Run the pods of these namespaces within the context. At its end the logs are printed and checked."""
    if os.environ.get(GIVEN):
        missing("a control plane without nodes", f"{GIVEN} names a cluster, whose own nodes run the pods")
    kubelet_process.unshared()  # skips the test if mounts are not allowed
    node = Node(cluster, folder, refresh_s)
    made = Kubelet(node)
    try:
        with in_background(node.running(), "kubelet"):
            for namespace in namespaces:
                made.watch(namespace)
            yield made
    finally:
        print(made.account())
    made.check_logs()
