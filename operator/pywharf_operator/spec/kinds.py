"""PURE. The kinds of objects that the operator reads or makes, and their paths in the API."""

from typing import Any

import msgspec

from pywharf_operator.spec import API_VERSION, PACKAGE_POLICY, PACKAGE_REPO, PACKAGE_SERVER

Json = dict[str, Any]
"""An object of Kubernetes as JSON, as the API server sends or takes it."""


class Kind(msgspec.Struct, frozen=True):
    """One kind, as the API server knows it."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True
    optional: bool = False
    """Whether a cluster may lack it."""

    @property
    def group(self) -> str:
        """The API group; "" for the core one."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of an object, or without a name of the list; without a namespace of the whole cluster's list."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/".join(parts)


REPO = Kind(API_VERSION, PACKAGE_REPO, "packagerepos")
SERVER = Kind(API_VERSION, PACKAGE_SERVER, "packageservers")
POLICY = Kind(API_VERSION, PACKAGE_POLICY, "packagepolicies", optional=True)
"""A cluster lacks it while its CustomResourceDefinitions are those of an earlier version."""
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")
JOB = Kind("batch/v1", "Job", "jobs")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes", optional=True)
SERVICE_MONITOR = Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors", optional=True)
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

METADATA_ONLY = (SECRET, CONFIG_MAP, SERVICE_ACCOUNT)
"""Kinds without a status, of which the watches read the metadata alone: each change has another resourceVersion."""
OWNED = (
    SERVICE_ACCOUNT,
    SECRET,
    CONFIG_MAP,
    VOLUME_CLAIM,
    SERVICE,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    AUTOSCALER,
    NETWORK_POLICY,
    INGRESS,
    HTTP_ROUTE,
    SERVICE_MONITOR,
    CRON_JOB,
)
"""Those that are rendered for a server."""
OPTIONAL = tuple(kind for kind in OWNED if kind.optional)
_BY_NAME = {(kind.api_version, kind.name): kind for kind in OWNED} | {("batch/v1", "Job"): JOB}


def kind_of(manifest: dict[str, object]) -> Kind:
    """The kind of an object that was rendered. Raises KeyError for one that is not in the list."""
    return _BY_NAME[str(manifest["apiVersion"]), str(manifest["kind"])]
