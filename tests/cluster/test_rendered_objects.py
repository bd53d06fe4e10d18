"""Rendered objects on a real API server: every golden case, its pods, and our merge compared with its own."""

import copy
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.local.folder import default_server
from pywharf_operator.render import Environment
from pywharf_operator.render.labels import selector
from pywharf_operator.render.pod.pod_template import pod_template
from pywharf_operator.render.pod.strategic_merge import merged_pod_template
from pywharf_operator.spec.kinds import DEPLOYMENT, NAMESPACE, POD, SERVICE_ACCOUNT, kind_of
from support.cluster.kube_client import APPLY

CASES = sorted((Path(__file__).parents[1] / "golden" / "render").glob("expected-*.yaml"))
STRATEGIC = "application/strategic-merge-patch+json"
CHECKED = {"dryRun": "All", "fieldManager": "tests"}


def objects_of(path, namespace):
    """Yield the objects of the file, all moved to the namespace."""
    for item in yaml.safe_load_all(path.read_text()):
        item["metadata"]["namespace"] = namespace
        yield item


def restricted(kube, namespace):
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    kube.patch(NAMESPACE.path(name=namespace), {"metadata": {"labels": labels}})


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem.removeprefix("expected-"))
def test_the_api_server_takes_it(kube, namespace, path):
    for item in objects_of(path, namespace):
        kind = kind_of(item)
        if not kind.optional:
            where = kind.path(namespace, item["metadata"]["name"])
            made = kube.request("PATCH", where, item, APPLY, force="true", fieldValidation="Strict", **CHECKED)
            assert made["metadata"]["name"] == item["metadata"]["name"]


def pods_of(item):
    match item["kind"]:
        case "Deployment":
            return [item["spec"]["template"]]
        case "CronJob":
            return [item["spec"]["jobTemplate"]["spec"]["template"]]
    return []


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem.removeprefix("expected-"))
def test_a_restricted_namespace_takes_its_pods(kube, namespace, path):
    restricted(kube, namespace)
    for item in objects_of(path, namespace):
        if item["kind"] == "ServiceAccount":
            kube.create(SERVICE_ACCOUNT.path(namespace), item)
        for template in pods_of(item):
            # Priority classes are cluster-wide, and no test cluster has them.
            spec = {field: value for field, value in template["spec"].items() if field != "priorityClassName"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "x"}, "spec": spec}
            made = kube.request("POST", POD.path(namespace), pod, fieldValidation="Strict", **CHECKED)
            mounts = [mount["mountPath"] for box in made["spec"]["containers"] for mount in box.get("volumeMounts", ())]
            assert not [mount for mount in mounts if mount.startswith("/var/run/secrets")]


PATCHES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "metadata": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
    "fields": {"spec": {"hostname": "h", "terminationGracePeriodSeconds": 1, "securityContext": {"fsGroup": 1}}},
    "null": {"spec": {"securityContext": {"fsGroupChangePolicy": None}, "enableServiceLinks": None}},
    "null in a container": {"spec": {"containers": [{"name": "server", "startupProbe": None}]}},
    "a list without a key": {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}},
    "arguments": {"spec": {"containers": [{"name": "server", "args": ["x"]}]}},
    "a variable": {"spec": {"containers": [{"name": "server", "env": [{"name": "A", "value": "b"}]}]}},
    "a port": {"spec": {"containers": [{"name": "server", "ports": [{"containerPort": 8888, "name": "web"}]}]}},
    "a mount": {
        "spec": {
            "containers": [
                {
                    "name": "server",
                    "volumeMounts": [{"mountPath": "/tmp", "name": "tmp", "subPath": "x"}],
                }
            ]
        }
    },
    "a volume": {
        "spec": {"volumes": [{"name": "more", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}}]}
    },
    "aliases": {
        "spec": {"hostAliases": [{"ip": "127.0.0.2", "hostnames": ["h"]}], "imagePullSecrets": [{"name": "s"}]}
    },
    "a sidecar": {
        "spec": {"containers": [{"name": "other", "image": "x:1"}], "initContainers": [{"name": "i", "image": "x:1"}]}
    },
    "spreading": {
        "spec": {
            "topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}]
        }
    },
    "$patch: delete of an item": {
        "spec": {
            "volumes": [{"name": "session", "$patch": "delete"}],
            "containers": [
                {"name": "server", "volumeMounts": [{"mountPath": "/etc/pywharf-session", "$patch": "delete"}]}
            ],
        }
    },
    "$patch: replace of a list": {
        "spec": {"containers": [{"name": "server", "image": "y:1", "volumeMounts": [{"$patch": "replace"}]}]}
    },
    "$patch: replace of a map": {"spec": {"securityContext": {"$patch": "replace", "runAsUser": 5}}},
    "$patch: delete of a map": {"spec": {"securityContext": {"$patch": "delete"}}},
}


@pytest.fixture
def base(namespace):
    server = default_server(namespace)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"d-{secrets.token_hex(3)}"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": selector(server)},
            "template": pod_template(server, Environment(specs={"file_system": FileSystemSpec}, image="x:1")),
        },
    }


def by_key(template):
    """Sort the lists that are merged by a key by that key: the API server's order differs."""
    spec = template["spec"]
    for box in (*spec["containers"], *spec.get("initContainers", ())):
        for field, key in (("volumeMounts", "mountPath"), ("ports", "containerPort"), ("env", "name")):
            if field in box:
                box[field].sort(key=lambda item, key=key: item[key])
    for field in ("containers", "volumes"):
        spec[field].sort(key=lambda item: item["name"])
    return template


@pytest.mark.parametrize("name", PATCHES)
def test_podtemplate_is_merged_as_the_api_server_merges(kube, namespace, base, name):
    where = DEPLOYMENT.path(namespace)
    kube.create(where, base)
    patch = {"spec": {"template": PATCHES[name]}}
    theirs = kube.request("PATCH", f"{where}/{base['metadata']['name']}", patch, STRATEGIC, **CHECKED)
    ours = copy.deepcopy(base)
    ours["metadata"]["name"] += "-ours"
    ours["spec"]["template"] = merged_pod_template(base["spec"]["template"], PATCHES[name])
    made = kube.request("POST", where, ours, fieldValidation="Strict", **CHECKED)
    assert by_key(made["spec"]["template"]) == by_key(theirs["spec"]["template"])
