"""The securityContexts: Kubernetes' Pod Security Standard `restricted`, and a read-only root file system."""

from typing import Final

from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec import PackageServer

USER: Final = 65532
"""User and group id of the processes, and group id of their volumes. No user of a node has it."""


def pod_security(server: PackageServer) -> Manifest:
    """Return the securityContext of a pod. It has no ids if the cluster assigns them."""
    ids = {} if server.spec.security.from_cluster else {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    return {
        "runAsNonRoot": True,
        **ids,
        # Otherwise each start would walk through a large volume file by file.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """Return the securityContext of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
