"""A server's objects that somebody deletes or edits are restored; foreign objects are left alone."""

import json
import time
from typing import Any

import pytest

from pywharf_operator.spec import kinds
from pywharf_operator.spec.kinds import Kind
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
from support.waiting import stretched, wait_for

PUT_BACK_S = 30.0
LABEL = "pywharf.dev/server"
SHARED = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
SERVER: dict[str, Any] = {"replicas": 2, "storage": SHARED, "ingress": {"host": "packages.example.com"}}
SCALED: dict[str, Any] = {"autoscaling": {"maxReplicas": 3}, "storage": SHARED}
CORE = "/api/v1"
Changes = dict[Kind, tuple[str, Json]]
"""By kind: the name, and the change that somebody makes."""
OWNED: Changes = {
    kinds.CONFIG_MAP: ("pywharf-config", {"data": {"config.toml": ""}}),
    kinds.SECRET: ("pywharf-credentials", {"data": {"team-a.read": "b3RoZXI="}}),
    kinds.SERVICE: ("pywharf", {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}}),
    kinds.SERVICE_ACCOUNT: ("pywharf", {"automountServiceAccountToken": True}),
    kinds.DEPLOYMENT: ("pywharf", {"spec": {"replicas": 5}}),
    kinds.CRON_JOB: ("pywharf-index-team-a", {"spec": {"suspend": True, "schedule": "0 0 1 1 *"}}),
    kinds.NETWORK_POLICY: ("pywharf", {"spec": {"ingress": []}}),
    kinds.INGRESS: ("pywharf", {"spec": {"rules": [{"host": "other.example.com"}]}}),
    kinds.DISRUPTION_BUDGET: ("pywharf", {"spec": {"maxUnavailable": 2}}),
}
OWNED_IF_SCALED: Changes = {
    kinds.AUTOSCALER: ("pywharf", {"spec": {"maxReplicas": 9}}),
    kinds.DEPLOYMENT: ("pywharf", {"spec": {"revisionHistoryLimit": 9}}),
}


def content(found: Json) -> Any:
    """Return the object without the fields that each write changes, and without a Service's address."""
    content = {key: value for key, value in found.items() if key not in {"metadata", "status"}}
    if found["kind"] == "Service":
        content["spec"] = {key: value for key, value in found["spec"].items() if not key.startswith("clusterIP")}
    return content


def test_every_kind_has_a_case():
    """A volume's claim is never deleted nor changed, and test clusters lack the optional kinds."""
    assert OWNED.keys() | OWNED_IF_SCALED.keys() == {*kinds.OWNED} - {kinds.VOLUME_CLAIM, *kinds.OPTIONAL}


@pytest.mark.parametrize(("spec", "owned"), [(SERVER, OWNED), (SCALED, OWNED_IF_SCALED)], ids=["fixed", "scaled"])
def test_a_deleted_or_edited_object_is_restored(cluster, kube, namespace, tmp_path, spec, owned: Changes):
    apply(kube, namespace, server(**spec), secret_of("team-a"), repo("team-a"))
    wheres = {kind.plural: kind.path(namespace, name) for kind, (name, _) in owned.items()}
    edits = {kind.plural: edit for kind, (_, edit) in owned.items()}
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):

        def all_there() -> bool:
            return all(kube.get(where) is not None for where in wheres.values())

        wait_for(all_there, f"all of {list(wheres)}")
        before = {plural: kube.get(where) for plural, where in wheres.items()}
        for plural, where in wheres.items():
            others = {"metadata": {"labels": {LABEL: "other"}, "annotations": {"other": "stays"}}}
            edited = kube.patch(where, edits[plural] | others)
            assert content(edited) != content(before[plural]), plural

        def differing() -> list[str]:
            found = {plural: kube.get(where) or {} for plural, where in wheres.items()}
            return [
                plural
                for plural, one in found.items()
                if content(one) != content(before[plural]) or one["metadata"]["labels"][LABEL] != "pywharf"
            ]

        try:
            wait_for(lambda: not differing(), "what was edited to be put back", longest_s=PUT_BACK_S)
        finally:
            print("not put back:", differing())
        for where in wheres.values():
            found = kube.get(where)
            assert found["metadata"]["annotations"]["other"] == "stays", where
            assert found["metadata"]["uid"] in {one["metadata"]["uid"] for one in before.values()}
        for where in wheres.values():
            kube.delete(where)

        def missing() -> list[str]:
            uids = {one["metadata"]["uid"] for one in before.values()}
            return [
                where
                for where in wheres.values()
                if (kube.get(where) or {"metadata": {"uid": next(iter(uids))}})["metadata"]["uid"] in uids
            ]

        wait_for(lambda: not missing(), "what was deleted, made again", longest_s=PUT_BACK_S)
        assert not differing()


