"""The pod template of the docs, and the removal of parts, through each tool that people use to apply manifests."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.render import Environment, Snapshot, resolve
from pywharf_operator.render.objects.deployment import deployment
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.kinds import DEPLOYMENT
from pywharf_operator.spec.names import MANAGER
from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import path
from support.operator.chart import CHART, helm
from support.parts import CHECKOUT

DOCS = (CHECKOUT / "docs" / "resources.md").read_text()
ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec}, image="x:1")
PLAIN: Json = {"replicas": 1}


def example() -> Json:
    """Return the example of docs/resources.md."""
    section = DOCS.partition("### `podTemplate`")[2]
    found: Json = yaml.safe_load(re.search(r"```yaml\n(.*?)```", section, re.DOTALL)[1])  # type: ignore[index]
    return found


SPECS: dict[str, Json] = {
    "docs": example(),
    "scalars": {
        "podTemplateRemovals": [
            "spec.containers[server].resources.limits.memory",
            "spec.securityContext.runAsGroup",
            "spec.containers[server].ports[9090]",
            "spec.containers[server].args[--access_log=json]",
        ]
    },
    "replaced": {
        "podTemplateRemovals": ["spec.securityContext", "spec.containers[server].livenessProbe"],
        "podTemplate": {"spec": {"securityContext": {"fsGroup": 7}}},
    },
}


def manifest(spec: Json) -> Json:
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageServer",
        "metadata": {"name": "pywharf"},
        "spec": spec,
    }


class Tools:
    """The tools. Each method brings a spec into the namespace, over an existing server."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace, self.folder = cluster, namespace, folder

    def client_side(self, spec: Json) -> None:
        self._apply(json.dumps(manifest(PLAIN)))
        self._apply(json.dumps(manifest(spec)))

    def server_side(self, spec: Json) -> None:
        self._apply(json.dumps(manifest(PLAIN)), "--server-side")
        for _ in range(2):
            self._apply(json.dumps(manifest(spec)), "--server-side")

    def kustomize_resource(self, spec: Json) -> None:
        self._apply(self._kustomized({"resources": ["base.json"]}, base=spec))

    def kustomize_patch(self, spec: Json) -> None:
        self._apply(self._kustomized({"resources": ["base.json"], "patches": [{"path": "patch.json"}]}, patch=spec))

    def helm(self, spec: Json) -> None:
        values = {"server": spec, "image": {"repository": "x"}}
        options = (str(CHART), f"--namespace={self.namespace}", "--show-only=templates/packageserver.yaml")
        self._apply(helm("template", "pywharf", *options, folder=self.folder, values=values))

    def _kustomized(self, kustomization: Json, base: Json = PLAIN, patch: Json = PLAIN) -> str:
        for name, item in (
            ("kustomization.yaml", kustomization),
            ("base.json", manifest(base)),
            ("patch.json", manifest(patch)),
        ):
            (self.folder / name).write_text(json.dumps(item))
        return self.cluster.kubectl("kustomize", str(self.folder))

    def _apply(self, text: str, *how: str) -> None:
        self.cluster.kubectl("apply", *how, f"--namespace={self.namespace}", "-f", "-", input=text)


TOOLS = ["client_side", "server_side", "kustomize_resource", "kustomize_patch", "helm"]


def template_of(spec: Json) -> Any:
    """Return the pod spec that the operator renders for the spec."""
    server = msgspec.convert(manifest(spec) | {"metadata": {"name": "pywharf", "namespace": "a"}}, PackageServer)
    made = resolve(Snapshot(servers=(server,)), ENVIRONMENT).servers[0]
    assert made.accepted.status, made.accepted.message
    return deployment(made, ENVIRONMENT)["spec"]["template"]["spec"]


def stored(kube: KubeClient, namespace: str) -> Json:
    found = kube.get(path("packageservers", namespace, "pywharf"))
    assert found is not None
    spec: Json = found["spec"]
    return {name: spec[name] for name in ("podTemplate", "podTemplateRemovals") if name in spec}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", SPECS)
def test_every_tool_carries_it(cluster: Cluster, kube, namespace, tmp_path, name, tool):
    spec = SPECS[name]
    getattr(Tools(cluster, namespace, tmp_path), tool)(spec)
    assert stored(kube, namespace) == spec
    assert template_of(stored(kube, namespace)) == template_of(spec)


@pytest.mark.parametrize("name", SPECS)
def test_the_api_server_takes_what_is_left(kube, namespace, name):
    server = msgspec.convert(
        manifest(SPECS[name]) | {"metadata": {"name": "pywharf", "namespace": namespace}}, PackageServer
    )
    made = resolve(Snapshot(servers=(server,)), ENVIRONMENT).servers[0]
    kube.apply(DEPLOYMENT.path(namespace, "pywharf"), deployment(made, ENVIRONMENT), MANAGER, force=True)


def test_what_the_docs_example_says():
    pod = template_of(example())
    (server,) = pod["containers"]
    assert "startupProbe" not in server
    assert "runAsUser" not in pod["securityContext"]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert server["env"] == [{"name": "SSL_CERT_FILE", "value": "/etc/ca/ca.crt"}]


def test_a_patch_directive_that_arrives_is_carried_out(cluster: Cluster, kube, namespace, tmp_path):
    """kubectl and helm pass the directive on; kustomize keeps it only in the files listed as resources."""
    spec: Json = {
        "podTemplate": {
            "spec": {
                "containers": [{"name": "server", "startupProbe": {"$patch": "delete"}}],
                "securityContext": {"runAsUser": {"$patch": "delete"}},
            }
        }
    }
    for tool in ("client_side", "server_side", "kustomize_resource", "helm"):
        getattr(Tools(cluster, namespace, tmp_path), tool)(spec)
        pod = template_of(stored(kube, namespace))
        assert "startupProbe" not in pod["containers"][0], tool
        assert "runAsUser" not in pod["securityContext"], tool
        kube.delete(path("packageservers", namespace, "pywharf"))


def test_an_emptied_map_of_the_pod_template_is_no_null(cluster: Cluster, kube, namespace, tmp_path):
    """A null there would remove the rendered value: in the worst case, the security context."""
    tools = Tools(cluster, namespace, tmp_path)
    tools.server_side({"podTemplate": {"spec": {"securityContext": {"runAsUser": 1}}}})
    tools.server_side({"podTemplate": {"spec": {"securityContext": {}}}})
    assert stored(kube, namespace) == {"podTemplate": {"spec": {"securityContext": {}}}}
    assert template_of(stored(kube, namespace)) == template_of({})
