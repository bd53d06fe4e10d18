"""Malformed objects that the schema of an outdated CustomResourceDefinition accepted: only they are affected."""

import copy
import functools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from support.cluster.cluster import OwnCluster, new_namespace
from support.cluster.kube_client import ApiError, Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    config_text,
    get_repo,
    get_server,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.operator import operating
from support.waiting import wait_for

SECRET = "written-by-mistake"
HUGE = "x" * 300_000
GOOD = ["good-a", "good-b"]
S3 = {"bucket": "packages", "secretRef": {"name": "s3", "key": "value"}}

WRONG: dict[str, tuple[Callable[[Json], object], str]] = {
    "no-spec": (lambda one: one.pop("spec"), "spec"),
    "spec-a-list": (lambda one: one.update(spec=["fileSystem"]), "spec"),
    "spec-null": (lambda one: one.update(spec=None), "spec"),
    "no-backend": (lambda one: one["spec"].pop("backend"), "backend"),
    "backend-a-list": (lambda one: one["spec"].update(backend=[{"fileSystem": {}}]), "spec.backend"),
    "two-backends": (lambda one: one["spec"]["backend"].update(s3=S3), "spec.backend"),
    "repo-name-a-number": (lambda one: one["spec"].update(repoName=7), "spec.repoName"),
    "repo-name-huge": (lambda one: one["spec"].update(repoName=HUGE), "spec.repoName"),
    "server-a-text": (lambda one: one["spec"].update(serverRef="pywharf"), "spec.serverRef"),
    "server-a-number": (lambda one: one["spec"].update(serverRef={"name": 7}), "spec.serverRef.name"),
    "secret-in-place": (lambda one: one["spec"]["credentials"].update(readSecretRef=SECRET), "spec.credentials"),
    "reserved-a-text": (lambda one: one["spec"]["upstream"].update(reserved="team-*"), "spec.upstream.reserved"),
    "mode-unknown": (lambda one: one["spec"]["upstream"].update(mode=HUGE), "spec.upstream.mode"),
}
"""By repo name: the change, and the field that its condition names."""


