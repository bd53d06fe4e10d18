"""The PodDisruptionBudget `<server>`: a drained node takes one replica at a time."""

from pywharf_operator.render.labels import Manifest, metadata, selector
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment


def disruption_budget(verdict: ServerVerdict, environment: Environment) -> Manifest | None:  # noqa: ARG001 - one form for all
    """The budget; None where one replica is all there ever is, as it would only keep its node from being drained."""
    server = verdict.server
    if server.most_replicas <= 1:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(server),
        "spec": {
            # Unlike minAvailable it lets a node be drained while an autoscaler has one replica.
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(server)},
            # Pods that are not ready serve nobody: they may go at any time.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
