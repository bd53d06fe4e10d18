"""The chart's rendered output, compared with golden files. PYWHARF_UPDATE_GOLDEN=1 rewrites them: read the diff."""

import re
import shutil
import subprocess
import textwrap

import pytest
import yaml

import pywharf
from pywharf_operator.process.options import LEASE_NAME
from support.cluster import build as cluster_build
from support.cluster.cluster import CRDS, manifests
from support.operator.chart import (
    CHART,
    KUBERNETES,
    PACKAGED,
    SCHEMA,
    HelmError,
    held,
    helm,
    objects,
    program,
    rendered,
    schema,
    text_of,
    values,
)
from support.operator.operating import CLUSTER_RULES, LEASE_RULES, RULES
from support.parts import CHECKOUT

HERE = CHECKOUT / "tests" / "golden" / "chart"
CASES = sorted(path.name.removesuffix(".values.yaml") for path in HERE.glob("*.values.yaml"))
NOTES = sorted(f"notes/{path.name.removesuffix('.values.yaml')}" for path in HERE.glob("notes/*.values.yaml"))
MADE_UP = re.compile(r'^(  (?:read|write): )"?[A-Za-z0-9+/=]{32}"?$', re.MULTILINE)


def given(case):
    return yaml.safe_load((HERE / f"{case}.values.yaml").read_text())


@pytest.mark.parametrize("case", CASES)
def test_rendered(case, tmp_path):
    text = MADE_UP.sub(r"\1made-up", rendered(tmp_path, given(case), "--skip-tests"))
    held(HERE / f"{case}.yaml", text)
    assert len(objects(tmp_path, given(case))) >= len(manifests(text))


def test_the_test_pod(tmp_path):
    template = "templates/tests/test.yaml"
    text = MADE_UP.sub(r"\1made-up", rendered(tmp_path, given("everything"), f"--show-only={template}"))
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    script = textwrap.indent((CHART / "files" / "test.py").read_text(), " " * 10)
    assert script in text
    held(HERE / "test-pod.yaml", text.replace(script, "          SCRIPT\n"))


@pytest.mark.parametrize(("server", "pods"), [(None, 0), ({"storage": None}, 0), ({"replicas": 1}, 1)])
def test_where_no_repo_can_be_tried_there_is_no_test(server, pods, tmp_path):
    assert [item["kind"] for item in objects(tmp_path, {"server": server}).values()].count("Pod") == pods


@pytest.mark.parametrize("case", [*CASES, *NOTES])
def test_notes(case, tmp_path):
    options = ("--dry-run=client", "--namespace=packages")
    text = helm("install", "pywharf", str(CHART), *options, folder=tmp_path, values=given(case))
    held(HERE / f"{case}.notes.txt", text.partition("NOTES:\n")[2])


@pytest.mark.parametrize("namespace", ["123", "packages"])
def test_names_of_digits_stay_texts(namespace, tmp_path):
    """Helm and the API server accept such names, but YAML would read them as numbers."""
    values = given("everything") | {"repos": {"2024": {"spec": {"backend": {"fileSystem": {}}}, "createSecret": True}}}
    values |= {"extraObjects": [], "priorityClassName": "100", "serviceAccount": {"create": True, "name": "7"}}
    options = (f"--namespace={namespace}", f"--kube-version={KUBERNETES}")

    def texts(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, dict | list):
                yield from texts(value)
            elif key in {"name", "namespace", "app.kubernetes.io/instance", "serviceAccountName", "priorityClassName"}:
                yield value

    found = [
        value
        for item in manifests(helm("template", "123", str(CHART), *options, folder=tmp_path, values=values))
        for value in texts(item)
    ]
    assert {"123", "2024", "7", "100"} <= {value for value in found if isinstance(value, str)}
    assert [value for value in found if not isinstance(value, str)] == []


def test_as_a_part_of_another_chart(tmp_path):
    """The condition `enabled` controls it, because a parent's values cannot say `server: null`."""
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    shutil.copytree(CHART, parent / "charts" / "pywharf")
    dependency = {"name": "pywharf", "version": ">=0.1.0", "condition": "pywharf.enabled"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))

    def kinds(**part):
        return [item["kind"] for item in objects(tmp_path, {"pywharf": part}, chart=parent).values()]

    assert "PackageServer" in kinds(enabled=True)
    assert "Deployment" in kinds(enabled=True, createServer=False)
    assert "PackageServer" not in kinds(createServer=False)
    assert kinds(enabled=False) == []


