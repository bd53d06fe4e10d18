"""The PodDisruptionBudget `<server>`: draining a node evicts one replica at a time."""

from pywharf_operator.render.labels import Manifest, metadata, selector
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment


def disruption_budget(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the budget; None if there is never more than one replica, as it would only block draining the node."""
    server = verdict.server
    if server.most_replicas <= 1:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(server),
        "spec": {
            # Unlike minAvailable, this lets a node be drained while an autoscaler runs one replica.
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(server)},
            # Pods that are not ready serve nobody, so they may be evicted at any time.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
