"""A stand-in for scheduler, node and kubelet on a control plane without nodes: pods run as real processes here.

Every pod of its namespaces gets an address of its own in 127.0.0.0/8, so that servers use their real ports, and its
own mounts, so that they use their real paths. What differs from a node:

- The program is the `pywharf` of these tests, whatever the image; a `command` is run as this machine has it.
- There is no network namespace: `--host=<the pod's address>` is added to a server's arguments. Whoever else listens on
  0.0.0.0 at 8888 or 9090 is in the way of every pod; that is said. Endpoints are refused by the API server (it takes
  no loopback address), so a Service has none: `urls` gives the addresses instead.
- Users, capabilities, seccomp, resources and a read-only root are not taken over.
- Volumes are refreshed every `refresh_s`, and at once when the pod's annotations change, from what the API server then
  has. Nothing is refreshed from a watch.
- Restarts back off only for moments, and a readiness probe that fails is asked ten times a second.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from support import kubelet_process
from support.background import in_background
from support.cluster import GIVEN, Cluster
from support.kubelet_api import ApiAnswerError
from support.kubelet_node import Node
from support.kubelet_pod import Pod
from support.kubelet_probes import port_of
from support.kubelet_volumes import Json
from support.parts import missing
from support.serving import check_text
from support.waiting import wait_for

T = TypeVar("T")
REFRESH_S = 60.0
_ANSWER_S = 60.0
_SHOWN_BYTES = 8000


class Kubelet:
    """Its functions are for tests, from any thread but its own; each returns when it is done."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.secrets: set[str] = set()
        """What may stand in no log, besides the values of the Secrets that pods read."""
        self.logs_may_hold_tracebacks = False

    def watch(self, namespace: str) -> None:
        """Run the pods of that namespace, too."""
        self._do(self._node.watch(namespace))

    def pods(self, namespace: str, **labels: str) -> list[Json]:
        """As the API server has them."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        return list(self._do(self._node.api.ask("GET", path))["items"])

    def urls(self, namespace: str, service: str, port: str | int | None = None) -> list[str]:
        """Where the ready pods answer the Service's port (by name or number; else its first), without a slash."""
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
        """`urls`, once there are that many."""

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
        """Of these (else ConfigMap and Secret) the pod's volumes see what they saw last, until `release`.

        Each is a kind, or one object as KIND/NAME.
        """
        self._node.held_of(pod).kinds |= set(kinds or ("ConfigMap", "Secret"))

    def release(self, pod: str, *kinds: str) -> None:
        """No longer, of these (else of all); the pod's volumes are brought up to date at once."""
        held = self._node.held_of(pod)
        held.kinds -= set(kinds or held.kinds)
        self.refresh(pod)

    def refresh(self, pod: str) -> None:
        """Bring the pod's volumes up to date now."""
        self._do(self._node.refresh(self._named(pod)))

    def freeze(self, pod: str) -> None:
        """Its processes stand still, and its probes fail."""
        self._named(pod).signal_all(signal.SIGSTOP)

    def thaw(self, pod: str) -> None:
        self._named(pod).signal_all(signal.SIGCONT)

    def kill(self, pod: str) -> None:
        """Its processes end as by a lack of memory; containers are started again where their policy says so."""
        self._named(pod).signal_all(signal.SIGKILL)

    def log(self, pod: str) -> str:
        """Of all its containers and their restarts."""
        logs = [path for one in self._named(pod).containers for path in one.logs if path.exists()]
        return "".join(path.read_text(errors="replace") for path in logs)

    def volume(self, pod: str, name: str) -> Path:
        """Folder of one of its volumes."""
        return self._named(pod).volumes.path(name)

    def account(self) -> str:
        """Of each pod so far, with the end of its log; for a test that failed."""
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
        """The last one of that name."""
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
    """Runs the pods of these namespaces within the context; at its end the logs are printed, and checked."""
    if os.environ.get(GIVEN):
        missing("a control plane without nodes", f"{GIVEN} names a cluster, whose own nodes run the pods")
    kubelet_process.unshared()  # or the test is left out
    node = Node(cluster, folder, refresh_s)
    made = Kubelet(node)
    try:
        with in_background(node.running(), "kubelet"):
            for namespace in namespaces:
                made.watch(namespace)
            yield made
    finally:
        print(made.account())  # noqa: T201 - pytest shows it of a test that failed
    made.check_logs()
