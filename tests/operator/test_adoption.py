"""Objects that lost their owner, by a restore or an orphaning deletion, are adopted; foreign objects never are."""

import time
from typing import Any

import pytest

from pywharf_operator.spec.kinds import JOB, OWNED, SECRET, SERVER, VOLUME_CLAIM
from support.cluster.backup import all_of, restore, taken
from support.cluster.kube_client import JSON_PATCH, Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    config_text,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.operator import operating
from support.waiting import wait_for

SPEC: dict[str, Any] = {"storage": {"size": "1Gi"}, "ingress": {"host": "packages.example.com"}}
SERVER_LABEL = "pywharf.dev/server"
LABELS = {
    "app.kubernetes.io/name": "pywharf",
    "app.kubernetes.io/instance": "pywharf",
    "app.kubernetes.io/component": "server",
    "app.kubernetes.io/part-of": "pywharf",
    "app.kubernetes.io/managed-by": "pywharf-operator",
    "pywharf.dev/server": "pywharf",
}
LONG_S = 90.0


def of_server(namespace: str) -> str:
    return SERVER.path(namespace, "pywharf")


def owned(kube: KubeClient, namespace: str) -> dict[tuple[str, str], Json]:
    """Return the server's objects and Jobs by kind and name."""
    kinds = [kind for kind in (*OWNED, JOB) if not kind.optional]
    return {
        (kind.name, item["metadata"]["name"]): item
        for kind in kinds
        for item in kube.list(kind.path(namespace), labelSelector="pywharf.dev/server=pywharf")
    }


def unowned(kube: KubeClient, namespace: str) -> list[tuple[str, str]]:
    """Return the objects that the current server does not own, except the claim, which has no owner."""
    uid = (kube.get(of_server(namespace)) or {"metadata": {}})["metadata"].get("uid")
    return [
        key
        for key, item in owned(kube, namespace).items()
        if [one["uid"] for one in item["metadata"].get("ownerReferences", [])] != [uid] and key[0] != VOLUME_CLAIM.name
    ]


def uids(found: dict[tuple[str, str], Json]) -> dict[tuple[str, str], str]:
    return {key: item["metadata"]["uid"] for key, item in found.items()}


def session_of(kube: KubeClient, namespace: str) -> Any:
    return (kube.get(SECRET.path(namespace, "pywharf-session")) or {}).get("data")


def converged(kube: KubeClient, namespace: str, *repos: str) -> None:
    wait_for_config(kube, namespace, *repos, longest_s=LONG_S)
    wait_for(lambda: not unowned(kube, namespace), "an owner of each object", longest_s=LONG_S)
    wait_for_condition(kube, of_server(namespace), "Ready", "False", reason="NoReadyReplica", longest_s=LONG_S)


def start(kube: KubeClient, namespace: str) -> dict[tuple[str, str], Json]:
    """Create a server with a repo and wait for its first Job. Returns what the operator has created."""
    apply(kube, namespace, server(**SPEC), secret_of("team-a"), repo("team-a"))
    converged(kube, namespace, "team-a")
    wait_for(lambda: kube.list(JOB.path(namespace)), "the first Job")
    return owned(kube, namespace)


@pytest.mark.timeout(300)
def test_orphans_are_adopted(cluster, kube, namespace, tmp_path):
    """`kubectl delete --cascade=orphan`, and a server of the same name with another spec."""
    cluster.need_controllers()
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        before = start(kube, namespace)
        session = session_of(kube, namespace)
        kube.delete(of_server(namespace), "Orphan")
        wait_for(lambda: kube.get(of_server(namespace)) is None, "the server gone", longest_s=LONG_S)
        wait_for(
            lambda: not any("ownerReferences" in one["metadata"] for one in owned(kube, namespace).values()), "orphans"
        )
        assert uids(owned(kube, namespace)) == uids(before)

        apply(kube, namespace, server(storage={"size": "1Gi"}))
        converged(kube, namespace, "team-a")
        # Objects that are no longer wanted are pruned, as if they had been owned all the time.
        wait_for(lambda: ("Ingress", "pywharf") not in owned(kube, namespace), "the Ingress deleted")
        after = uids(owned(kube, namespace))
        expected = {key: uid for key, uid in uids(before).items() if key[0] != "Ingress"}
        assert expected.items() <= after.items()
        assert session_of(kube, namespace) == session
        key = ("Deployment", "pywharf")  # no pod is restarted
        assert owned(kube, namespace)[key]["spec"]["template"] == before[key]["spec"]["template"]

        # The adopted objects are deleted with the new server.
        kube.delete(of_server(namespace))
        left = {(VOLUME_CLAIM.name, "pywharf-data")}
        wait_for(lambda: owned(kube, namespace).keys() == left, "all but the claim gone", longest_s=LONG_S)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("order", ["velero", "server first", "server last"])
