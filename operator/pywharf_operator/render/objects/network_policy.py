"""The NetworkPolicies `<server>` and `<server>-index`: who reaches the pods, and what the pods reach.

Repos name hosts, so a pod could be tricked into asking the cloud's metadata service for the identity of its node. That
service is blocked unless the server lends its identity, or keeps its cache in a bucket with it.
"""

from typing import Final

from pywharf_operator.render.labels import Manifest, metadata, selector
from pywharf_operator.render.pod.pod_template import HTTP_PORT, INTERNAL_PORT
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.names import Component

# For IPv4 and IPv6: the network of all addresses, and the clouds' metadata service in it.
_NETWORKS: Final = (("0.0.0.0/0", "169.254.169.254/32"), ("::/0", "fd00:ec2::254/128"))
_DNS_PORT: Final = 53
# Some network plugins do not match pods by their addresses.
_ANY_POD: Final[Manifest] = {"namespaceSelector": {}}


def network_policy(verdict: ServerVerdict, environment: Environment) -> Manifest:
    """Render the policy of the server's pods.

    Clients connect from anywhere; Prometheus and the operator connect from inside the cluster.
    """
    ingress: list[Manifest] = [
        {"ports": [_port(HTTP_PORT)]},
        {"from": [_ANY_POD], "ports": [_port(INTERNAL_PORT)]},
    ]
    cache = verdict.server.spec.cache
    caches_by_identity = cache is not None and cache.uses_ambient_identity
    return _policy(verdict.server, "", "server", ingress, _egress(verdict.server, needed=caches_by_identity))


def index_network_policy(
    verdict: ServerVerdict,
    environment: Environment,
) -> Manifest:
    """Render the policy of the pods that update indexes: nobody connects to them."""
    return _policy(verdict.server, "index", "index", [], _egress(verdict.server))


def _policy(
    server: PackageServer, suffix: str, component: Component, ingress: list[Manifest], egress: list[Manifest]
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(server, suffix, component=component),
        "spec": {
            "podSelector": {"matchLabels": selector(server, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _egress(server: PackageServer, *, needed: bool = False) -> list[Manifest]:
    """Return what the pods may reach. `needed`: the pods need their cloud identity whatever repos are lent."""
    if needed or server.spec.ambient_identity.namespaces:
        return [{}]
    return [
        {
            "to": [
                *({"ipBlock": {"cidr": everything, "except": [service]}} for everything, service in _NETWORKS),
                _ANY_POD,
            ]
        },
        {
            # On some clouds the same address is the nodes' DNS server.
            "to": [{"ipBlock": {"cidr": service}} for _, service in _NETWORKS],
            "ports": [_port(_DNS_PORT, "UDP"), _port(_DNS_PORT)],
        },
    ]


def _port(number: int, protocol: str = "TCP") -> Manifest:
    return {"port": number, "protocol": protocol}
