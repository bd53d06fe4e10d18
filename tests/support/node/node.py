"""A Kubernetes with one real node: containers, Services and their DNS names, in separate namespaces.

It needs root and some Debian packages. Only the API server can be reached from outside, through a socket.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.cluster import build as cluster_build
from support.cluster.cluster import Cluster, cluster_of, prepare
from support.cluster.cluster import programs as control_plane_programs
from support.cluster.control_plane import ControlPlane, spawn
from support.cluster.kube_client import KubeClient
from support.node import image_build
from support.node.config import ADDRESS, NAME, NodeConfig
from support.node.processes import Namespaces, cgroups, namespaces
from support.node.volumes import local_volumes
from support.parts import missing
from support.waiting import wait_for

READY_S = 120.0
# Debian packages by a program whose presence shows that the package is installed.
PACKAGES = {
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}


@dataclass
class Node:
    """A running node."""

    cluster: Cluster
    plane: ControlPlane
    spaces: Namespaces
    sockets: Path
    """Folder with a short path, unique to this node, for sockets."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds from the start until each step was done."""


@dataclass(frozen=True)
class Parts:
    """The parts of a node: folders of programs and archives of images."""

    control_plane: Path
    kubernetes: Path
    containers: Path
    coredns: Path
    images: tuple[Path, ...]


def parts() -> Parts:
    """Build all parts. Skips the calling test, naming what is missing, if that fails."""
    if os.geteuid() != 0:
        missing("root", "a node's containers need it")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None]
    if absent:
        missing("a node", f"apt-get install {' '.join(absent)}")
    try:
        containers = cluster_build.build(cluster_build.CONTAINERS)
        images = (
            image_build.pause_archive(containers / "pause"),
            image_build.image_archive(),
            image_build.client_archive(),
        )
        kubernetes, coredns = cluster_build.build(cluster_build.NODE), cluster_build.build(cluster_build.COREDNS)
    except (cluster_build.BuildError, image_build.ImageError) as error:
        missing("a node", str(error))
    return Parts(control_plane_programs(), kubernetes, containers, coredns, images)


def sockets_file(folder: Path) -> Path:
    """Return the file that names a node's folder in /run and its cgroups, to clean up after a killed node."""
    return folder / "sockets.txt"


