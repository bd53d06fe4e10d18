"""Strategic merge: lists by their keys, null and $patch. A patch that does not fit is reported and never crashes."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf_operator.render.pod.strategic_merge import InvalidPodTemplateError, merged_pod_template

BASE: dict[str, dict[str, Any]] = {
    "metadata": {"labels": {"a": "1", "b": "2"}},
    "spec": {
        "priority": 1,
        "securityContext": {"runAsUser": 1, "sysctls": [{"name": "s", "value": "1"}]},
        "containers": [
            {
                "name": "server",
                "args": ["x", "y"],
                "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}],
                "volumeMounts": [{"mountPath": "/a", "name": "data"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"key": "a"}],
        "topologySpreadConstraints": [
            {"topologyKey": "host", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
            {"topologyKey": "zone", "maxSkew": 1},
        ],
    },
}
SERVER = BASE["spec"]["containers"][0]


def merged(spec):
    return merged_pod_template(BASE, {"spec": spec})["spec"]


def with_container(**fields):
    return {"containers": [{"name": "server", **fields}]}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a field": ({"priority": 2}, {"priority": 2}),
    "a new field": ({"hostname": "h"}, {"hostname": "h"}),
    "a new map, nulls and all": ({"affinity": {"a": None, "b": {"c": None}}}, {"affinity": {"b": {}}}),
    "null removes": ({"priority": None}, {"priority": ...}),
    "null where there is nothing": ({"hostname": None}, {}),
    "a map": (
        {"securityContext": {"runAsUser": 2}},
        {"securityContext": {"runAsUser": 2, "sysctls": [{"name": "s", "value": "1"}]}},
    ),
    "a map is replaced": ({"securityContext": {"$patch": "replace", "a": 1}}, {"securityContext": {"a": 1}}),
    "a map is deleted": ({"securityContext": {"$patch": "delete"}}, {"securityContext": ...}),
    "a list without a key": ({"tolerations": [{"key": "b", "x": None}]}, {"tolerations": [{"key": "b"}]}),
    "a list in a map": ({"securityContext": {"sysctls": []}}, {"securityContext": {"runAsUser": 1, "sysctls": []}}),
    "an empty keyed list": ({"volumes": []}, {}),
    "a new keyed list": (
        {"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {"name": "b"}]},
        {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]},
    ),
    "host aliases": (
        {"hostAliases": [{"ip": "127.0.0.2", "hostnames": ["h"]}]},
        {"hostAliases": [{"ip": "127.0.0.2", "hostnames": ["h"]}]},
    ),
    "a sidecar": ({"containers": [{"name": "x", "env": []}]}, {"containers": [SERVER, {"name": "x", "env": []}]}),
    "a container's field": (with_container(args=["z"]), {"containers": [{**SERVER, "args": ["z"]}]}),
    "a variable": (
        with_container(env=[{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]),
        {"containers": [{**SERVER, "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]}]},
    ),
    "a variable is deleted": (
        with_container(env=[{"name": "A", "$patch": "delete"}]),
        {"containers": [{**SERVER, "env": []}]},
    ),
    "a port, its protocol meant": (
        with_container(ports=[{"containerPort": 80, "name": "web"}]),
        {"containers": [{**SERVER, "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]}]},
    ),
    "the same port of another protocol": (
        with_container(ports=[{"containerPort": 80, "protocol": "UDP"}]),
        {"containers": [{**SERVER, "ports": [*SERVER["ports"], {"containerPort": 80, "protocol": "UDP"}]}]},
    ),
    "a mount": (
        with_container(volumeMounts=[{"mountPath": "/a", "readOnly": True}]),
        {"containers": [{**SERVER, "volumeMounts": [{"mountPath": "/a", "name": "data", "readOnly": True}]}]},
    ),
    "a volume's source is one": (
        {"volumes": [{"name": "data", "emptyDir": {}}]},
        {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]},
    ),
    "a volume's own source": (
        {"volumes": [{"name": "data", "persistentVolumeClaim": {"readOnly": True}}]},
        {
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
                {"name": "tmp", "emptyDir": {}},
            ]
        },
    ),
    "a keyed list is replaced": (
        {"volumes": [{"$patch": "replace"}, {"name": "v", "emptyDir": {}}]},
        {"volumes": [{"name": "v", "emptyDir": {}}]},
    ),
    "spreading by its key": (
        {"topologySpreadConstraints": [{"topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule"}]},
        {
            "topologySpreadConstraints": [
                {"topologyKey": "host", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
                {"topologyKey": "zone", "maxSkew": 1},
            ]
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_merged(name):
    patch, changed = CASES[name]
    before = copy.deepcopy((BASE, patch))
    expected = {field: value for field, value in {**BASE["spec"], **changed}.items() if value is not ...}
    assert merged(patch) == expected
    assert (BASE, patch) == before


def test_metadata_is_merged_too():
    made = merged_pod_template(BASE, {"metadata": {"labels": {"a": None, "c": "3"}, "annotations": {"x": "y"}}})
    assert made["metadata"] == {"labels": {"b": "2", "c": "3"}, "annotations": {"x": "y"}}
    assert made["spec"] == BASE["spec"]


def test_an_empty_patch_changes_nothing():
    assert merged_pod_template(BASE, {}) == BASE


REFUSED = {
    "a list for a map": ({"securityContext": []}, "podTemplate.spec.securityContext must be a map."),
    "a text for a map": ({"securityContext": "a"}, "podTemplate.spec.securityContext must be a map."),
    "a map for a list": ({"tolerations": {}}, "podTemplate.spec.tolerations cannot be a map."),
    "a text for a list": ({"tolerations": "a"}, "podTemplate.spec.tolerations must be a list."),
    "a map for a keyed list": ({"containers": {}}, "podTemplate.spec.containers must be a list."),
    "a map for a new keyed list": ({"hostAliases": {}}, "podTemplate.spec.hostAliases must be a list."),
    "a list for a text": ({"priority": []}, "podTemplate.spec.priority cannot be a list."),
    "an item that is a text": ({"containers": ["a"]}, "podTemplate.spec.containers[0] must be a map."),
    "an item without its key": (
        {"containers": [{"image": "a"}]},
        "podTemplate.spec.containers[0].name is missing; items of this list are told apart by it.",
    ),
    "a key that is a list": (
        {"volumes": [{"name": []}]},
        "podTemplate.spec.volumes[0].name is missing; items of this list are told apart by it.",
    ),
    "a variable without a name": (
        with_container(env=[{"value": "1"}]),
        "podTemplate.spec.containers[0].env[0].name is missing; items of this list are told apart by it.",
    ),
    "another directive": (
        {"$retainKeys": ["a"]},
        "podTemplate.spec: '$retainKeys' is not known here; of the merge directives there is $patch.",
    ),
    "another $patch": (
        {"securityContext": {"$patch": "move"}},
        "podTemplate.spec.securityContext.$patch must be one of merge, replace and delete.",
    ),
    "a $patch that is a list": (
        {"securityContext": {"$patch": []}},
        "podTemplate.spec.securityContext.$patch must be one of merge, replace and delete.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    patch, sentence = REFUSED[name]
    with pytest.raises(InvalidPodTemplateError) as caught:
        merged(patch)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("levels", [150, 5_000])
@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]], ids=["maps", "lists"])
def test_too_deep(levels, wrap):
    value: Any = {}
    for _ in range(levels):
        value = wrap(value)
    with pytest.raises(InvalidPodTemplateError, match="nested deeper"):
        merged({"x": value})


FIELDS = st.sampled_from(
    ["name", "containers", "env", "ports", "volumes", "securityContext", "tolerations", "$patch", "containerPort", "x"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "server", "data", "replace", "delete"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_patch_is_merged_or_refused(patch):
    try:
        made = merged_pod_template(BASE, {"spec": patch})
    except InvalidPodTemplateError:
        return
    # No directive of the merge itself is left.
    assert "$patch" not in json.dumps(made)


@given(JSON)
def test_merging_again_changes_nothing(patch):
    try:
        once = merged_pod_template(BASE, {"spec": patch})
        twice = merged_pod_template(once, {"spec": patch})
    except InvalidPodTemplateError:
        return
    assert twice == once
