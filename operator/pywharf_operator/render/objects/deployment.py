"""The Deployment `<server>`."""

from pywharf_operator.render.labels import Manifest, metadata, selector
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment

_REVISIONS = 3


def deployment(verdict: ServerVerdict, environment: Environment) -> Manifest:
    """Render the Deployment."""
    server = verdict.server
    spec: Manifest = {
        "selector": {"matchLabels": selector(server)},
        "revisionHistoryLimit": _REVISIONS,
        "strategy": _strategy(verdict),
        "template": verdict.pod,
    }
    if server.spec.autoscaling is None:
        # An autoscaler owns the number of replicas; a number that is written here would be reverted each time.
        spec = {"replicas": server.spec.replicas, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(server), "spec": spec}


def _strategy(verdict: ServerVerdict) -> Manifest:
    """Return the strategy: start a new pod before an old one stops, unless two pods cannot have the volumes."""
    if not all(volume.shared for volume in verdict.server.volumes):
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
