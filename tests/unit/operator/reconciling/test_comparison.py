"""What counts as a change of an object, and what the API server and others may write."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pywharf_operator.reconciling.comparison import first_difference, path_of
from support.parts import CHECKOUT

CASES = sorted((CHECKOUT / "tests" / "golden" / "render").glob("expected-*.yaml"))


def nested(path: str, value: Any) -> dict[str, Any]:
    """Nest `value` at a path of fields."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def pod(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "server", **container}]}}


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "what others add": ({"spec": {"a": 1}}, {"spec": {"a": 1, "b": 2}, "status": {}}),
    "a null": (nested("spec.a", None), nested("spec.a", 5)),
    "an empty map": (nested("spec.resources", {}), {"spec": {}}),
    "an empty list": (nested("spec.ingress", []), {"spec": {}}),
    "an empty text": (nested("spec.fsType", ""), {"spec": {}}),
    "maps that hold nothing": (nested("metadata", {"labels": {}, "x": None}), {}),
    "false, where it is left out": (pod(stdin=False, tty=False), pod()),
    "zero, where it is left out": (nested("spec.minReadySeconds", 0), {"spec": {}}),
    "an empty variable": (pod(env=[{"name": "A", "value": ""}]), pod(env=[{"name": "A"}])),
    "an empty text that stands for a default": (pod(imagePullPolicy=""), pod(imagePullPolicy="Always")),
    "a zero that stands for a default": (nested("probe.timeoutSeconds", 0), nested("probe.timeoutSeconds", 1)),
    "processor": (pod(resources={"limits": {"cpu": "1000m"}}), pod(resources={"limits": {"cpu": "1"}})),
    "processor as a number": (pod(resources={"limits": {"cpu": 2}}), pod(resources={"limits": {"cpu": "2"}})),
    "half a processor": (pod(resources={"requests": {"cpu": "0.5"}}), pod(resources={"requests": {"cpu": "500m"}})),
    "memory": (pod(resources={"limits": {"memory": "1Gi"}}), pod(resources={"limits": {"memory": "1024Mi"}})),
    "memory, decimal": (pod(resources={"limits": {"memory": "1e3"}}), pod(resources={"limits": {"memory": "1k"}})),
    "storage": (
        nested("spec.resources.requests.storage", "1.5Gi"),
        nested("spec.resources.requests.storage", "1536Mi"),
    ),
    "an empty folder's size": (nested("emptyDir.sizeLimit", "1Gi"), nested("emptyDir.sizeLimit", "1024Mi")),
    "a metric": (nested("target.averageValue", "1"), nested("target.averageValue", "1000m")),
    "a port as a text": (nested("spec.targetPort", "8888"), nested("spec.targetPort", 8888)),
    "containers in another order": (
        {"containers": [{"name": "a"}, {"name": "b"}]},
        {"containers": [{"name": "b", "image": "x"}, {"name": "c"}, {"name": "a"}]},
    ),
    "a sidecar": (pod(image="x"), {"spec": {"containers": [{"name": "proxy"}, {"name": "server", "image": "x"}]}}),
    "mounts in another order": (
        pod(volumeMounts=[{"mountPath": "/a", "name": "v"}, {"mountPath": "/b", "name": "v"}]),
        pod(volumeMounts=[{"mountPath": "/b", "name": "v"}, {"mountPath": "/a", "name": "v"}]),
    ),
    "a container's ports": (
        pod(ports=[{"containerPort": 1, "name": "a"}]),
        pod(ports=[{"containerPort": 2}, {"containerPort": 1, "name": "a", "protocol": "TCP"}]),
    ),
    "one port with two protocols": (
        pod(ports=[{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}]),
        pod(ports=[{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}]),
    ),
    "a Service's ports": (
        {"kind": "Service", "spec": {"ports": [{"port": 80, "targetPort": "http"}]}},
        {"kind": "Service", "spec": {"ports": [{"port": 81}, {"port": 80, "targetPort": "http", "nodePort": 30000}]}},
    ),
    "another owner": (
        nested("metadata.ownerReferences", [{"uid": "1"}]),
        nested("metadata.ownerReferences", [{"uid": "2"}, {"uid": "1", "controller": True}]),
    ),
    "defaults in a list that is ours": (
        nested("spec.ingress", [{"ports": [{"port": 1}]}]),
        nested("spec.ingress", [{"ports": [{"port": 1, "protocol": "TCP"}]}]),
    ),
    "a Secret's texts": (
        {"kind": "Secret", "stringData": {"a": "b"}, "data": {"c": "ZA=="}},
        {"kind": "Secret", "data": {"a": "Yg==", "c": "ZA=="}},
    ),
    "a Secret without texts": ({"kind": "Secret", "stringData": None}, {"kind": "Secret"}),
    "a selector": (nested("spec.selector", {"a": "b"}), nested("spec.selector", {"a": "b", "matchExpressions": []})),
}


