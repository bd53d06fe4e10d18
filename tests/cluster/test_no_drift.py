"""An applied object that is read back equals the rendered one; a change made by somebody else is drift."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.cluster.live import other_managers
from pywharf_operator.local.folder import default_server
from pywharf_operator.reconciling.drift import differs
from pywharf_operator.render import Environment, Snapshot, resolve
from pywharf_operator.render.digest import with_hash
from pywharf_operator.render.objects.deployment import deployment
from pywharf_operator.spec.kinds import DEPLOYMENT, kind_of
from pywharf_operator.spec.names import MANAGER
from support.cluster.kube_client import JSON_PATCH, MERGE

CASES = sorted((Path(__file__).parents[1] / "golden" / "render").glob("expected-*.yaml"))


def applied(kube, namespace, path):
    """Apply each object of the file. Yields the rendered object and its path."""
    for item in yaml.safe_load_all(path.read_text()):
        kind = kind_of(item)
        if kind.optional:
            continue
        item["metadata"]["namespace"] = namespace
        desired = with_hash(item)
        where = kind.path(namespace, item["metadata"]["name"])
        kube.apply(where, desired, MANAGER, force=True)
        yield desired, where


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem.removeprefix("expected-"))
def test_what_was_applied_is_the_same_when_it_is_read_back(kube, namespace, path):
    for desired, where in applied(kube, namespace, path):
        difference = differs(desired, kube.get(where))
        assert difference.kind == "same", f"{where}: {difference.path}"


# Values that users may write in podTemplate and that the API server stores in another form, or omits.
ODD: dict[str, dict[str, Any]] = {
    "false": {
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "shareProcessNamespace": False,
        "setHostnameAsFQDN": False,
        "hostUsers": False,
        "containers": [{"name": "server", "stdin": False, "stdinOnce": False, "tty": False}],
    },
    "zeros": {
        "terminationGracePeriodSeconds": 0,
        "priority": 0,
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}],
        "containers": [
            {
                "name": "server",
                "ports": [{"containerPort": 8888, "name": "http", "hostPort": 0}],
                "livenessProbe": {
                    "initialDelaySeconds": 0,
                    "timeoutSeconds": 0,
                    "periodSeconds": 0,
                    "successThreshold": 0,
                    "failureThreshold": 0,
                },
            }
        ],
    },
    "empty texts": {
        "hostname": "",
        "subdomain": "",
        "nodeName": "",
        "priorityClassName": "",
        "schedulerName": "",
        "dnsPolicy": "",
        "restartPolicy": "",
        "containers": [
            {
                "name": "server",
                "workingDir": "",
                "imagePullPolicy": "",
                "terminationMessagePath": "",
                "env": [{"name": "A", "value": ""}],
                "ports": [{"containerPort": 8888, "name": "http", "hostIP": ""}],
            }
        ],
    },
    "empty maps and lists": {
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "dnsConfig": {},
        "hostAliases": [],
        "initContainers": [],
        "securityContext": {"sysctls": [], "seLinuxOptions": {}},
        "containers": [{"name": "server", "command": [], "lifecycle": {}, "envFrom": [], "resources": {"limits": {}}}],
    },
    "amounts": {
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "0.5Gi"}}],
        "containers": [
            {
                "name": "server",
                "resources": {
                    "requests": {"cpu": 1, "memory": "1024Mi", "ephemeral-storage": "1e6"},
                    "limits": {"cpu": "1500m", "memory": "1.5Gi", "ephemeral-storage": 1000000000},
                },
                "env": [
                    {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}}}
                ],
            }
        ],
    },
    "read-only": {
        "volumes": [{"name": "more", "persistentVolumeClaim": {"claimName": "x", "readOnly": False}}],
        "containers": [{"name": "server", "volumeMounts": [{"name": "more", "mountPath": "/m", "readOnly": False}]}],
    },
    "ports by number and by name": {
        "containers": [
            {
                "name": "server",
                "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}],
                "lifecycle": {"preStop": {"httpGet": {"path": "/", "port": "http"}}},
            }
        ],
    },
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_pod_template_is_the_same_when_it_is_read_back(kube, namespace, name):
    server = msgspec.structs.replace(
        default_server(namespace),
        spec=msgspec.structs.replace(default_server(namespace).spec, pod_template={"spec": ODD[name]}),
    )
    environment = Environment(specs={"file_system": FileSystemSpec}, image="x:1")
    made = resolve(Snapshot(servers=(server,)), environment).servers[0]
    assert made.accepted.status, made.accepted.message
    desired = with_hash(deployment(made, environment))
    where = DEPLOYMENT.path(namespace, desired["metadata"]["name"])
    kube.apply(where, desired, MANAGER, force=True)
    difference = differs(desired, kube.get(where))
    assert difference.kind == "same", difference.path


CHANGES: list[tuple[str, str, dict[str, Any] | list[dict[str, Any]], str]] = [
    ("Deployment", MERGE, {"spec": {"replicas": 7}}, "spec.replicas"),
    (
        "Deployment",
        MERGE,
        {"spec": {"template": {"spec": {"automountServiceAccountToken": None}}}},
        "spec.template.spec.automountServiceAccountToken",
    ),
    (
        "Deployment",
        JSON_PATCH,
        [
            {
                "op": "remove",
                "path": "/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation",
            }
        ],
        "spec.template.spec.containers[server].securityContext.allowPrivilegeEscalation",
    ),
    ("Service", MERGE, {"spec": {"selector": {"more": "x"}}}, "spec.selector.more"),
    ("ConfigMap", MERGE, {"data": {"config.toml": "other"}}, "data['config.toml']"),
    ("NetworkPolicy", JSON_PATCH, [{"op": "add", "path": "/spec/ingress/-", "value": {}}], "spec.ingress"),
    ("CronJob", MERGE, {"spec": {"schedule": "1 1 1 1 1"}}, "spec.schedule"),
    ("ServiceAccount", MERGE, {"automountServiceAccountToken": None}, "automountServiceAccountToken"),
    ("Secret", MERGE, {"metadata": {"labels": {"pywharf.dev/server": None}}}, "metadata.labels['pywharf.dev/server']"),
]


@pytest.mark.parametrize(
    ("kind", "form", "change", "path"), CHANGES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_foreign_change_is_found_and_reverted(kube, namespace, kind, form, change, path):
    case = next(case for case in CASES if case.stem == "expected-quickstart")
    desired, where = next(found for found in applied(kube, namespace, case) if found[0]["kind"] == kind)
    kube.request("PATCH", where, change, form, fieldManager="somebody")
    live = kube.get(where)
    difference = differs(desired, live)
    assert (difference.kind, difference.path) == ("drifted", path)
    removed = (isinstance(change, list) and change[0]["op"] == "remove") or "None" in str(change)
    if not removed:
        assert other_managers(live, difference.steps) == ["somebody"]
    kube.apply(where, desired, MANAGER, force=True)
    assert differs(desired, kube.get(where)).kind == "same"


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}}},
        {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}},
    ],
)
def test_what_somebody_added_stays(kube, namespace, change):
    case = next(case for case in CASES if case.stem == "expected-quickstart")
    desired, where = next(found for found in applied(kube, namespace, case) if found[0]["kind"] == "Deployment")
    kube.request("PATCH", where, change, MERGE, fieldManager="somebody")
    assert differs(desired, kube.get(where)).kind == "same"


# Fields that the operator does not render, and that controllers, admission or people may legitimately set.
GROWN: list[tuple[str, dict[str, Any]]] = [
    ("ServiceAccount", {"imagePullSecrets": [{"name": "x"}], "secrets": [{"name": "x"}]}),
    ("Service", {"spec": {"sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"]}}),
    ("PersistentVolumeClaim", {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}}),
    ("Deployment", {"spec": {"template": {"spec": {"priority": 7, "nodeName": "n"}}}}),
    ("CronJob", {"spec": {"jobTemplate": {"spec": {"podFailurePolicy": None, "manualSelector": False}}}}),
    ("ConfigMap", {"data": {"more": "x"}}),
    ("NetworkPolicy", {"metadata": {"annotations": {"policy.example/seen": "yes"}}}),
]


@pytest.mark.parametrize(("kind", "change"), GROWN, ids=[kind for kind, _ in GROWN])
def test_what_others_fill_in_stays(kube, namespace, kind, change):
    case = next(case for case in CASES if case.stem == "expected-quickstart")
    desired, where = next(found for found in applied(kube, namespace, case) if found[0]["kind"] == kind)
    kube.request("PATCH", where, change, MERGE, fieldManager="somebody")
    assert differs(desired, kube.get(where)).kind == "same"


def test_an_autoscalers_replicas_stay(kube, namespace):
    case = next(case for case in CASES if case.stem == "expected-autoscaling")
    desired, where = next(found for found in applied(kube, namespace, case) if found[0]["kind"] == "Deployment")
    kube.request("PATCH", where, {"spec": {"replicas": 9}}, MERGE, fieldManager="autoscaler")
    assert differs(desired, kube.get(where)).kind == "same"
