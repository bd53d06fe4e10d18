"""A CustomResourceDefinition upgraded and rolled back: stored objects, their statuses and the operator go on."""

import copy
import re
from typing import Any

import pytest

from support import operating
from support.cluster import OwnCluster, new_namespace
from support.kube_client import ApiError, Json, KubeClient
from support.resources import (
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
from support.scale import until_quiet, writes
from support.waiting import wait_for

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLURALS = ("packagerepos", "packageservers")
NAMES = ["team-a", "team-b", "team-c"]
ADDED = "addedLater"


@pytest.fixture
def kube(own_cluster: OwnCluster) -> Any:
    client = own_cluster.client()
    yield client
    client.close()


def upgraded(definition: Json) -> Json:
    """With one more field, which has no default, and other words."""
    made = copy.deepcopy(definition)
    for version in made["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["description"] += " Newer."
        schema["properties"]["spec"]["properties"][ADDED] = {"type": "string", "description": "A newer one's."}
    return made


def install(kube: KubeClient, definition: Json, listed: str, body: Json, *, knows: bool) -> None:
    """Put the definition there, and wait until the API server goes by it."""
    where = f"{DEFINITIONS}/{definition['metadata']['name']}"
    found = kube.get(where)
    assert found is not None
    kube.replace(where, found | {"spec": definition["spec"]})
    probe = {**body, "metadata": {"name": "probe"}, "spec": {**body["spec"], ADDED: "x"}}

    def goes_by_it() -> bool:
        try:
            made = kube.request("POST", listed, probe, dryRun="All")
        except ApiError:
            return False
        return (ADDED in made["spec"]) is knows

    wait_for(goes_by_it, f"the definition {definition['metadata']['name']} ({knows=})")


def lasting(kube: KubeClient, namespace: str) -> dict[str, list[Any]]:
    """What must outlive it, by kind and name."""
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

        # Somebody uses the new field, which this operator does not know: it says so, and loses nothing.
        kube.patch(where, {"spec": {ADDED: "kept"}})
        found = wait_for_condition(kube, where, "Accepted", "False", reason="InvalidSpec")
        assert ADDED in condition(found, "Accepted")["message"]
        assert found["spec"][ADDED] == "kept"
        wait_for_config(kube, namespace, "team-b", "team-c")

        for plural in PLURALS:
            install(kube, old[plural], path(plural, namespace), kinds[plural], knows=False)
        # The field is gone with its definition, though no event tells of it: the repo is served again.
        wait_for_config(kube, namespace, *NAMES)
        # Watches survive: a repo of the old schema, a change of one that was stored under the new.
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

        # Nothing is written for a definition that comes and goes.
        written = writes(operator)
        for _ in range(2):
            for plural in PLURALS:
                install(kube, upgraded(old[plural]), path(plural, namespace), kinds[plural], knows=True)
                install(kube, old[plural], path(plural, namespace), kinds[plural], knows=False)
        until_quiet(operator)
        assert writes(operator) == written


def without_revision(config: str) -> str:
    return re.sub(r'^credentials_revision = "\w+"', "", config, flags=re.MULTILINE)