@pytest.mark.parametrize("name", SAME)
def test_same(name):
    desired, live = SAME[name]
    assert first_difference(desired, live) is None


DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another value": (nested("spec.a.b", 1), nested("spec.a.b", 2), "spec.a.b"),
    "absent": (nested("spec.a.b", 1), nested("spec.a", {}), "spec.a.b"),
    "a part absent": (nested("spec.a.b", 1), {}, "spec"),
    "another type": (nested("spec.a", {"b": 1}), nested("spec.a", "x"), "spec.a"),
    "a list no more": (nested("spec.a", [1]), nested("spec.a", {"b": 1}), "spec.a"),
    "a variable that was empty": (
        pod(env=[{"name": "A", "value": ""}]),
        pod(env=[{"name": "A", "value": "x"}]),
        "spec.containers[server].env[A].value",
    ),
    "true": (nested("spec.a", True), nested("spec.a", False), "spec.a"),
    "true is not one": (nested("spec.a", True), nested("spec.a", "True"), "spec.a"),
    "a token of the cluster": (nested("automountServiceAccountToken", False), {}, "automountServiceAccountToken"),
    "a token, in a pod": (
        {"spec": {"automountServiceAccountToken": False, "x": 1}},
        {"spec": {"x": 1}},
        "spec.automountServiceAccountToken",
    ),
    "privileges": (
        pod(securityContext={"allowPrivilegeEscalation": False}),
        pod(securityContext={}),
        "spec.containers[server].securityContext.allowPrivilegeEscalation",
    ),
    "a zero that is a value": (nested("spec.replicas", 0), nested("spec.x", 1), "spec.replicas"),
    "no class of storage": ({"spec": {"storageClassName": ""}}, {"spec": {}}, "spec.storageClassName"),
    "the class of storage": (
        {"spec": {"storageClassName": ""}},
        {"spec": {"storageClassName": "fast"}},
        "spec.storageClassName",
    ),
    "an empty label": (
        nested("metadata.labels", {"a.b/c": ""}),
        nested("metadata.labels", {}),
        "metadata.labels['a.b/c']",
    ),
    "an empty file": (nested("data", {"x": ""}), {}, "data"),
    "a text that looks like an amount": (nested("data", {"x": "1000m"}), nested("data", {"x": "1"}), "data.x"),
    "an amount": (nested("limits", {"memory": "1Gi"}), nested("limits", {"memory": "1G"}), "limits.memory"),
    "no amount": (nested("limits", {"memory": "1Gi"}), nested("limits", {"memory": "much"}), "limits.memory"),
    "an amount of nonsense": (
        nested("limits", {"memory": "1.1.1"}),
        nested("limits", {"memory": "1"}),
        "limits.memory",
    ),
    "a source of a volume": (
        {"volumes": [{"name": "tmp", "emptyDir": {}}]},
        {"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}]},
        "volumes[tmp].emptyDir",
    ),
    "a container gone": (pod(), {"spec": {"containers": [{"name": "other"}]}}, "spec.containers[server]"),
    "an argument more": (pod(args=["a"]), pod(args=["a", "b"]), "spec.containers[server].args"),
    "arguments in another order": (pod(args=["a", "b"]), pod(args=["b", "a"]), "spec.containers[server].args[0]"),
    "a port opened": (
        nested("spec.ingress", [{"ports": [{"port": 1}]}]),
        nested("spec.ingress", [{"ports": [{"port": 1}, {"port": 22}]}]),
        "spec.ingress[0].ports",
    ),
    "a rule added": (nested("spec.ingress", []), nested("spec.ingress", [{}]), "spec.ingress"),
    "whom a rule admits": (
        nested("spec.ingress", [{"from": [{"namespaceSelector": {}}]}]),
        nested("spec.ingress", [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]),
        "spec.ingress[0].from[0].namespaceSelector",
    ),
    "a wider selector": (nested("spec.selector", {"a": "b"}), nested("spec.selector", {}), "spec.selector.a"),
    "a narrower selector": (
        nested("spec.selector", {"a": "b"}),
        nested("spec.selector", {"a": "b", "c": "d"}),
        "spec.selector.c",
    ),
    "a selector of everything": (
        nested("spec.podSelector", {}),
        nested("spec.podSelector", {"matchLabels": {"a": "b"}}),
        "spec.podSelector.matchLabels",
    ),
    "a Service's port": (
        {"kind": "Service", "spec": {"ports": [{"port": 80, "targetPort": "http"}]}},
        {"kind": "Service", "spec": {"ports": [{"port": 80, "targetPort": "x"}]}},
        "spec.ports[80].targetPort",
    ),
    "a Secret's text": (
        {"kind": "Secret", "stringData": {"a": "b"}},
        {"kind": "Secret", "data": {"a": "Yw=="}},
        "data.a",
    ),
    "odd items": ({"containers": ["a"]}, {"containers": ["b"]}, "containers[0]"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name):
    desired, live, path = DIFFERENT[name]
    steps = first_difference(desired, live)
    assert steps is not None
    assert path_of(steps) == path


scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "1", "1Gi", "500m"])
names = st.sampled_from(
    ["a", "limits", "data", "selector", "emptyDir", "ports", "containers", "readOnly", "name", "env"]
)
objects = st.dictionaries(
    names,
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)),
    max_size=4,
)


