"""Configuration of a node's parts, as files."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.node.image_build import PAUSE_IMAGE

NAME = "node"
ADDRESS = "10.200.0.1"
PODS = "10.244.0.0/24"


@dataclass(frozen=True)
class NodeConfig:
    folder: Path
    sockets: Path
    """Folder with a short path, for sockets."""
    cgroup: str
    """Name of the cgroup above those of the pods, so that two nodes on one machine do not share cgroups."""

    @property
    def runtime_socket(self) -> Path:
        return self.sockets / "containerd.sock"

    def containerd(self) -> Path:
        runtime, images = '"io.containerd.cri.v1.runtime"', '"io.containerd.cri.v1.images"'
        return self._file(
            "containerd.toml",
            f"""
            version = 3
            root = "{self.folder}/containerd"
            state = "{self.sockets}/state"
            [grpc]
            address = "{self.runtime_socket}"
            [plugins.{images}.pinned_images]
            sandbox = "{PAUSE_IMAGE}"
            [plugins.{runtime}]
            restrict_oom_score_adj = true
            [plugins.{runtime}.cni]
            bin_dirs = ["/usr/lib/cni"]
            conf_dir = "{self._network()}"
            [plugins.{runtime}.containerd]
            default_runtime_name = "runc"
            [plugins.{runtime}.containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins.{runtime}.containerd.runtimes.runc.options]
            BinaryName = "/usr/sbin/runc"
            SystemdCgroup = false
            """,
        )

    def kubelet(self, authority: Path) -> Path:
        content = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.runtime_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failSwapOn": False,
            "failCgroupV1": False,
            "oomScoreAdj": 0,
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._file("resolv.conf", f"nameserver {ADDRESS}\n")),
            "podLogsDir": str(self.folder / "pod-logs"),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "syncFrequency": "10s",
        }
        return self._file("kubelet.yaml", yaml.safe_dump(content))

    def coredns(self, kubeconfig: Path) -> Path:
        text = f"""
        .:53 {{
            bind {ADDRESS}
            errors
            kubernetes cluster.local {{
                kubeconfig {kubeconfig}
            }}
        }}
        """
        return self._file("Corefile", text)

    def _network(self) -> Path:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.folder / "cni-addresses"),
                "ranges": [[{"subnet": PODS}]],
            },
        }
        bridge["ipam"] |= {"routes": [{"dst": "0.0.0.0/0"}]}  # type: ignore[operator]
        plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
        content = {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}
        return self._file("cni/10-pods.conflist", json.dumps(content)).parent

    def _file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path