def test_a_restore_converges(cluster, kube, namespace, tmp_path, order):
    """A restore converges while the operator runs. The claim, and so the packages, stay as they are."""
    cluster.need_controllers()
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace) as operator:
        before = start(kube, namespace)
        session, config = session_of(kube, namespace), config_text(kube, namespace)
        saved = taken(kube, namespace)
        if order != "velero":
            saved.sort(key=lambda item: (item["kind"] == SERVER.name) is (order == "server last"))
        delete_all(kube, namespace)

        restore(kube, saved)
        converged(kube, namespace, "team-a")
        kinds = {key for key in before if key[0] != JOB.name}
        wait_for(lambda: kinds <= owned(kube, namespace).keys(), f"each of {sorted(kinds)}", longest_s=LONG_S)
        after = owned(kube, namespace)
        claim = (VOLUME_CLAIM.name, "pywharf-data")
        assert after[claim]["metadata"]["uid"] == before[claim]["metadata"]["uid"]
        assert after[claim]["spec"] == before[claim]["spec"]
        if order != "server first":  # otherwise the operator creates what is missing
            assert session_of(kube, namespace) == session
            assert config_text(kube, namespace) == config
        # Nothing more is written.
        wait_for(lambda: operator.metric("pywharf_operator_queue_depth") == 0, "an empty queue")
        time.sleep(1)
        versions = {key: item["metadata"]["resourceVersion"] for key, item in owned(kube, namespace).items()}
        kube.patch(of_server(namespace), {"metadata": {"labels": {"pywharf.dev/look": "again"}}})
        time.sleep(3)
        assert {key: one["metadata"]["resourceVersion"] for key, one in owned(kube, namespace).items()} == versions


def delete_all(kube: KubeClient, namespace: str) -> None:
    """Delete all but the claim and the users' Secrets, as if only the objects of pywharf were lost."""
    for plural in ("packagerepos", "packageservers"):
        for item in kube.list(path(plural, namespace)):
            kube.delete(path(plural, namespace, item["metadata"]["name"]))
    left = {VOLUME_CLAIM.name}
    wait_for(lambda: {kind for kind, _ in owned(kube, namespace)} == left, "all deleted", longest_s=LONG_S)


@pytest.mark.timeout(300)
def test_a_restore_into_an_empty_namespace(cluster, kube, namespace, tmp_path):
    """Everything was lost, including the claim, and the operator starts only after everything is restored."""
    kubeconfig = operating.grant(cluster, namespace)
    with operating.operating(tmp_path / "before", kubeconfig, namespace):
        start(kube, namespace)
        session, saved = session_of(kube, namespace), taken(kube, namespace)
    for kind in (*OWNED, JOB):
        for item in [] if kind.optional else all_of(kube, namespace, kind):
            where = kind.path(namespace, item["metadata"]["name"])
            kube.patch(where, {"metadata": {"finalizers": None}})
            kube.delete(where)
    for plural in ("packagerepos", "packageservers"):
        kube.delete(path(plural, namespace, {"packagerepos": "team-a", "packageservers": "pywharf"}[plural]))
    wait_for(lambda: not owned(kube, namespace), "all deleted", longest_s=LONG_S)

    restore(kube, saved)
    restored = uids(owned(kube, namespace))
    with operating.operating(tmp_path / "after", kubeconfig, namespace):
        converged(kube, namespace, "team-a")
        assert restored.items() <= uids(owned(kube, namespace)).items()
        assert session_of(kube, namespace) == session


@pytest.mark.timeout(300)
def test_owner_references_of_a_former_server(cluster, kube, namespace, tmp_path):
    """Objects restored with their owner references are garbage-collected, and the operator creates them again."""
    cluster.need_controllers()
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        start(kube, namespace)
        saved = taken(kube, namespace, owners=True)
        former = kube.get(of_server(namespace))["metadata"]["uid"]
        delete_all(kube, namespace)
        restore(kube, saved)
        assert kube.get(of_server(namespace))["metadata"]["uid"] != former
        converged(kube, namespace, "team-a")


