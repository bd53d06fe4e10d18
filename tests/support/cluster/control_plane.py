"""etcd, kube-apiserver and kube-controller-manager as processes of this machine, on free loopback ports.

They never outlive the process that starts them: each gets a parent death signal (`setpriv`), so even a SIGKILL of
the tests leaves nothing behind. Their data is disposable, so they are always killed, never stopped gracefully.
"""

import functools
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import Request, urlopen

import yaml

from support.certificates import Certificates, certificates, client_certificate, key_pair
from support.ports import free_ports

START_S = 90.0
"""Seconds that one part may take to start on a busy machine."""
ETCD, API_SERVER, CONTROLLER_MANAGER = "etcd", "kube-apiserver", "kube-controller-manager"

# There are no nodes, so no controller need handle lost ones; pods that a test itself runs must stay.
_CONTROLLERS = "*,-node-lifecycle-controller,-taint-eviction-controller,-pod-garbage-collector-controller"


@dataclass
class ControlPlane:
    """A control plane. Its parts can be started and killed one by one; they reconnect in any order."""

    folder: Path
    """Folder for certificates, logs and data; created if missing."""
    programs: Path
    """Folder of the programs. Without kube-controller-manager nothing is garbage-collected, scheduled or finalized."""
    url: str = field(init=False)
    made: Certificates = field(init=False)
    kubeconfig: Path = field(init=False)
    """Kubeconfig of the administrator."""
    before_controllers: Callable[["ControlPlane"], None] = lambda _plane: None
    """Called before the controller manager starts, to create kinds: it discovers new ones only every half minute."""
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    inside: Sequence[str] = ()
    """Prefix of each command; a node's enters its network namespace."""
    names: Sequence[str] = ()
    """Names in the API server's certificate, besides those of loopback."""
    api_flags: Mapping[str, str] = field(default_factory=dict)
    """Flags of the API server by name without dashes; they override the defaults."""
    controllers: str = _CONTROLLERS

    def __post_init__(self) -> None:
        self.made = certificates(self.folder, *self.names)
        self.accounts = key_pair(self.folder, "service-accounts")
        self.kubeconfig = self._kubeconfig("admin", "pywharf-tests", "system:masters")
        self._choose_ports()

    def _choose_ports(self) -> None:
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        self.url = f"https://127.0.0.1:{self._port}"
        self._write(self.kubeconfig)
        self._write(self._kubeconfig("controller-manager", "system:kube-controller-manager"))

    def add_kubeconfig(self, name: str, user: str, group: str) -> Path:
        """Write a kubeconfig for another user, with a certificate."""
        path = self._kubeconfig(name, user, group)
        self._write(path)
        return path

    def _kubeconfig(self, name: str, user: str, group: str | None = None) -> Path:
        """Return the path; `_write` writes the file once the port is known."""
        if not (self.folder / f"{name}.key").exists():
            client_certificate(self.folder, name, user, group)
        return self.folder / f"{name}.kubeconfig"

    def _write(self, path: Path) -> None:
        name = path.stem
        pair = {"client-certificate": str(path.with_suffix(".pem")), "client-key": str(path.with_suffix(".key"))}
        path.write_text(kubeconfig_text(self.url, self.made.authority, name, pair))

    @property
    def port(self) -> int:
        return self._port

    @property
    def has_controllers(self) -> bool:
        return (self.programs / CONTROLLER_MANAGER).exists()

    def start(self) -> None:
        """Start all parts. After a failure, such as a port taken meanwhile, other ports are tried (three attempts)."""
        for last in (False, False, True):
            try:
                self.start_etcd()
                self.start_apiserver()
            except AssertionError:
                self.stop()
                if last:
                    raise
                self._choose_ports()
            else:
                break
        self.before_controllers(self)
        if self.has_controllers:
            self.start_controller_manager()

    def start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        self._run(
            ETCD,
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        if not self.inside:  # otherwise the API server waits for it: its port is not reachable from here
            self._wait_for(ETCD, f"{client}/readyz", None)

    def start_apiserver(self) -> None:
        """Start the API server at the same address as before; returns once it reports that it is ready."""
        private, public = self.accounts
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "secure-port": str(self._port),
            "tls-cert-file": str(self.made.cert),
            "tls-private-key-file": str(self.made.key),
            "client-ca-file": str(self.made.authority),
            "service-account-key-file": str(public),
            "service-account-signing-key-file": str(private),
            "service-account-issuer": "https://kubernetes.default.svc",
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": "10.96.0.0/16",
            "endpoint-reconciler-type": "none",
            "allow-privileged": "true",
        }
        self._run(API_SERVER, *(f"--{name}={value}" for name, value in {**flags, **self.api_flags}.items()))
        self._wait_for(API_SERVER, f"{self.url}/readyz", self._admin_context())

    def start_controller_manager(self) -> None:
        self._run(
            CONTROLLER_MANAGER,
            f"--kubeconfig={self.folder / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={self.accounts[0]}",
            f"--root-ca-file={self.made.authority}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={self.controllers}",
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            "--concurrent-namespace-syncs=20",
        )

    def stop_apiserver(self, number: int = signal.SIGKILL) -> None:
        """Stop the API server. With SIGTERM it closes its connections gracefully and waits for them."""
        self.kill(API_SERVER, number)

    def kill(self, part: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one part and wait for its end."""
        process = self.processes.pop(part)
        process.send_signal(number)
        process.wait(60)

    def stop(self) -> None:
        """Kill all parts, in any state."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(60)
        self.processes.clear()

    def log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, part: str, *flags: str) -> None:
        with (self.folder / f"{part}.log").open("ab") as log:
            self.processes[part] = spawn([*self.inside, str(self.programs / part), *flags], log)

    def _admin_context(self) -> ssl.SSLContext:
        context = self.made.client_context()
        context.load_cert_chain(self.folder / "admin.pem", self.folder / "admin.key")
        return context

    def _wait_for(self, part: str, url: str, context: ssl.SSLContext | None) -> None:
        end = time.monotonic() + START_S
        while not _answers(url, context):
            status = self.processes[part].poll()
            if status is not None or time.monotonic() > end:
                msg = f"{part} did not start (status {status}); its log:\n{self.log(part)[-4000:]}"
                raise AssertionError(msg)
            time.sleep(0.05)


def kubeconfig_text(
    url: str, authority: Path, user: str, credentials: dict[str, str], namespace: str | None = None
) -> str:
    place = {"cluster": "tests", "user": user} | ({"namespace": namespace} if namespace else {})
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "tests", "context": place}],
        "current-context": "tests",
    }
    return yaml.safe_dump(content)


def spawn(command: Sequence[str], log: object) -> "subprocess.Popen[bytes]":
    """Start a process that ends with this one, however this one ends.

    The kernel sends the death signal when the thread that started the process ends. So one thread, which lives as long
    as this process, starts them all.
    """
    return _starter().submit(_spawn, command, log).result()


@functools.cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "starter")


def _spawn(command: Sequence[str], log: object) -> "subprocess.Popen[bytes]":
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [*tied, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def _answers(url: str, context: ssl.SSLContext | None) -> bool:
    try:
        with urlopen(Request(url), timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
