"""A user of kubectl, helm or Flux may empty a map of a manifest, and another tool may take the manifest over.

Server-side apply turned an emptied map into null, which the API server then always refused (kubernetes#135841).
Every map of the specs is tested, so a new field is tested, too.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster.cluster import Cluster
from support.cluster.kube_client import JSON_PATCH, Json, KubeClient
from support.cluster.resources import path
from support.operator.chart import helm
from support.operator.maps import PLURALS, MapCase, manifest_of, map_cases, meaning

CASES = map_cases()
SERVER_SIDE = ("apply", "--server-side")
CLIENT_SIDE = ("apply",)
ANOTHER = ("--field-manager=another",)
FORCED = ("--field-manager=forcing", "--force-conflicts")
FLUX = "kustomize-controller"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def filled(namespace: str) -> str:
    return _list(namespace, [manifest_of(case, case.filled) for case in CASES])


def emptied(namespace: str) -> str:
    return _list(namespace, [manifest_of(case, case.emptied) for case in CASES])


def _list(namespace: str, items: list[Json]) -> str:
    for item in items:
        item["metadata"]["namespace"] = namespace
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def where(case: MapCase, namespace: str) -> str:
    return path(PLURALS[case.kind], namespace, case.name)


def live(kube: KubeClient, case: MapCase, namespace: str) -> Json:
    found = kube.get(where(case, namespace))
    assert found is not None, case.path
    return found


def assert_empty(kube: KubeClient, namespace: str) -> None:
    """Check that each object means exactly what its manifest says."""
    for case in CASES:
        spec = live(kube, case, namespace)["spec"]
        assert meaning(case.kind, spec) == meaning(case.kind, case.emptied), (case.path, spec)
        assert None not in _values(spec), (case.path, spec)


def _values(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(deeper for one in inner for deeper in _values(one))]


def versions(kube: KubeClient, namespace: str) -> dict[str, str]:
    return {case.path: live(kube, case, namespace)["metadata"]["resourceVersion"] for case in CASES}


def test_every_map_is_tried():
    paths = {case.path for case in CASES}
    assert {"backend.fileSystem", "serviceMonitor", "resources", "ingress.annotations", "podTemplate", ""} <= paths


@pytest.mark.timeout(300)
def test_from_client_side_to_server_side(cluster: Cluster, kube, namespace):
    """kubectl owns the fields that it applied client-side, including the defaults that were filled in."""
    cluster.kubectl(*CLIENT_SIDE, "-f", "-", input=emptied(namespace))
    for _ in range(3):
        cluster.kubectl(*SERVER_SIDE, "-f", "-", input=emptied(namespace))
    assert_empty(kube, namespace)
    before = versions(kube, namespace)
    cluster.kubectl(*SERVER_SIDE, "-f", "-", input=emptied(namespace))
    assert versions(kube, namespace) == before
    cluster.kubectl(*SERVER_SIDE, *ANOTHER, "-f", "-", input=emptied(namespace))
    cluster.kubectl(*SERVER_SIDE, *FORCED, "-f", "-", input=emptied(namespace))
    cluster.kubectl(*SERVER_SIDE, "-f", "-", input=emptied(namespace))
    assert_empty(kube, namespace)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [CLIENT_SIDE, SERVER_SIDE], ids=["client-side", "server-side"])
def test_from_filled_to_empty(cluster: Cluster, kube, namespace, first):
    cluster.kubectl(*first, "-f", "-", input=filled(namespace))
    for _ in range(3):
        cluster.kubectl(*SERVER_SIDE, "-f", "-", input=emptied(namespace))
    assert_empty(kube, namespace)
    # Another manager fills the maps again by force, and then both managers empty them.
    cluster.kubectl(*SERVER_SIDE, *FORCED, "-f", "-", input=filled(namespace))
    for _ in range(2):
        cluster.kubectl(*SERVER_SIDE, *FORCED, "-f", "-", input=emptied(namespace))
        cluster.kubectl(*SERVER_SIDE, "--force-conflicts", "-f", "-", input=emptied(namespace))
    assert_empty(kube, namespace)
    # kubectl takes the object back from server-side apply.
    cluster.kubectl(*CLIENT_SIDE, "-f", "-", input=filled(namespace))
    cluster.kubectl(*CLIENT_SIDE, "-f", "-", input=emptied(namespace))
    cluster.kubectl(*SERVER_SIDE, "-f", "-", input=emptied(namespace))
    assert_empty(kube, namespace)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [CLIENT_SIDE, SERVER_SIDE], ids=["client-side", "server-side"])
def test_from_filled_to_left_out(cluster: Cluster, kube, namespace, first):
    cases = [case for case in CASES if case.left_out is not None]
    assert len(cases) > len(CASES) / 2
    text = _list(namespace, [manifest_of(case, case.left_out or {}) for case in cases])
    for before in (filled(namespace), emptied(namespace)):
        cluster.kubectl(*first, "-f", "-", input=before)
        for _ in range(3):
            cluster.kubectl(*SERVER_SIDE, "-f", "-", input=text)
        for case in cases:
            spec = live(kube, case, namespace)["spec"]
            assert meaning(case.kind, spec) == meaning(case.kind, case.left_out), (case.path, spec)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("before", [filled, emptied])
def test_flux_takes_over(cluster: Cluster, kube, namespace, before):
    """Flux takes over as kustomize-controller does: it moves kubectl's fields to itself, then applies with force."""
    cluster.kubectl(*CLIENT_SIDE, "-f", "-", input=before(namespace))
    for case in CASES:
        found = live(kube, case, namespace)
        (entry,) = found["metadata"]["managedFields"]
        del entry["fieldsV1"]["f:metadata"]
        mine = entry | {"manager": FLUX, "operation": "Apply"}
        change = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": [mine]},
            {"op": "remove", "path": f"/metadata/annotations/{LAST_APPLIED.replace('/', '~1')}"},
        ]
        kube.patch(where(case, namespace), change, JSON_PATCH, manager=FLUX)
    for _ in range(3):
        for case in CASES:
            kube.apply(where(case, namespace), manifest_of(case, case.emptied), FLUX, force=True)
    assert_empty(kube, namespace)
    managers = {
        entry["manager"] for case in CASES for entry in live(kube, case, namespace)["metadata"]["managedFields"]
    }
    assert managers == {FLUX}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["--server-side=false", "--server-side=true"], ids=["client-side", "server-side"])
def test_helm_upgrades_on_the_servers_side(cluster: Cluster, kube, namespace, tmp_path, how):
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: maps\nversion: 1.0.0\n")

    def helm_does(verb: str, text: str, *flags: str) -> None:
        _write(chart / "templates" / "objects.yaml", text)
        helm(
            verb, "maps", str(chart), f"--namespace={namespace}", *flags, folder=tmp_path, kubeconfig=cluster.kubeconfig
        )

    helm_does("install", filled(namespace), how)
    helm_does("upgrade", filled(namespace), how)
    for _ in range(3):
        helm_does("upgrade", emptied(namespace), "--server-side=true", "--force-conflicts")
    assert_empty(kube, namespace)
    helm_does("upgrade", emptied(namespace), "--server-side=true")
    cluster.kubectl(*SERVER_SIDE, "--field-manager=helm", "-f", "-", input=emptied(namespace))
    assert_empty(kube, namespace)


def _write(file: Path, text: str) -> None:
    file.write_text(yaml.safe_dump_all(json.loads(text)["items"]))
