"""The HorizontalPodAutoscaler `<server>`."""

from pywharf_operator.render.labels import Manifest, metadata, object_name
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment

_SCALE_DOWN_WINDOW_S = 300


def autoscaler(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the autoscaler; None if none is requested."""
    server = verdict.server
    scaling = server.spec.autoscaling
    if scaling is None:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(server),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": object_name(server)},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {
                            "type": "Utilization",
                            "averageUtilization": scaling.target_cpu_utilization_percentage,
                        },
                    },
                }
            ],
            # Scale up immediately, but down one by one: the others must read again what a stopped replica had cached.
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": _SCALE_DOWN_WINDOW_S,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                }
            },
        },
    }
