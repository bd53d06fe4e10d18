"""What Kubernetes' Pod Security Standard `restricted` asks of a pod, and a root file system that nobody writes to."""

from typing import Final

from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec import PackageServer

USER: Final = 65532
"""User and group of the processes, and the group of their volumes; nobody's on a node."""


def pod_security(server: PackageServer) -> Manifest:
    """Return the securityContext of a pod; it has no ids where the cluster gives them."""
    ids = {} if server.spec.security.from_cluster else {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    return {
        "runAsNonRoot": True,
        **ids,
        # Or a large volume would be gone through, file by file, at each start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """The securityContext of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
