"""A real `pywharf operator` process with the least permissions that it needs."""

import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil

from pywharf_operator.process.options import LEASE_NAME
from pywharf_operator.spec.rights import cluster_rules, lease_rules, namespace_rules
from support.cluster.cluster import Cluster
from support.server.serving import PYWHARF, clean_environment

START_S = 60.0
ACCOUNT = "pywharf-operator"
IMAGE = "pywharf:test"
_OPENER = build_opener(ProxyHandler({}))
RULES = namespace_rules()
LEASE_RULES = lease_rules(LEASE_NAME)
CLUSTER_RULES = cluster_rules()


@dataclass
class Operator:
    """A running operator process."""

    process: subprocess.Popen[bytes]
    log: Path
    secrets: set[str] = field(default_factory=set)
    """Texts that must not appear in its log."""

    @property
    def url(self) -> str:
        """The URL of its probes and metrics."""
        found = re.search(r"(http://\S+:\d+)", self.text())
        assert found, f"the operator does not say where its probes are; its log:\n{self.text()}"
        return found[1].replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//127.0.0.1:")

    def get(self, path: str) -> tuple[int, str]:
        """Send a GET to its port; returns status and body. The status is 0 if it does not answer."""
        try:
            with _OPENER.open(f"{self.url}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except URLError as error:
            status = getattr(error, "code", 0)
            return status, error.read().decode() if hasattr(error, "read") else str(error)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with those labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            found = re.match(r"(\w+)(?:\{(.*)\})? (\S+)$", line)
            if found and found[1] == name:
                given = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if labels.items() <= given.items():
                    total += float(found[3])
        return total

    def memory(self) -> int:
        """Return its resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        """Kill it and wait for its end."""
        self.process.kill()
        self.process.wait(30)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def text(self) -> str:
        """Return the log so far."""
        return self.log.read_text()


def grant(cluster: Cluster, *namespaces: str, home: str | None = None, cluster_wide: bool = False) -> Path:
    """Grant a ServiceAccount in `home` (default: the first namespace) the operator's rights in the namespaces.

    Returns the account's kubeconfig.
    """
    home = home or namespaces[0]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": home}
    objects: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": home}},
        *_role(home, f"{ACCOUNT}-lease", LEASE_RULES, subject),
    ]
    if cluster_wide:
        name = f"{ACCOUNT}-{home}"
        rules = [*RULES, *CLUSTER_RULES]
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        version = "rbac.authorization.k8s.io/v1"
        objects += [
            {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": version,
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": ref,
                "subjects": [subject],
            },
        ]
    else:
        for namespace in namespaces:
            objects += _role(namespace, ACCOUNT, RULES, subject)
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    return cluster.kubeconfig_for(ACCOUNT, home)


def _role(namespace: str, name: str, rules: Sequence[object], subject: Mapping[str, str]) -> list[dict[str, object]]:
    version, metadata = "rbac.authorization.k8s.io/v1", {"name": name, "namespace": namespace}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    return [
        {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": version,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": ref,
            "subjects": [subject],
        },
    ]


@contextlib.contextmanager
def operating(
    folder: Path,
    kubeconfig: Path,
    *namespaces: str,
    flags: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    wait: bool = True,
    program: Sequence[str] = (PYWHARF,),
    log_may_hold: Sequence[str] = (),
) -> Iterator[Operator]:
    """Run `pywharf operator` for these namespaces (none: for all) within the context; `wait` until it is ready.

    At the end its log is checked for tracebacks, warnings and the secrets that the test has named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"operator-{time.monotonic_ns()}.log"
    scope = [f"--namespace={name}" for name in namespaces] or ["--all-namespaces"]
    command = [*program, "operator", *scope, "--host=127.0.0.1", "--port=0", f"--image={IMAGE}", *flags]
    environment = clean_environment({"KUBECONFIG": str(kubeconfig), **(env or {})})
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    operator = Operator(process, log)
    try:
        if wait:
            until_ready(operator)
        yield operator
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    text = operator.text()
    shown = [secret for secret in operator.secrets if secret in text]
    assert not shown, f"the log of the operator holds the secrets {shown}:\n{text}"
    for sign in ("Traceback", "Warning:"):
        assert sign not in text or sign in log_may_hold, f"the log of the operator holds {sign!r}:\n{text[-8000:]}"


def until_ready(operator: Operator, timeout_s: float = START_S) -> None:
    """Wait until the operator is ready, which it is once it has listed all objects."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if operator.process.poll() is not None:
            break
        with contextlib.suppress(AssertionError, OSError):
            if operator.get("/readyz")[0] == 200:
                return
        time.sleep(0.05)
    msg = f"the operator is not ready (status {operator.process.poll()}); its log:\n{operator.text()}"
    raise AssertionError(msg)
