"""What Kubernetes' Pod Security Standard `restricted` asks of a pod, and a root file system that nobody writes to."""

from typing import Final

from pywharf_operator.render.labels import Manifest

USER: Final = 65532
"""User and group of the processes, and the group of their volumes; nobody's on a node."""


def pod_security() -> Manifest:
    """The securityContext of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
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
