"""Service, Ingress, HTTPRoute, ServiceMonitor and NetworkPolicy: each is rendered as requested, or not at all."""

import ipaddress

import pytest

from pywharf.core.names import RepoName
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, resolve
from pywharf_operator.render.objects.http_route import http_route
from pywharf_operator.render.objects.ingress import ingress
from pywharf_operator.render.objects.network_policy import index_network_policy, network_policy
from pywharf_operator.render.objects.service import service
from pywharf_operator.render.objects.service_monitor import metrics_service, service_monitor
from pywharf_operator.render.pod.pod_template import pod_template
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.render.resolve.missing_kinds import api_missing
from pywharf_operator.render.urls import base_url, repo_url
from support.operator.manifest_text import parsed

BARE = Environment(specs={})
FULL = Environment(specs={}, apis=frozenset({"HTTPRoute", "ServiceMonitor"}))
TLS = "tls: {secretRef: {name: pair}}"


def verdict(spec=""):
    text = f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {{name: pywharf, namespace: ml, uid: u-1}}
spec: {{{spec}}}
"""
    found = parsed(text)
    assert found.problems == ()
    (made,) = resolve(snapshot_of(found), BARE).servers
    return made


@pytest.mark.parametrize(
    ("spec", "url", "port"),
    [
        ("", "http://pywharf.ml.svc", ("http", 80)),
        (TLS, "https://pywharf.ml.svc", ("https", 443)),
    ],
    ids=["plain", "tls"],
)
def test_service(spec, url, port):
    made = service(verdict(spec), BARE)
    assert (made["kind"], made["metadata"]["name"], made["spec"]["type"]) == ("Service", "pywharf", "ClusterIP")
    (only,) = made["spec"]["ports"]
    assert (only["name"], only["port"], only["targetPort"]) == (*port, "http")
    template = pod_template(verdict(spec).server, BARE)
    assert made["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert only["targetPort"] in {named["name"] for named in template["spec"]["containers"][0]["ports"]}
    assert base_url(verdict(spec).server) == url
    assert repo_url(verdict(spec).server, RepoName("team_a.b")) == f"{url}/repo/team_a.b/simple/"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("ingress: {host: a.example.com}", {"rules": "a.example.com"}),
        (f"ingress: {{host: a.example.com}}, {TLS}", {"rules": "a.example.com", "port": "https"}),
        (
            "ingress: {host: a.example.com, className: nginx, tlsSecretName: cert, annotations: {a: b}}",
            {
                "rules": "a.example.com",
                "ingressClassName": "nginx",
                "tls": [{"hosts": ["a.example.com"], "secretName": "cert"}],
                "annotations": {"a": "b"},
            },
        ),
    ],
    ids=["least", "tls", "all"],
)
def test_ingress(spec, wanted):
    made = ingress(verdict(spec), BARE)
    assert made is not None
    (rule,) = made["spec"]["rules"]
    assert rule["host"] == wanted["rules"]
    (path,) = rule["http"]["paths"]
    backend = {"service": {"name": "pywharf", "port": {"name": wanted.get("port", "http")}}}
    assert path == {"path": "/", "pathType": "Prefix", "backend": backend}
    assert made["spec"].get("ingressClassName") == wanted.get("ingressClassName")
    assert made["spec"].get("tls") == wanted.get("tls")
    assert made["metadata"].get("annotations") == wanted.get("annotations")


ROUTE = "httpRoute: {parentRefs: [{name: gate}, {name: g, namespace: infra, sectionName: web}], hostnames: [a.example]}"


def test_http_route():
    made = http_route(verdict(f"{ROUTE[:-1]}, annotations: {{a: b}}}}"), FULL)
    assert made is not None
    assert (made["apiVersion"], made["kind"]) == ("gateway.networking.k8s.io/v1", "HTTPRoute")
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert made["spec"] == {
        "parentRefs": [{"name": "gate"}, {"name": "g", "namespace": "infra", "sectionName": "web"}],
        "hostnames": ["a.example"],
        "rules": [{"backendRefs": [{"name": "pywharf", "port": 80}]}],
    }
    least = http_route(verdict(f"httpRoute: {{parentRefs: [{{name: gate}}]}}, {TLS}"), FULL)
    assert least is not None
    assert "hostnames" not in least["spec"]
    assert least["spec"]["rules"][0]["backendRefs"][0]["port"] == 443


MONITOR = "serviceMonitor: {labels: {release: prometheus, pywharf.dev/server: x}, interval: 30s}"


def test_service_monitor():
    made, beside = service_monitor(verdict(MONITOR), FULL), metrics_service(verdict(MONITOR), FULL)
    assert made is not None
    assert beside is not None
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["metadata"]["labels"]["pywharf.dev/server"] == "pywharf"
    assert made["spec"]["endpoints"] == [{"port": "internal", "path": "/metrics", "interval": "30s"}]
    chosen = made["spec"]["selector"]["matchLabels"].items()
    assert chosen <= beside["metadata"]["labels"].items()
    assert not chosen <= service(verdict(MONITOR), FULL)["metadata"]["labels"].items()
    assert beside["metadata"]["name"] == "pywharf-metrics"
    (port,) = beside["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("internal", 9090, "internal")
    least = service_monitor(verdict("serviceMonitor: {}"), FULL)
    assert least is not None
    assert least["spec"]["endpoints"] == [{"port": "internal", "path": "/metrics"}]


@pytest.mark.parametrize("make", [ingress, http_route, service_monitor, metrics_service])
def test_nothing_that_is_not_asked_for(make):
    assert make(verdict(), FULL) is None


@pytest.mark.parametrize(
    ("spec", "environment", "words"),
    [
        ("", BARE, None),
        (f"{ROUTE}, {MONITOR}", FULL, None),
        (ROUTE, BARE, "HTTPRoute, so spec.httpRoute has no effect"),
        (MONITOR, BARE, "ServiceMonitor, so spec.serviceMonitor has no effect"),
        (f"{ROUTE}, {MONITOR}", BARE, "ServiceMonitor"),
        ("ingress: {host: a.example.com}", BARE, None),
    ],
    ids=["nothing", "all there", "no route", "no monitor", "neither", "always there"],
)
def test_what_the_cluster_does_not_know(spec, environment, words):
    found = verdict(spec)
    if environment is BARE:
        assert [make(found, environment) for make in (http_route, service_monitor, metrics_service)] == [None] * 3
    missing = api_missing(found.server, environment)
    assert (missing is None) == (words is None)
    if missing is not None and words is not None:
        assert missing.status is False
        assert missing.reason in REASONS["PackageServer Ready"]
        assert words in missing.message
        assert missing.message.endswith(".")


def reachable(policy, address, port, protocol="TCP"):
    """Return whether the rules let a pod of the policy reach an address outside the cluster's pods."""
    return any(
        ("to" not in rule or any(_holds(peer, address) for peer in rule["to"]))
        and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in policy["spec"]["egress"]
    )


