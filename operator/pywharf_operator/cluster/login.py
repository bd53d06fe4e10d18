"""Log in to the API server."""

import os
from pathlib import Path
from typing import Final

from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from pywharf import __version__
from pywharf.egress.policy import proxy_for
from pywharf_operator.spec.names import MANAGER

MAX_CONCURRENT: Final = 24
"""Maximum number of concurrent requests; the API server does not give one client many more."""


async def connect(connections: int = MAX_CONCURRENT + 4) -> ApiClient:
    """Log in with KUBECONFIG as kubectl does, otherwise as the pod's ServiceAccount, otherwise with ~/.kube/config.

    `connections`: their maximum number; 0: no limit, which watches need.
    """
    configuration = Configuration()
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        # The client itself reads the variable only once, when it is imported.
        path = os.environ.get("KUBECONFIG")
        await kube_config.load_kube_config(path, client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = connections
    # By default Python would read NO_PROXY, without support for ranges, and send the credentials of a .netrc.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    client = ApiClient(configuration)
    client.user_agent = f"{MANAGER}/{__version__}"
    return client


def in_cluster_namespace() -> str | None:
    """Return the namespace of this process's pod, or None outside a cluster."""
    try:
        return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return None
