"""Removal of parts of a pod template by path, and paths that match nothing."""

import copy
from typing import Any

import msgspec
import pytest

from pywharf_operator.render.pod.removals import without
from pywharf_operator.render.pod.strategic_merge import InvalidPodTemplateError
from pywharf_operator.spec import PackageServerSpec

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "securityContext": {"runAsUser": 1, "fsGroup": 2},
        "nodeSelector": {"example.com/disk": "ssd"},
        "tolerations": [{"key": "a"}],
        "containers": [
            {
                "name": "server",
                "args": ["server", "--access_log=json"],
                "resources": {"limits": {"cpu": "1", "ephemeral-storage": "1Gi"}},
                "ports": [
                    {"containerPort": 53, "protocol": "UDP"},
                    {"containerPort": 53, "protocol": "TCP"},
                    {"containerPort": 80},
                ],
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"mountPath": "/tmp", "name": "tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}],
    },
}


def server(template):
    return template["spec"]["containers"][0]


REMOVED = {
    "spec.securityContext.runAsUser": lambda t: t["spec"]["securityContext"].pop("runAsUser"),
    "spec.securityContext": lambda t: t["spec"].pop("securityContext"),
    "spec[securityContext][fsGroup]": lambda t: t["spec"]["securityContext"].pop("fsGroup"),
    "spec.nodeSelector[example.com/disk]": lambda t: t["spec"]["nodeSelector"].clear(),
    "spec.tolerations": lambda t: t["spec"].pop("tolerations"),
    "spec.containers[server].resources.limits.cpu": lambda t: server(t)["resources"]["limits"].pop("cpu"),
    "spec.containers[server].resources.limits[ephemeral-storage]": lambda t: server(t)["resources"]["limits"].pop(
        "ephemeral-storage"
    ),
    "spec.containers[server].args[--access_log=json]": lambda t: server(t)["args"].pop(),
    "spec.containers[server].ports[53/UDP]": lambda t: server(t)["ports"].pop(0),
    "spec.containers[server].ports[53]": lambda t: server(t)["ports"].pop(1),
    "spec.containers[server].ports[80]": lambda t: server(t)["ports"].pop(2),
    "spec.containers[server].env[A]": lambda t: server(t)["env"].clear(),
    "spec.containers[server].env[A].value": lambda t: server(t)["env"][0].pop("value"),
    "spec.containers[server].volumeMounts[/tmp]": lambda t: server(t)["volumeMounts"].clear(),
    "spec.volumes[tmp]": lambda t: t["spec"]["volumes"].pop(0),
    "spec.volumes[data].emptyDir": lambda t: t["spec"]["volumes"][1].pop("emptyDir"),
}


@pytest.mark.parametrize("path", REMOVED)
def test_removed(path):
    before, expected = copy.deepcopy(TEMPLATE), copy.deepcopy(TEMPLATE)
    REMOVED[path](expected)
    made = without(TEMPLATE, [path])
    assert made == expected
    assert list(made["spec"]) == [field for field in TEMPLATE["spec"] if field in expected["spec"]]
    assert before == TEMPLATE
    assert msgspec.convert({"podTemplateRemovals": [path]}, PackageServerSpec).pod_template_removals == (path,)


NOWHERE = {
    "spec.startupProbe": "there is no 'startupProbe' among securityContext, nodeSelector",
    "spec.containers[index].args": "no item is named 'index'",
    "spec.containers[server].ports[53/SCTP]": "no item is named '53/SCTP'",
    "spec.containers[server].args[--debug]": "no item is named '--debug'",
    "spec.tolerations[a]": "no item is named 'a'",
    "spec.securityContext.runAsUser.x": "'x' stands below a value that is neither a map nor a list",
}


@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_that_leads_to_nothing(path):
    with pytest.raises(InvalidPodTemplateError) as caught:
        without(TEMPLATE, ["spec.volumes[tmp]", path])
    assert f"podTemplateRemovals: {path!r} leads to nothing in the pod template, because" in str(caught.value)
    assert NOWHERE[path] in str(caught.value)
    assert "correct the path, or remove it." in str(caught.value)
    assert without(TEMPLATE, [path], missing_ok=True) == TEMPLATE


@pytest.mark.parametrize(
    "path", ["", "spec", "metadata.labels.a", "spec..a", "spec.a[]", "spec.a[b]c", "spec.a]", "/spec/a"]
)
def test_what_is_no_path(path):
    with pytest.raises(
        msgspec.ValidationError, match=r"podTemplateRemovals.*it must be a path in a pod template's spec"
    ):
        msgspec.convert({"podTemplateRemovals": [path]}, PackageServerSpec)