REMOVED: dict[Kind, tuple[str, str | None]] = {
    kinds.CONFIG_MAP: ("pywharf-config", "/data/config.toml"),
    kinds.SECRET: ("pywharf-credentials", "/data/team-a.read"),
    kinds.SERVICE: ("pywharf", "/spec/ports/0/name"),
    kinds.SERVICE_ACCOUNT: ("pywharf", "/automountServiceAccountToken"),
    kinds.VOLUME_CLAIM: ("pywharf-data", None),
    kinds.DEPLOYMENT: ("pywharf", "/spec/template/spec/containers/0/args"),
    kinds.CRON_JOB: ("pywharf-index-team-a", "/spec/jobTemplate/spec/template/spec/containers/0/args"),
    kinds.NETWORK_POLICY: ("pywharf", "/spec/ingress"),
    kinds.INGRESS: ("pywharf", None),
    kinds.DISRUPTION_BUDGET: ("pywharf", "/spec/maxUnavailable"),
}
"""By kind: the name, and a field that an object of it may lack, as a JSON pointer."""
REMOVED_IF_SCALED: dict[Kind, tuple[str, str | None]] = {kinds.AUTOSCALER: ("pywharf", "/spec/metrics")}
PART_OF = "/metadata/labels/app.kubernetes.io~1part-of"


def value_at(found: Json, pointer: str) -> Any:
    """Return the value that a JSON pointer leads to; None if there is none."""
    value: Any = found
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/")
        value = value[int(name)] if isinstance(value, list) else value.get(name)
        if value is None:
            return None
    return value


@pytest.mark.parametrize(("spec", "removed"), [(SERVER, REMOVED), (SCALED, REMOVED_IF_SCALED)], ids=["fixed", "scaled"])
def test_what_is_only_removed_is_put_back(cluster, kube, namespace, tmp_path, spec, removed):
    """An update that only removes fields gives its writer no new time in managedFields."""
    assert REMOVED.keys() | REMOVED_IF_SCALED.keys() == {*kinds.OWNED} - {*kinds.OPTIONAL}
    apply(kube, namespace, server(**spec), secret_of("team-a"), repo("team-a"))
    wheres = {kind.plural: kind.path(namespace, name) for kind, (name, _) in removed.items()}
    pointers = {
        kind.plural: [PART_OF] if pointer is None else [PART_OF, pointer] for kind, (_, pointer) in removed.items()
    }
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for(lambda: all(kube.get(where) is not None for where in wheres.values()), f"all of {list(wheres)}")
        before = {plural: kube.get(where) or {} for plural, where in wheres.items()}
        times = {}
        for plural, where in wheres.items():
            change = [{"op": "remove", "path": pointer} for pointer in pointers[plural]]
            edited = kube.patch(where, change, JSON_PATCH)
            times[plural] = {one["manager"] for one in edited["metadata"]["managedFields"]}
            assert value_at(edited, PART_OF) is None, plural
        assert not [plural for plural, managers in times.items() if "tests" in managers], "a removal gives no entry"

        def lacking() -> list[str]:
            found = {plural: kube.get(where) or {} for plural, where in wheres.items()}
            return [
                f"{plural} {pointer}"
                for plural, one in found.items()
                for pointer in pointers[plural]
                if value_at(one, pointer) != value_at(before[plural], pointer)
            ]

        try:
            wait_for(lambda: not lacking(), "what was removed to be put back", longest_s=PUT_BACK_S)
        finally:
            print("not put back:", lacking())


FOREIGN: dict[str, tuple[str, str, Json]] = {
    "serviceaccounts": ("pywharf-index", CORE, {"kind": "ServiceAccount"}),
    "configmaps": ("pywharf-config", CORE, {"kind": "ConfigMap", "data": {"config.toml": "[other]\n"}}),
    "secrets": ("pywharf-session", CORE, {"kind": "Secret", "stringData": {"key": "somebody-else"}}),
    "services": ("pywharf", CORE, {"kind": "Service", "spec": {"ports": [{"port": 1}]}}),
}