@pytest.fixture
def kube(own_cluster: OwnCluster) -> Any:
    """A client of a control plane whose CustomResourceDefinitions accept everything."""
    client = own_cluster.client()
    for plural in ("packagerepos", "packageservers"):
        where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.pywharf.dev"
        found = client.get(where)
        assert found is not None
        for version in found["spec"]["versions"]:
            version["schema"] = {
                "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            }
            version["subresources"].pop("scale", None)  # it requires an object on the path to the replicas
        client.replace(where, found)
        probe = {"apiVersion": "pywharf.dev/v1alpha1", "metadata": {"name": "probe"}, "spec": [{"any": "thing"}]}
        probe["kind"] = found["spec"]["names"]["kind"]
        listed = path(plural, "default")
        wait_for(functools.partial(_passes, client, listed, probe), f"a loose {plural}")
    yield client
    client.close()


def _passes(client: KubeClient, where: str, probe: Json) -> bool:
    try:
        made = client.request("POST", where, probe, dryRun="All")
    except ApiError:
        return False
    return bool(made["spec"] == probe["spec"])


def change(kube: KubeClient, where: str, how: Callable[[Json], object]) -> Json:
    """Read, change and write an object, and retry if somebody wrote in between. Returns the object as it was."""
    while True:
        found = kube.get(where)
        assert found is not None
        before = copy.deepcopy(found)
        how(found)
        try:
            kube.replace(where, found)
        except ApiError as error:
            if error.status != 409:
                raise
        else:
            return before


def table(config: str, name: str) -> str:
    found = re.search(rf"^\[{name}\]\n.*?(?=^\[|\Z)", config, re.MULTILINE | re.DOTALL)
    assert found, config
    return found[0].rstrip()


@pytest.mark.timeout(180)
def test_only_what_is_malformed_suffers(own_cluster, kube, tmp_path):
    namespace = new_namespace(kube)
    names = [*GOOD, *WRONG]
    for name in names:
        apply(kube, namespace, secret_of(name), repo(name))
    apply(kube, namespace, server())
    where = {name: path("packagerepos", namespace, name) for name in names}
    kubeconfig = operating.grant(own_cluster, namespace)
    with operating.operating(tmp_path / "operator", kubeconfig, namespace) as operator:
        operator.secrets |= {SECRET, *(f"{name}-read-value" for name in names)}
        before = wait_for_config(kube, namespace, *names)
        wait_for_condition(kube, where["no-spec"], "Accepted", "True")

        made = {name: change(kube, where[name], how) for name, (how, _) in WRONG.items()}
        for name, (_, field) in WRONG.items():
            found = wait_for_condition(kube, where[name], "Accepted", "False", reason="InvalidSpec")
            message = condition(found, "Accepted")["message"]
            assert field in message, (name, message)
            assert len(message) < 2000, (name, len(message))
            assert SECRET not in json.dumps(found["status"]), name
            assert condition(found, "Ready")["status"] == "False"
        after = wait_for_config(kube, namespace, *GOOD)
        for name in GOOD:
            assert table(after, name) == table(before, name)
            assert condition(get_repo(kube, namespace, name), "Accepted")["status"] == "True"

        well = status_of(kube, where["good-a"])
        # Garbage that somebody wrote into a status affects that status alone.
        for garbage in ({"conditions": "none", "index": ["?"]}, {"conditions": [{"type": 7}], "repoName": {}}):
            change_status(kube, where["good-a"], garbage)
            # A status change triggers no reconcile, and neither does a label; a change of the server does.
            changed = {"spec": {"annotations": {"garbage": f"n{len(str(garbage))}"}}}
            kube.patch(path("packageservers", namespace, "pywharf"), changed)
            wait_for(lambda: well.items() <= status_of(kube, where["good-a"]).items(), "a status that was put right")
        assert config_text(kube, namespace) == after

        claimers = {name: f"claims-{name}" for name in WRONG}
        for name, claimer in claimers.items():
            apply(kube, namespace, secret_of(claimer), repo(claimer, repoName=name))
        for claimer in claimers.values():
            wait_for_condition(
                kube, path("packagerepos", namespace, claimer), "Accepted", "False", reason="NameConflict"
            )
        assert {name: table(config_text(kube, namespace), name) for name in GOOD} == {
            name: table(before, name) for name in GOOD
        }

        for name, old in made.items():
            change(kube, where[name], functools.partial(put_back, old=old))
        mended = wait_for_config(kube, namespace, *names)
        assert mended == before
        for name in WRONG:
            wait_for_condition(kube, where[name], "Accepted", "True")

        keeps_what_a_malformed_server_made(kube, namespace)


def status_of(kube: KubeClient, where: str) -> dict[str, str]:
    """Return each status field as JSON, without timestamps. Fields set by somebody else stay beside the operator's."""
    status = (kube.get(where) or {})["status"]
    return {field: _timeless(value) for field, value in status.items()}


def _timeless(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return re.sub(r'"lastTransitionTime": "[^"]*"', '"lastTransitionTime": ""', text)


def put_back(one: Json, old: Json) -> None:
    one["spec"] = old["spec"]


def change_status(kube: KubeClient, where: str, status: object) -> None:
    """Replace the whole status."""
    found = kube.get(where)
    assert found is not None
    kube.replace(f"{where}/status", found | {"status": status})


def keeps_what_a_malformed_server_made(kube: KubeClient, namespace: str) -> None:
    """Check that a malformed server keeps its objects.

    This is part of the test above because the control plane, which takes seconds to start, is the same.
    """
    where = path("packageservers", namespace, "pywharf")
    wait_for_condition(kube, where, "ConfigRendered", "True")
    before = owned(kube, namespace)
    assert before
    for how, field in (
        (lambda one: one["spec"].update(replicas="many"), "spec.replicas"),
        (lambda one: one["spec"].update(storage=[HUGE]), "spec.storage"),
        (lambda one: one.update(spec=None), "spec"),
    ):
        old = change(kube, where, how)
        found = wait_for_condition(kube, where, "Accepted", "False", reason="InvalidSpec")
        assert field in condition(found, "Accepted")["message"]
        assert condition(found, "Ready")["status"] == "False"
        assert condition(found, "ConfigRendered")["status"] == "True"
        assert owned(kube, namespace) == before
        change(kube, where, functools.partial(put_back, old=old))
        wait_for_condition(kube, where, "Accepted", "True")
    assert owned(kube, namespace) == before
    assert get_server(kube, namespace) is not None


def owned(kube: KubeClient, namespace: str) -> dict[str, str]:
    """Return the uid, spec and data of every object that the operator created."""
    kinds = {
        "configmaps": "/api/v1",
        "secrets": "/api/v1",
        "services": "/api/v1",
        "persistentvolumeclaims": "/api/v1",
        "deployments": "/apis/apps/v1",
        "cronjobs": "/apis/batch/v1",
    }
    return {
        f"{plural}/{one['metadata']['name']}": json.dumps([one["metadata"]["uid"], one.get("spec"), one.get("data")])
        for plural, group in kinds.items()
        for one in kube.list(path(plural, namespace, group=group), labelSelector="pywharf.dev/server=pywharf")
    }
