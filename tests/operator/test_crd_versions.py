"""A CustomResourceDefinition is upgraded and rolled back: stored objects, their statuses and the operator survive."""

import copy
import json
import re
from typing import Any

import msgspec
import pytest

from pywharf_operator.codegen.schema import described
from pywharf_operator.spec import PackageRepo, PackageServer
from support.cluster.cluster import KubectlError, OwnCluster, new_namespace
from support.cluster.kube_client import ApiError, Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    config_text,
    get_server,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.operator import operating
from support.operator.maps import PLURALS as MAP_PLURALS
from support.operator.maps import manifest_of, map_cases, meaning
from support.operator.scale import until_quiet, writes
from support.waiting import wait_for

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLURALS = ("packagerepos", "packageservers")
NAMES = ["team-a", "team-b", "team-c"]
ADDED = "addedLater"
AFTER_DEFAULTS = {"identity"}


@pytest.fixture
def kube(own_cluster: OwnCluster) -> Any:
    client = own_cluster.client()
    yield client
    client.close()


def upgraded(definition: Json) -> Json:
    """Return the definition with one more field, which has no default, and another description."""
    made = copy.deepcopy(definition)
    for version in made["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["description"] += " Newer."
        schema["properties"]["spec"]["properties"][ADDED] = {"type": "string", "description": "A newer one's."}
    return made


def install(kube: KubeClient, definition: Json, listed: str, body: Json, *, knows: bool) -> None:
    """Install the definition and wait until the API server uses it."""
    replace(kube, definition)
    probe = {**body, "metadata": {"name": "probe"}, "spec": {**body["spec"], ADDED: "x"}}

    def goes_by_it() -> bool:
        try:
            made = kube.request("POST", listed, probe, dryRun="All")
        except ApiError:
            return False
        return (ADDED in made["spec"]) is knows

    wait_for(goes_by_it, f"the definition {definition['metadata']['name']} ({knows=})")


def lasting(kube: KubeClient, namespace: str) -> dict[str, list[Any]]:
    """Return what must survive an upgrade and a rollback, by kind and name."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": [
            one["metadata"]["uid"],
            {name: value for name, value in one["spec"].items() if name != ADDED},
            [[item["type"], item["status"], item["lastTransitionTime"]] for item in one["status"]["conditions"]],
        ]
        for plural in PLURALS
        for one in kube.list(path(plural, namespace))
    }


@pytest.mark.timeout(180)
def test_an_upgrade_and_a_rollback_lose_nothing(own_cluster, kube, tmp_path):
    namespace = new_namespace(kube)
    where = path("packagerepos", namespace, "team-a")
    kinds = dict(zip(PLURALS, (repo("probe"), server("probe")), strict=True))
    old = {plural: kube.get(f"{DEFINITIONS}/{plural}.pywharf.dev") for plural in PLURALS}
    kubeconfig = operating.grant(own_cluster, namespace)
    with operating.operating(tmp_path / "operator", kubeconfig, namespace) as operator:
        apply(kube, namespace, server(), *(secret_of(name) for name in NAMES), *(repo(name) for name in NAMES))
        wait_for_config(kube, namespace, *NAMES)
        for name in NAMES:
            wait_for_condition(kube, path("packagerepos", namespace, name), "Accepted", "True")
        until_quiet(operator)
        before, config, written = lasting(kube, namespace), config_text(kube, namespace), writes(operator)
        assert len(before) == len(NAMES) + 1

        for plural in PLURALS:
            install(kube, upgraded(old[plural]), path(plural, namespace), kinds[plural], knows=True)
        until_quiet(operator)
        assert lasting(kube, namespace) == before
        assert writes(operator) == written

        # Somebody uses the new field. This operator does not know it: it reports that and loses nothing.
        kube.patch(where, {"spec": {ADDED: "kept"}})
        found = wait_for_condition(kube, where, "Accepted", "False", reason="InvalidSpec")
        assert ADDED in condition(found, "Accepted")["message"]
        assert found["spec"][ADDED] == "kept"
        wait_for_config(kube, namespace, "team-b", "team-c")

        for plural in PLURALS:
            install(kube, old[plural], path(plural, namespace), kinds[plural], knows=False)
        # The field disappears with its definition, without an event. The repo is served again.
        wait_for_config(kube, namespace, *NAMES)
        # Watches survive: they report a repo of the old schema, and a change of a repo stored under the new one.
        apply(kube, namespace, secret_of("team-d"), repo("team-d"))
        wait_for_config(kube, namespace, *NAMES, "team-d")
        kube.patch(where, {"spec": {"upstream": {"mode": "Pages"}}})
        found = wait_for_condition(kube, where, "Accepted", "True")
        assert ADDED not in found["spec"]
        kube.patch(where, {"spec": {"upstream": {"mode": "None"}}})
        kube.delete(path("packagerepos", namespace, "team-d"))
        after = wait_for_config(kube, namespace, *NAMES)
        wait_for_condition(kube, where, "Accepted", "True")
        until_quiet(operator)
        assert without_revision(after) == without_revision(config)
        after_all = lasting(kube, namespace)
        changed = {name for name, value in after_all.items() if value != before.get(name)}
        assert changed <= {"PackageRepo/team-a"}, (before, after_all)
        assert after_all["PackageRepo/team-a"][:2] == before["PackageRepo/team-a"][:2]
        assert len(after_all) == len(before)
        assert get_server(kube, namespace) is not None
        assert operator.process.poll() is None

        # A definition that is upgraded and rolled back causes no writes.
        written = writes(operator)
        for _ in range(2):
            for plural in PLURALS:
                install(kube, upgraded(old[plural]), path(plural, namespace), kinds[plural], knows=True)
                install(kube, old[plural], path(plural, namespace), kinds[plural], knows=False)
        until_quiet(operator)
        assert writes(operator) == written


def without_revision(config: str) -> str:
    return re.sub(r'^credentials_revision = "\w+"', "", config, flags=re.MULTILINE)


def with_defaults(definition: Json, struct: type[msgspec.Struct]) -> Json:
    """Return the definition as in earlier releases: with every default, and without atomic maps."""
    made = copy.deepcopy(definition)
    for version in made["spec"]["versions"]:
        newer = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        spec = granular(described(struct)["properties"]["spec"])
        # No release has had defaults in what came after them.
        spec["properties"] |= {name: newer[name] for name in AFTER_DEFAULTS & newer.keys()}
        version["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec
        version["schema"]["openAPIV3Schema"]["description"] += " Older."
    return made


def granular(schema: Any) -> Any:
    if isinstance(schema, dict):
        items = {name: granular(part) for name, part in schema.items() if name != "x-kubernetes-map-type"}
        return {name: part for name, part in items.items() if (name, part) != ("default", {})}
    return schema


def replace(kube: KubeClient, definition: Json) -> None:
    where = f"{DEFINITIONS}/{definition['metadata']['name']}"
    found = kube.get(where)
    assert found is not None
    kube.replace(where, found | {"spec": definition["spec"]})


@pytest.mark.timeout(180)
def test_what_was_stored_with_defaults_filled_in_stays(own_cluster, kube):
    """Every object stays valid and means the same under the definition without defaults, and back under the old one."""
    namespace = new_namespace(kube)
    structs: dict[str, type[msgspec.Struct]] = {"packagerepos": PackageRepo, "packageservers": PackageServer}
    new = {plural: kube.get(f"{DEFINITIONS}/{plural}.pywharf.dev") for plural in PLURALS}
    old = {plural: with_defaults(new[plural], structs[plural]) for plural in PLURALS}
    cases = map_cases()

    def install_all(definitions: dict[str, Any], *, fills_in: bool) -> None:
        replace(kube, definitions["packageservers"])
        replace(kube, definitions["packagerepos"])
        probe = {**repo("probe"), "spec": {"backend": {"fileSystem": {}}}}

        def goes_by_it() -> bool:
            made = kube.request("POST", path("packagerepos", namespace), probe, dryRun="All")
            return ("maxFileBytes" in made["spec"]["backend"]["fileSystem"]) is fills_in

        wait_for(goes_by_it, f"the definitions ({fills_in=})")

    def text(field: str) -> str:
        items = [manifest_of(case, getattr(case, field)) for case in cases]
        for item in items:
            item["metadata"]["namespace"] = namespace
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    def assert_means(field: str) -> None:
        for case in cases:
            spec = kube.get(path(MAP_PLURALS[case.kind], namespace, case.name))["spec"]
            assert meaning(case.kind, spec) == meaning(case.kind, getattr(case, field)), (case.path, spec)

    install_all(old, fills_in=True)
    own_cluster.kubectl("apply", "-f", "-", input=text("emptied"))
    stored = kube.get(path("packagerepos", namespace, next(c.name for c in cases if c.path == "backend.fileSystem")))
    assert stored["spec"]["backend"]["fileSystem"]["indexFilename"] == "index.json"
    assert_means("emptied")

    install_all(new, fills_in=False)
    assert_means("emptied")
    # kubectl, client-side and server-side, and a GitOps tool can still apply them.
    own_cluster.kubectl("apply", "-f", "-", input=text("emptied"))
    assert_means("emptied")
    # The filled-in defaults differ from the manifest: kubectl needs --force-conflicts once to let the manifest win.
    with pytest.raises(KubectlError, match=r"(?m)\.spec\.backend\.fileSystem$") as refused:
        own_cluster.kubectl("apply", "--server-side", "-f", "-", input=text("emptied"))
    assert refused.value.stderr.count("Apply failed") == 1
    own_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text("emptied"))
    for _ in range(3):
        own_cluster.kubectl("apply", "--server-side", "-f", "-", input=text("emptied"))
    own_cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=flux", "-f", "-", input=text("emptied")
    )
    assert_means("emptied")

    install_all(old, fills_in=True)
    assert_means("emptied")
    own_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text("filled"))
    assert_means("filled")
    install_all(new, fills_in=False)
    assert_means("filled")
    own_cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text("emptied"))
    own_cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=flux", "-f", "-", input=text("emptied")
    )
    assert_means("emptied")
