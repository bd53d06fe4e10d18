"""User-defined labels, annotations and user ids, which reach every object and pod of release, server and test."""

import json
from pathlib import Path

import pytest
import yaml

from support.cluster.cluster import manifests
from support.cluster.kube_client import Json
from support.operator.chart import HelmError, objects, rendered
from support.parts import CHECKOUT

HERE = CHECKOUT / "tests" / "golden" / "chart"
CASES = sorted(path.name.removesuffix(".values.yaml") for path in HERE.glob("*.values.yaml"))
COMMON = {"commonLabels": {"cost-center": "42", "of": "all"}, "commonAnnotations": {"example.com/owner": "a"}}
IDS = ("runAsUser", "runAsGroup", "fsGroup")
OWN = {"labels": COMMON["commonLabels"], "annotations": COMMON["commonAnnotations"]}


def given(case: str) -> Json:
    found: Json = yaml.safe_load((HERE / f"{case}.values.yaml").read_text())
    return found


def of_release(folder: Path, values: Json) -> list[Json]:
    """Render every object except those that a user writes verbatim."""
    return list(objects(folder, values | {"extraObjects": []}).values())


def parts(item: Json) -> list[Json]:
    """Return an object and its pod template, if it has one."""
    template = item.get("spec", {}).get("template")
    return [item] if template is None else [item, template]


def pods(items: list[Json]) -> list[Json]:
    return [part["spec"] for item in items for part in parts(item) if "containers" in part.get("spec", {})]


@pytest.mark.parametrize("case", CASES)
def test_every_object_and_pod_has_them(case, tmp_path):
    before, after = of_release(tmp_path, given(case)), of_release(tmp_path, given(case) | COMMON)
    assert len(before) == len(after)
    for item in after:
        for part in parts(item):
            assert OWN["labels"].items() <= part["metadata"]["labels"].items(), item["metadata"]["name"]
            assert OWN["annotations"].items() <= part["metadata"]["annotations"].items(), item["metadata"]["name"]
        if item["kind"] == "PackageServer":
            assert {field: item["spec"][field] for field in OWN} == OWN
    assert "cost-center" not in json.dumps(before)


def test_what_is_said_of_one_object_wins(tmp_path):
    one = {"podLabels": {"of": "pods"}, "server": {"labels": {"of": "server"}}}
    found = {item["kind"]: item for item in of_release(tmp_path, {**COMMON, **one, "labels": {"of": "release"}})}
    template = found["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["of"] == "pods"
    assert found["PackageServer"]["spec"]["labels"] == {"cost-center": "42", "of": "server"}
    assert {item["metadata"]["labels"]["of"] for item in found.values()} == {"release"}


@pytest.mark.parametrize("key", ["pywharf.dev/server", "app.kubernetes.io/name", "app.kubernetes.io/managed-by"])
@pytest.mark.parametrize("values", ["commonLabels", "commonAnnotations"])
def test_keys_of_ours_are_refused(key, values, tmp_path):
    with pytest.raises(HelmError, match=f"{values}: {key} is a key of pywharf's own; leave it out"):
        rendered(tmp_path, {values: {key: "x"}})


def test_the_lease_has_them(tmp_path):
    """The operator creates the Lease with metadata from its arguments, in which Kubernetes reads `$$` as `$`."""
    common = {**COMMON, "commonAnnotations": {"a": "$(HOME) 'x' \"y\""}}
    (item,) = [item for item in of_release(tmp_path, common) if item["kind"] == "Deployment"]
    (container,) = item["spec"]["template"]["spec"]["containers"]
    (flag,) = [argument for argument in container["args"] if argument.startswith("--lease_metadata=")]
    assert json.loads(flag.partition("=")[2].replace("$$", "$")) == {
        "labels": common["commonLabels"],
        "annotations": common["commonAnnotations"],
    }
    assert "$(" not in flag.replace("$$", "")


@pytest.mark.parametrize("case", CASES)
def test_no_pod_names_an_id_where_the_cluster_gives_them(case, tmp_path):
    fixed = pods(of_release(tmp_path, given(case)))
    items = of_release(tmp_path, given(case) | {"security": {"userIDs": "FromCluster"}})
    free = pods(items)
    assert len(free) == len(fixed)
    for before, after in zip(fixed, free, strict=True):
        assert {field: before["securityContext"].pop(field) for field in IDS} == dict.fromkeys(IDS, 65532)
        assert before == after
        assert after["securityContext"]["runAsNonRoot"] is True
    servers = [item["spec"] for item in items if item["kind"] == "PackageServer"]
    assert [spec["security"] for spec in servers] == [{"userIDs": "FromCluster"}] * len(servers)


def test_the_server_may_say_otherwise(tmp_path):
    values = {"security": {"userIDs": "FromCluster"}, "server": {"security": {"userIDs": "Fixed"}}}
    (server,) = [item for item in of_release(tmp_path, values) if item["kind"] == "PackageServer"]
    assert server["spec"]["security"] == {"userIDs": "Fixed"}


def test_values_of_an_older_release_have_none_of_these(tmp_path):
    """The case of `helm upgrade --reuse-values`."""
    missing = dict.fromkeys(("security", "commonLabels", "commonAnnotations", "test"))
    found = manifests(rendered(tmp_path, missing))
    assert {item["kind"] for item in found} == {item["kind"] for item in manifests(rendered(tmp_path, {}))}


@pytest.mark.parametrize("case", CASES)
def test_a_quota_can_be_met(case, tmp_path):
    """With a CPU limit, set as docs/chart.md says, every container has requests and limits of CPU and memory."""
    quota = {"resources": {"limits": {"cpu": "1"}}}
    for pod in pods(of_release(tmp_path, given(case) | quota)):
        for container in pod["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]) & set(resources["limits"])