def reasons(kube: KubeClient, namespace: str) -> set[str]:
    """Return the reasons of the Events."""
    return {one["reason"] for one in kube.list(path("events", namespace, group=CORE))}


@pytest.mark.parametrize("plural", FOREIGN)
@pytest.mark.parametrize("labels", [{}, {LABEL: "pywharf"}], ids=["without our label", "with our label"])
def test_of_another_is_left_alone(cluster, kube, namespace, tmp_path, plural, labels):
    name, group, fields = FOREIGN[plural]
    where, kind = path(plural, namespace, name, group), fields["kind"]
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    made = kube.create(path(plural, namespace, group=group), {"apiVersion": "v1", "metadata": metadata, **fields})
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    of_server = path("packageservers", namespace, "pywharf")
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        found = wait_for_condition(kube, of_server, "Ready", "False", reason="ObjectNotOwned")
        assert f"{kind} {namespace}/{name}" in condition(found, "Ready")["message"]
        wait_for(lambda: "ObjectNotOwned" in reasons(kube, namespace), "an Event that tells of it")
        left = kube.get(where)
        assert left["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        assert "ownerReferences" not in left["metadata"]
        # Once it is deleted, the operator continues, at the latest with its next reconcile.
        kube.delete(where)
        kube.patch(of_server, {"metadata": {"labels": {"pywharf.dev/look": "again"}}})
        wait_for_condition(kube, of_server, "Ready", "False", reason="NoReadyReplica")
        owners = kube.get(where)["metadata"]["ownerReferences"]
        assert [one["kind"] for one in owners] == ["PackageServer"]


@pytest.mark.timeout(200)
def test_it_goes_on_by_itself_when_the_other_is_gone(cluster, kube, namespace, tmp_path):
    """No event triggers the reconcile: an object without our label is not watched."""
    name = path("configmaps", namespace, "pywharf-config", CORE)
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pywharf-config"}}
    kube.create(path("configmaps", namespace, group=CORE), foreign)
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        of_server = path("packageservers", namespace, "pywharf")
        wait_for_condition(kube, of_server, "Ready", "False", reason="ObjectNotOwned")
        kube.delete(name)
        wait_for_config(kube, namespace, "team-a", longest_s=120)


def test_there_and_back_within_a_second(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a", index={"schedule": "1 1 * * *"}))
    where = path("packagerepos", namespace, "team-a")
    cron_job = kinds.CRON_JOB.path(namespace, "pywharf-index-team-a")
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for_condition(kube, where, "Accepted", "True")
        first = config_text(kube, namespace)
        began = time.monotonic()
        other = repo("team-a", index={"schedule": "2 2 * * *"}, upstream={"mode": "None", "reserved": ["other-*"]})
        apply(kube, namespace, other)
        apply(kube, namespace, repo("team-a", index={"schedule": "1 1 * * *"}))
        assert time.monotonic() - began < stretched(1)
        found = wait_for_condition(kube, where, "Accepted", "True")
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 3
        wait_for(lambda: kube.get(cron_job)["spec"]["schedule"] == "1 1 * * *", "the first schedule")
        wait_for(lambda: config_text(kube, namespace) == first, f"the first configuration:\n{first}")
        assert kube.get(where)["spec"] == found["spec"], json.dumps(found["spec"])


@pytest.mark.timeout(180)
def test_two_managers_do_not_fight_for_ever(cluster, kube, namespace, tmp_path):
    """Another manager forces its value every half second. The operator restores its own ever less often and says so."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    where = path("services", namespace, "pywharf", CORE)
    forced = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "pywharf"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 9999}]},
    }
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace) as operator:
        wait_for(lambda: kube.get(where), "the Service")
        before = operator.metric("pywharf_operator_api_requests_total", verb="apply")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            kube.apply(where, forced, "other-manager", force=True)
            time.sleep(0.5)
        written = operator.metric("pywharf_operator_api_requests_total", verb="apply") - before
        # At 0, 2, 6, 14 and 30 s, each with a status that reports the conflict and one that reports its end.
        assert written <= 3 * 6, f"{written} writes in 30 s"
        of_server = path("packageservers", namespace, "pywharf")
        found = wait_for_condition(kube, of_server, "Ready", "False", reason="Contested")
        assert "other-manager" in condition(found, "Ready")["message"]
