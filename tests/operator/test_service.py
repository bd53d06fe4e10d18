"""How others reach and scale a server: the Service's type and the subresource `scale`."""

import json
from typing import Any

import pytest

from support.cluster.kube_client import ApiError, Json, KubeClient
from support.cluster.resources import API, apply, get_server, path, server, wait_for_condition
from support.operator.operating import grant, operating
from support.waiting import wait_for

CORE, APPS = "/api/v1", "/apis/apps/v1"
RWX = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
LONG_S = 60.0
MEMORY = {"type": "Utilization", "averageUtilization": 50}


def service(kube: KubeClient, namespace: str) -> Json:
    return kube.get(path("services", namespace, "pywharf", CORE)) or {}


def replicas(kube: KubeClient, namespace: str) -> int | None:
    found = kube.get(path("deployments", namespace, "pywharf", APPS))
    return None if found is None else found["spec"]["replicas"]


TYPES: list[tuple[Json, Json]] = [
    ({}, {"type": "ClusterIP"}),
    (
        {
            "type": "LoadBalancer",
            "loadBalancerClass": "example.com/internal",
            "externalTrafficPolicy": "Local",
            "annotations": {"example.com/pool": "a"},
        },
        {"type": "LoadBalancer", "loadBalancerClass": "example.com/internal", "externalTrafficPolicy": "Local"},
    ),
    ({"type": "NodePort"}, {"type": "NodePort", "externalTrafficPolicy": "Cluster"}),
    ({"ipFamilyPolicy": "SingleStack"}, {"type": "ClusterIP", "ipFamilyPolicy": "SingleStack"}),
    ({"type": "LoadBalancer"}, {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}),
    ({}, {"type": "ClusterIP"}),
]
GONE = ("loadBalancerClass", "externalTrafficPolicy")


def test_types_one_after_the_other(cluster, kube, namespace, tmp_path):
    """The fields of a former type are removed, and the cluster IP stays the same."""
    addresses = set()
    with operating(tmp_path, grant(cluster, namespace), namespace):
        for given, expected in TYPES:
            apply(kube, namespace, server(service=given))

            def follows(given: Json = given, expected: Json = expected) -> bool:
                found = service(kube, namespace)
                spec, annotations = found.get("spec", {}), found.get("metadata", {}).get("annotations", {})
                gone = [field for field in GONE if field in spec and field not in expected]
                own = {key: value for key, value in annotations.items() if not key.startswith("pywharf.dev/")}
                return expected.items() <= spec.items() and not gone and own == given.get("annotations", {})

            wait_for(follows, f"the Service to follow {given}", longest_s=LONG_S)
            addresses.add(service(kube, namespace)["spec"]["clusterIP"])
    assert len(addresses) == 1


REFUSED: dict[str, Json] = {
    "loadBalancerClass needs type: LoadBalancer": {"service": {"loadBalancerClass": "a.example/a"}},
    "externalTrafficPolicy needs type: NodePort or type: LoadBalancer": {"service": {"externalTrafficPolicy": "Local"}},
    "labels: keys that begin with pywharf.dev/": {"labels": {"pywharf.dev/server": "x"}},
    "annotations: keys that begin with": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x"}},
    "and the keys app.kubernetes.io/name": {"jobs": {"labels": {"app.kubernetes.io/component": "x"}}},
    "are not yours to set": {"service": {"annotations": {"pywharf.dev/rendered": "x"}}},
    "labels: a key must be a name": {"labels": {"a b": "x"}},
    "it must be empty, or letters": {"labels": {"a": "not a label"}},
    "Too many": {"labels": {f"a{number}": "x" for number in range(65)}},
    "replicas and autoscaling exclude each other": {"replicas": 2, "autoscaling": {"maxReplicas": 3}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_the_schema_refuses(message, kube, namespace):
    with pytest.raises(ApiError) as refused:
        apply(kube, namespace, server(**REFUSED[message]))
    assert refused.value.status == 422
    assert message in refused.value.message


def scale(kube: KubeClient, namespace: str) -> Json:
    return kube.get(f"{path('packageservers', namespace, 'pywharf')}/scale") or {}


def test_kubectl_and_autoscalers_scale_it(cluster, kube, namespace, tmp_path):
    """Scaling also works if the manifest has no number: `scale` needs one, so the schema fills it in."""
    made = server()
    del made["spec"]["storage"]
    apply(kube, namespace, made)
    with operating(tmp_path, grant(cluster, namespace), namespace):
        wait_for(lambda: replicas(kube, namespace) == 1, "one replica", longest_s=LONG_S)
        wait_for(lambda: "selector" in scale(kube, namespace).get("status", {}), "the selector", longest_s=LONG_S)
        cluster.kubectl("scale", "packageserver/pywharf", "--replicas=3", f"--namespace={namespace}")
        wait_for(lambda: replicas(kube, namespace) == 3, "three replicas", longest_s=LONG_S)
        # Applying the manifest again keeps the number, because the manifest does not contain it.
        apply(kube, namespace, made)
        assert scale(kube, namespace)["spec"] == {"replicas": 3}
        assert replicas(kube, namespace) == 3
        # An autoscaler finds the pods by the selector and writes the number.
        deployment = kube.get(path("deployments", namespace, "pywharf", APPS)) or {}
        selector = scale(kube, namespace)["status"]["selector"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert dict(part.split("=") for part in selector.split(",")).items() <= labels.items()
        target: dict[str, Any] = {"spec": {"replicas": 2}}
        where = f"{path('packageservers', namespace, 'pywharf')}/scale"
        kube.request("PATCH", where, json.dumps(target).encode(), "application/merge-patch+json")
        wait_for(lambda: replicas(kube, namespace) == 2, "two replicas", longest_s=LONG_S)


def test_two_scalers_are_refused(cluster, kube, namespace):
    made = server(autoscaling={"maxReplicas": 3}, storage=RWX)
    apply(kube, namespace, made)
    with pytest.raises(AssertionError, match="replicas and autoscaling exclude each other"):
        cluster.kubectl("scale", "packageserver/pywharf", "--replicas=3", f"--namespace={namespace}")
    assert (get_server(kube, namespace) or {})["spec"]["replicas"] == 1


def test_a_horizontal_pod_autoscaler_takes_it_as_its_target(cluster, kube, namespace, tmp_path):
    """The controller reads the subresource; only metrics are missing here."""
    cluster.need_controllers()
    apply(kube, namespace, server(storage=RWX))
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "own"},
        "spec": {
            "scaleTargetRef": {"apiVersion": API.removeprefix("/apis/"), "kind": "PackageServer", "name": "pywharf"},
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}},
                }
            ],
        },
    }
    where = path("horizontalpodautoscalers", namespace, "own", "/apis/autoscaling/v2")
    with operating(tmp_path, grant(cluster, namespace), namespace):
        wait_for_condition(kube, path("packageservers", namespace, "pywharf"), "Accepted", "True")
        kube.apply(where, autoscaler)

        def able() -> str:
            conditions = (kube.get(where) or {}).get("status", {}).get("conditions", [])
            return next((one["status"] for one in conditions if one["type"] == "AbleToScale"), "")

        wait_for(lambda: able() == "True", "the autoscaler to reach its target", longest_s=120.0)
        wait_for(lambda: replicas(kube, namespace) == 2, "its fewest replicas", longest_s=LONG_S)