def test_no_labels_annotations_or_repos(tmp_path):
    none = {"labels": None, "annotations": None, "repos": None, "serviceAccount": {"annotations": None}}
    without, default = (objects(tmp_path, values, "--skip-tests") for values in (none, {}))
    assert without == default


def test_lint(tmp_path):
    for case in CASES:
        helm("lint", "--strict", str(CHART), folder=tmp_path, values=given(case))


def test_the_crds_are_copies():
    """`python -m pywharf_operator.codegen.crds deploy/helm/pywharf/crds` writes the copies."""
    copies = {path.name: path.read_text() for path in (CHART / "crds").iterdir()}
    assert copies == {path.name: path.read_text() for path in CRDS.iterdir()}


def test_crds_may_be_left_out(tmp_path):
    def names(*options):
        return {item["metadata"]["name"] for item in manifests(rendered(tmp_path, {}, *options))}

    crds = {"packagepolicies.pywharf.dev", "packagerepos.pywharf.dev", "packageservers.pywharf.dev"}
    assert names("--include-crds") - names() == crds
    assert names("--skip-crds") == names()


def test_versions():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == pywharf.__version__


def test_the_schema_has_the_resources_fields():
    held(SCHEMA, text_of(schema()))


def test_the_schema_knows_every_value():
    def same(node, found, path):
        known = node.get("properties", {})
        assert not set(found) - set(known), path
        assert not known or node["additionalProperties"] is False, path
        for name, value in found.items():
            if isinstance(value, dict) and "properties" in known.get(name, {}):
                same(known[name], value, f"{path}.{name}")

    same(schema(), values(), "values")
    assert set(schema()["properties"]) - set(values()) == {"global", "enabled"}