FULL: dict[str, Any] = {
    **SPEC,
    "tls": {"secretRef": {"name": "packages-tls"}},
    "podTemplate": {"spec": {"containers": [{"name": "server", "env": [{"name": "A", "value": "b"}]}]}},
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("forgotten", [False, True], ids=["restored", "managedFields lost"])
def test_a_restored_object_keeps_nothing_that_is_wanted_no_more(cluster, kube, namespace, tmp_path, forgotten):
    """It keeps neither what left the spec before the adoption nor what leaves it later."""
    kubeconfig = operating.grant(cluster, namespace)
    repos = ("gone", "later", "team-a")
    with operating.operating(tmp_path / "before", kubeconfig, namespace):
        apply(kube, namespace, server(**FULL), *(secret_of(name) for name in repos), *(repo(name) for name in repos))
        converged(kube, namespace, *repos)
        saved = [item for item in taken(kube, namespace) if item["kind"] != SERVER.name]
    kube.delete(path("packagerepos", namespace, "gone"))
    for item in saved:
        if SERVER_LABEL in item["metadata"].get("labels", {}) and item["kind"] != VOLUME_CLAIM.name:
            where = next(kind for kind in (*OWNED, JOB) if kind.name == item["kind"])
            kube.delete(where.path(namespace, item["metadata"]["name"]))
    left = {VOLUME_CLAIM.name}
    wait_for(lambda: {kind for kind, _ in owned(kube, namespace)} == left, "all deleted", longest_s=LONG_S)
    restore(kube, [item for item in saved if item["metadata"]["name"] != "gone"])
    if forgotten:
        forget_managers(kube, namespace)
    kube.patch(of_server(namespace), {"spec": {"podTemplate": None}})

    with operating.operating(tmp_path / "after", kubeconfig, namespace):
        converged(kube, namespace, "later", "team-a")
        wait_for(lambda: ("CronJob", "pywharf-index-gone") not in owned(kube, namespace), "the CronJob deleted")
        assert keys_of(kube, namespace) == {"later", "team-a", "revision-0"}
        if not forgotten:
            assert "env" not in server_pod(kube, namespace)["containers"][0]
        # What leaves the spec only now is removed, too.
        kube.delete(path("packagerepos", namespace, "later"))
        apply(kube, namespace, server(storage={"size": "1Gi"}))
        kube.patch(of_server(namespace), {"spec": {"tls": None, "ingress": None}})
        converged(kube, namespace, "team-a")
        wait_for(lambda: keys_of(kube, namespace) == {"team-a", "revision-0"}, "the secrets of the other gone")
        wait_for(lambda: "tls" not in volumes(kube, namespace), "no volume of a Secret that may be gone")
        assert volumes(kube, namespace) == ["data", "tmp", "config", "session"]
        ports = kube.get(path("services", namespace, "pywharf", "/api/v1"))["spec"]["ports"]
        assert [one["port"] for one in ports] == [80]


def keys_of(kube: KubeClient, namespace: str) -> set[str]:
    """Return the repos whose secrets the server gets, and the revision."""
    found = owned(kube, namespace)["Secret", "pywharf-credentials"]["data"]
    return {key.partition(".")[0] for key in found}


def server_pod(kube: KubeClient, namespace: str) -> Any:
    return owned(kube, namespace)["Deployment", "pywharf"]["spec"]["template"]["spec"]


def volumes(kube: KubeClient, namespace: str) -> list[str]:
    return [one["name"] for one in server_pod(kube, namespace)["volumes"]]


def forget_managers(kube: KubeClient, namespace: str) -> None:
    """Clear managedFields, as some backup tools do."""
    for kind in (*OWNED, JOB):
        for item in [] if kind.optional else all_of(kube, namespace, kind):
            if SERVER_LABEL in item["metadata"].get("labels", {}):
                change = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
                kube.patch(kind.path(namespace, item["metadata"]["name"]), change, JSON_PATCH, manager="velero")


ANOTHER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": True}
NOT_OURS: dict[str, Json] = {
    "another's controller": {"labels": LABELS, "ownerReferences": [ANOTHER]},
    "made by helm": {"labels": LABELS | {"app.kubernetes.io/managed-by": "Helm"}},
    "of another server": {"labels": LABELS | {"app.kubernetes.io/instance": "other"}},
    "one label short": {"labels": {key: LABELS[key] for key in LABELS if key != "app.kubernetes.io/part-of"}},
}
OBJECTS: dict[str, tuple[str, Json]] = {
    "configmaps": ("pywharf-config", {"kind": "ConfigMap", "data": {"config.toml": "[other]\n"}}),
    "secrets": ("pywharf-session", {"kind": "Secret", "stringData": {"key": "somebody-else"}}),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("plural", OBJECTS)
@pytest.mark.parametrize("whose", NOT_OURS)
def test_what_is_not_ours_is_never_adopted(cluster, kube, namespace, tmp_path, plural, whose):
    name, fields = OBJECTS[plural]
    where = path(plural, namespace, name, "/api/v1")
    metadata = {"name": name, **NOT_OURS[whose]}
    if "ownerReferences" in metadata:
        deployment = kube.create(path("configmaps", namespace, group="/api/v1"), {"metadata": {"name": "web"}})
        reference = ANOTHER | {"apiVersion": "v1", "kind": "ConfigMap", "uid": deployment["metadata"]["uid"]}
        metadata["ownerReferences"] = [reference]
    made = kube.create(path(plural, namespace, group="/api/v1"), {"apiVersion": "v1", "metadata": metadata, **fields})
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        found = wait_for_condition(kube, of_server(namespace), "Ready", "False", reason="ObjectNotOwned")
        assert f"{fields['kind']} {namespace}/{name}" in condition(found, "Ready")["message"]
        assert kube.get(where)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