def _holds(peer, address):
    if "ipBlock" not in peer:
        return False
    networks = [ipaddress.ip_network(text) for text in (peer["ipBlock"]["cidr"], *peer["ipBlock"].get("except", ()))]
    inside = [ipaddress.ip_address(address) in network for network in networks]
    return inside[0] and not any(inside[1:])


LENT = "ambientIdentity: {namespaces: [ml]}"


@pytest.mark.parametrize("make", [network_policy, index_network_policy])
@pytest.mark.parametrize(
    ("spec", "address", "port", "protocol", "open_"),
    [
        ("", "93.184.216.34", 443, "TCP", True),
        ("", "10.0.0.7", 8080, "TCP", True),
        ("", "2001:db8::1", 443, "TCP", True),
        ("", "169.254.169.254", 80, "TCP", False),
        ("", "169.254.169.254", 53, "UDP", True),
        ("", "169.254.169.254", 53, "TCP", True),
        ("", "fd00:ec2::254", 80, "TCP", False),
        ("", "fd00:ec2::254", 53, "UDP", True),
        (LENT, "169.254.169.254", 80, "TCP", True),
        (LENT, "fd00:ec2::254", 80, "TCP", True),
        (LENT, "93.184.216.34", 443, "TCP", True),
    ],
)
def test_what_pods_reach(make, spec, address, port, protocol, open_):
    policy = make(verdict(spec), BARE)
    assert reachable(policy, address, port, protocol) == open_
    assert "Egress" in policy["spec"]["policyTypes"]
    peers = [peer for rule in policy["spec"]["egress"] for peer in rule.get("to", [])]
    assert spec == LENT or {"namespaceSelector": {}} in peers


def test_who_reaches_pods():
    of_server, of_jobs = network_policy(verdict(), BARE)["spec"], index_network_policy(verdict(), BARE)["spec"]
    assert of_server["ingress"] == [
        {"ports": [{"port": 8888, "protocol": "TCP"}]},
        {"from": [{"namespaceSelector": {}}], "ports": [{"port": 9090, "protocol": "TCP"}]},
    ]
    assert of_jobs["ingress"] == []
    assert "Ingress" in of_jobs["policyTypes"]
    components = [one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in (of_server, of_jobs)]
    assert components == ["server", "index"]


ALL = f"ingress: {{host: a.example.com}}, {ROUTE}, {MONITOR}"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (service, "pywharf"),
        (metrics_service, "pywharf-metrics"),
        (service_monitor, "pywharf"),
        (ingress, "pywharf"),
        (http_route, "pywharf"),
        (network_policy, "pywharf"),
        (index_network_policy, "pywharf-index"),
    ],
)
def test_metadata(make, name):
    made = make(verdict(ALL), FULL)
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (name, "ml")
    assert made["metadata"]["labels"]["pywharf.dev/server"] == "pywharf"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert made == make(verdict(ALL), FULL)