def test_the_readme_is_made_by_helm_docs(tmp_path):
    copy = tmp_path / "chart"
    shutil.copytree(CHART, copy)
    command = program(cluster_build.HELM_DOCS, "helm-docs")
    done = subprocess.run(
        [command, f"--chart-search-root={copy}", "--sort-values-order=file", "--log-level=error"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    held(CHART / "README.md", (copy / "README.md").read_text())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"server": {"stores": {}}}, "at '/server': additional properties 'stores' not allowed"),
        ({"server": {"replicas": "two"}}, "at '/server/replicas': got string, want integer"),
        ({"server": {"allowedNamespaces": {"from": "Some"}}}, "at '/server/allowedNamespaces/from': value must be one"),
        ({"image": {"digest": "sha256:1"}}, "at '/image/digest': 'sha256:1' does not match"),
        ({"repos": {"a": {"createSecret": True}}}, "at '/repos/a': missing property 'spec'"),
        ({"repos": {"a": {"spec": {}}}}, "at '/repos/a/spec': missing property 'backend'"),
        ({"repos": {"A": {"spec": {"backend": {}}}}}, "at '/repos': additional properties 'A' not allowed"),
        ({"watch": {"namespaces": "a"}}, "at '/watch/namespaces': got string, want array"),
        ({"watch": {"namespaces": ["a"]}}, "watch.namespaces must hold the release's own, packages,"),
        ({"watch": {"namespaces": ["a"], "allNamespaces": True}}, "namespaces and allNamespaces exclude each other"),
        *(
            ({name: None}, f"missing property '{name}'")
            for name in ("image", "watch", "rbac", "serviceAccount", "networkPolicy", "serviceMonitor")
        ),
        ({"networkPolicy": {"apiServerPorts": None}}, "at '/networkPolicy': missing property 'apiServerPorts'"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name must name one that exists"),
        ({"serviceAccount": {"name": "pywharf"}}, "serviceAccount.name: pywharf is the account of the server"),
        (
            {"server": {"allowedNamespaces": {"from": "Selector", "selector": {}}}},
            "server.allowedNamespaces.from: Selector needs watch.allNamespaces: true",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_wrong_values_are_refused(wrong, said, tmp_path):
    with pytest.raises(HelmError) as refused:
        rendered(tmp_path, wrong)
    assert said in refused.value.stderr


def test_the_rules_are_those_that_the_operator_is_tested_with(tmp_path):
    """tests/operator run the operator with exactly these rules."""
    name, cluster_name = "pywharf-operator", "packages-pywharf-operator"
    default = objects(tmp_path, {})
    assert default["Role", "packages", name]["rules"] == RULES
    assert default["Role", "packages", f"{name}-lease"]["rules"] == LEASE_RULES
    several = objects(tmp_path, given("namespaces"))
    for namespace in ("ml", "web"):
        assert several["Role", namespace, cluster_name]["rules"] == RULES
    everywhere = objects(tmp_path, given("all-namespaces"))
    assert everywhere["ClusterRole", "", cluster_name]["rules"] == [*RULES, *CLUSTER_RULES]
    assert LEASE_RULES[1]["resourceNames"] == [LEASE_NAME]
    other = helm("template", "other", str(CHART), "--namespace=packages", folder=tmp_path)
    assert "--lease_name=other-pywharf-operator" in other
    assert f"resourceNames: [{LEASE_NAME}]" not in other


def test_who_may_edit_may_not_create_pods(tmp_path):
    found = [item for item in objects(tmp_path, {}).values() if item["kind"] == "ClusterRole"]
    for role in found:
        labels = role["metadata"]["labels"]
        writes = set(role["rules"][0]["verbs"]) - {"get", "list", "watch"}
        assert bool(writes) != ("rbac.authorization.k8s.io/aggregate-to-view" in labels)
        assert not writes or role["rules"][0]["resources"] in (["packagerepos"], ["packagepolicies"])
        assert not writes or ("rbac.authorization.k8s.io/aggregate-to-edit" in labels) == (
            role["rules"][0]["resources"] == ["packagerepos"]
        ), "who publishes does not decide what may be installed"
    assert len(found) == 3


LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")


@pytest.mark.parametrize("case", CASES)
def test_what_can_never_change_is_as_it_was_in_the_first_version(case, tmp_path):
    """Names, selectors and role bindings. New objects may be added, but none of the old ones may disappear."""
    values = given(case)
    if values.get("server"):
        for later in ("identity", "cache"):  # the first version had neither
            values["server"].pop(later, None)
    before = objects(tmp_path, values, chart=PACKAGED)
    now = objects(tmp_path, given(case))
    assert before.keys() <= now.keys()
    for key, item in before.items():
        assert now[key].get("roleRef") == item.get("roleRef")
        spec, new = item.get("spec", {}), now[key].get("spec", {})
        assert new.get("selector") == spec.get("selector")
    spec = now["Deployment", "packages", "pywharf-operator"]["spec"]
    labels = dict(zip(LABELS, ("pywharf", "pywharf", "operator"), strict=True))
    assert spec["selector"]["matchLabels"] == labels
    assert labels.items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("release", ["a" * 53, "pywharf", "pkg-" + "pywharf" * 7, "a.b"])
def test_names_fit(release, tmp_path):
    text = helm("template", release, str(CHART), folder=tmp_path, values=given("everything"))
    for item in manifests(text):
        assert len(item["metadata"]["name"]) <= (253 if item["kind"].startswith(("Cluster", "Role")) else 63)
        assert item["kind"] != "Service" or "." not in item["metadata"]["name"]
        assert item["kind"] == "PackageServer" or item["metadata"]["name"] != "pywharf"


# The same exceptions as for the servers: docs/decisions/0009-resources-and-images.md.
ARGUED = ("--ignore-container-cpu-limit", "--ignore-test=container-image-pull-policy")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_critical(case, tmp_path):
    command = (str(program(cluster_build.LINT, "kube-score")), "score", "--output-format=ci")
    version = ".".join(cluster_build.KUBERNETES.split(".")[:2])
    chosen = ("--ignore-test=pod-networkpolicy",) if case == "operator-only" else ()
    done = subprocess.run(
        [*command, f"--kubernetes-version={version}", *ARGUED, *chosen, "-"],
        input=rendered(tmp_path, given(case)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[CRITICAL]")] == []