@contextlib.contextmanager
def running_node(folder: Path, made: Parts) -> Iterator[Node]:
    """Run a node within the context; it is ready, with the images, DNS and a default StorageClass."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pywharf-node-", dir="/run")))
        sockets_file(folder).write_text(str(sockets))
        stack.enter_context(cgroups(sockets.name))
        spaces = stack.enter_context(namespaces(folder, made.containers / "pause"))
        _network(spaces)
        clock = time.monotonic()
        seconds: dict[str, float] = {}
        plane = _control_plane(folder / "control-plane", made, spaces)
        # The API server has the same loopback port inside and outside.
        relayed(spaces, sockets, "api", f"127.0.0.1:{plane.port}", plane.port)
        stack.enter_context(plane)
        node = Node(cluster_of(plane, folder), plane, spaces, sockets, seconds)
        seconds["control plane"] = time.monotonic() - clock
        client = node.cluster.client()
        stack.callback(client.close)
        config = NodeConfig(folder, sockets, sockets.name)
        _containerd(config, made, spaces)
        seconds["images"] = time.monotonic() - clock
        _kubernetes(config, made, plane, spaces)
        stack.enter_context(local_volumes(node.cluster, folder / "volumes"))
        _until_ready(client, spaces)
        seconds["ready"] = time.monotonic() - clock
        yield node


def _network(spaces: Namespaces) -> None:
    for command in (
        "ip link set lo up",
        "ip link add node0 type bridge",
        f"ip address add {ADDRESS}/24 dev node0",
        "ip link set node0 up",
        "ip route add default dev node0",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        spaces.run(*command.split())


def _control_plane(folder: Path, made: Parts, spaces: Namespaces) -> ControlPlane:
    return ControlPlane(
        folder,
        made.control_plane,
        prepare,
        inside=spaces.network,
        names=(f"IP:{ADDRESS}", "IP:10.96.0.1", "DNS:kubernetes.default.svc"),
        api_flags={
            "bind-address": "0.0.0.0",  # noqa: S104 - of its own network
            "advertise-address": ADDRESS,
            "authorization-mode": "Node,RBAC",
            "endpoint-reconciler-type": "lease",
            "kubelet-preferred-address-types": "InternalIP",
            "kubelet-client-certificate": str(folder / "admin.pem"),
            "kubelet-client-key": str(folder / "admin.key"),
        },
        controllers="*",
    )


def relayed(spaces: Namespaces, sockets: Path, name: str, address: str, port: int) -> None:
    """Relay a loopback port outside to an address inside, through a Unix socket, which both networks can reach."""
    socket = sockets / f"{name}.sock"
    inside = [*spaces.network, "socat", f"UNIX-LISTEN:{socket},fork,backlog=256", f"TCP:{address}"]
    outside = ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=256", f"UNIX-CONNECT:{socket}"]
    for side, command in (("inside", inside), ("outside", outside)):
        relay = f"{name}-relay-{side}"
        with spaces.log(relay).open("ab") as log:
            spaces.processes[relay] = spawn(command, log)


def brought(node: Node, name: str, port: int) -> str:
    """Relay a loopback port outside into the node while the node runs; returns the address for pods."""
    socket = node.sockets / f"{name}.sock"
    outside = ["socat", f"UNIX-LISTEN:{socket},fork,backlog=256", f"TCP:127.0.0.1:{port}"]
    listen = f"TCP-LISTEN:{port},bind={ADDRESS},fork,reuseaddr,backlog=256"
    inside = [*node.spaces.network, "socat", listen, f"UNIX-CONNECT:{socket}"]
    for side, command in (("outside", outside), ("inside", inside)):
        relay = f"{name}-brought-{side}"
        with node.spaces.log(relay).open("ab") as log:
            node.spaces.processes[relay] = spawn(command, log)
    return f"{ADDRESS}:{port}"


def _containerd(config: NodeConfig, made: Parts, spaces: Namespaces) -> None:
    path = f"PATH={made.containers}:/usr/sbin:/usr/bin:/sbin:/bin"
    spaces.start("containerd", "env", path, str(made.containers / "containerd"), f"--config={config.containerd()}")
    wait_for(config.runtime_socket.exists, "containerd", longest_s=READY_S)
    ctr = (str(made.containers / "ctr"), f"--address={config.runtime_socket}", "--namespace=k8s.io")
    for archive in made.images:
        spaces.run(*ctr, "images", "import", "--local", str(archive))


def _kubernetes(config: NodeConfig, made: Parts, plane: ControlPlane, spaces: Namespaces) -> None:
    admin, programs = plane.kubeconfig, made.kubernetes
    kubelet = plane.add_kubeconfig("kubelet", f"system:node:{NAME}", "system:nodes")
    spaces.start(
        "kubelet",
        *("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"),
        str(programs / "kubelet"),
        f"--config={config.kubelet(plane.made.authority)}",
        f"--kubeconfig={kubelet}",
        f"--hostname-override={NAME}",
        f"--node-ip={ADDRESS}",
        f"--root-dir={config.folder / 'kubelet'}",
        f"--cert-dir={config.folder / 'kubelet-pki'}",
    )
    spaces.start(
        "kube-proxy",
        str(programs / "kube-proxy"),
        f"--kubeconfig={admin}",
        f"--hostname-override={NAME}",
        "--proxy-mode=nftables",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    )
    scheduler = str(programs / "kube-scheduler")
    spaces.start("kube-scheduler", scheduler, f"--kubeconfig={admin}", "--leader-elect=false", "--secure-port=0")
    spaces.start("coredns", str(made.coredns / "coredns"), f"-conf={config.coredns(admin)}")


def _until_ready(client: KubeClient, spaces: Namespaces) -> None:
    def ready() -> bool:
        spaces.check()
        node = client.get(f"/api/v1/nodes/{NAME}")
        if node is None:
            return False
        conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    wait_for(ready, "the node to be ready", longest_s=READY_S)