def with_defaults(value: Any, field: str = "") -> Any:
    """Return the value as the API server might store it: with additional fields and without nulls."""
    if isinstance(value, dict):
        added = {} if field == "selector" else {"defaulted": "x"}
        return {key: with_defaults(item, key) for key, item in value.items() if item is not None} | added
    if isinstance(value, list):
        return [with_defaults(item) for item in value]
    return value


@given(objects)
def test_defaults_are_no_difference(desired):
    assert first_difference(desired, desired) is None
    assert first_difference(desired, with_defaults(desired)) is None


@given(objects, objects)
def test_no_object_is_too_odd(desired, live):
    steps = first_difference(desired, live)
    assert steps is None or path_of(steps)


def leaves(value: Any, *steps: Any) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, *steps, key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, *steps, number)
    elif steps[-1] not in {"name", "containerPort", "mountPath", "topologyKey", "ip"}:
        yield steps


def replaced(value: Any, steps: Any, new: Any) -> Any:
    if not steps:
        return new
    made = value.copy()
    made[steps[0]] = replaced(value[steps[0]], steps[1:], new)
    return made


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem.removeprefix("expected-"))
def test_every_rendered_field_counts(path: Path):
    for item in yaml.safe_load_all(path.read_text()):
        assert first_difference(item, with_defaults_outside_selectors(item)) is None
        for steps in leaves(item):
            assert first_difference(item, replaced(item, steps, "another")) is not None, steps


def with_defaults_outside_selectors(value: Any, field: str = "") -> Any:
    whole = {"selector", "podSelector", "namespaceSelector", "labelSelector", "matchLabels", "nodeSelector"}
    if field in whole:
        return value
    if isinstance(value, dict):
        return {key: with_defaults_outside_selectors(item, key) for key, item in value.items()} | {"defaulted": 1}
    if isinstance(value, list):
        return [with_defaults_outside_selectors(item) for item in value]
    return value
