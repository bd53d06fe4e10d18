"""Whether an object is as rendered, who owns it, and how long the operator yields to somebody who keeps changing it."""

from typing import Any

import pytest

from pywharf_operator.cluster.live import other_managers, other_owner, owned_by
from pywharf_operator.reconciling.comparison import path_of
from pywharf_operator.reconciling.drift import Contest, Difference, differs, kept_replicas, with_kept_size
from pywharf_operator.render.digest import rendered_hash, with_hash
from pywharf_operator.spec.names import RENDERED_ANNOTATION

MANIFEST: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "x", "namespace": "ml", "annotations": {"a": "b"}},
    "data": {"k": "v"},
}
UID = "our-uid"


def test_the_hash_is_of_everything_and_of_no_order():
    assert rendered_hash(MANIFEST) == rendered_hash(dict(reversed(MANIFEST.items())))
    assert rendered_hash(MANIFEST) != rendered_hash({**MANIFEST, "data": {"k": "w"}})
    assert rendered_hash(MANIFEST) != rendered_hash({**MANIFEST, "data": {}})
    made = with_hash(MANIFEST)
    assert made["metadata"]["annotations"] == {"a": "b", RENDERED_ANNOTATION: rendered_hash(MANIFEST)}
    assert RENDERED_ANNOTATION not in MANIFEST["metadata"]["annotations"]
    assert with_hash({"metadata": {"name": "x"}})["metadata"]["annotations"].keys() == {RENDERED_ANNOTATION}


def live(**fields: Any) -> dict[str, Any]:
    made = with_hash(MANIFEST)
    return {**made, "metadata": {**made["metadata"], "uid": "1", "resourceVersion": "5"}, **fields}


@pytest.mark.parametrize(
    ("found", "kind", "path"),
    [
        (None, "absent", ""),
        (live(), "same", ""),
        (live(data={"k": "v", "others": "x"}), "same", ""),
        (live(data={"k": "w"}), "drifted", "data.k"),
        (live(data=None), "drifted", "data"),
        (MANIFEST, "changed", ""),
        (live(metadata={"name": "x", "annotations": None}), "changed", ""),
        (live(metadata={"name": "x", "annotations": {RENDERED_ANNOTATION: "old"}}), "changed", ""),
    ],
)
def test_differs(found, kind, path):
    difference = differs(with_hash(MANIFEST), found)
    assert (difference.kind, difference.path) == (kind, path)


def test_a_field_that_is_rendered_no_more_is_a_change():
    assert differs(with_hash({**MANIFEST, "data": {}}), live()).kind == "changed"


def owner(uid=UID, kind="PackageServer", name="pywharf", controller=True):
    return {"uid": uid, "kind": kind, "name": name, "controller": controller}


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ([owner()], True),
        ([owner("other"), owner()], True),
        ([owner("other")], False),
        ([owner(controller=False)], False),
        ([], False),
        (None, False),
    ],
)
def test_owned_by(owners, expected):
    assert owned_by({"metadata": {"ownerReferences": owners}}, UID) is expected


def wrote(manager, time, fields=None, **more):
    return {"manager": manager, "time": time, "fieldsV1": {"f:data": {}} if fields is None else fields, **more}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"ownerReferences": [owner("1", "Deployment", "web")]}, "it belongs to Deployment web, so"),
        (
            {"ownerReferences": [owner("1", "Deployment", "web", controller=False), owner("2", "App", "shop")]},
            "it belongs to App shop, so",
        ),
        ({"ownerReferences": [owner("1")]}, "another PackageServer, or to a former one, of the name pywharf, so"),
        (
            {"labels": {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "shop"}},
            "it is managed by Helm as part of shop, so",
        ),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "it is managed by Helm, so"),
        (
            {
                "labels": {"app.kubernetes.io/managed-by": "pywharf-operator"},
                "managedFields": [wrote("kubectl", "2"), wrote("first", "1")],
            },
            "it was made by first, so",
        ),
        ({"managedFields": [wrote("pywharf-operator", "1")]}, "it belongs to somebody else, so"),
        ({}, "it belongs to somebody else, so"),
    ],
)
def test_other_owner(metadata, said):
    sentence = other_owner({"metadata": metadata}, UID)
    assert said in sentence
    assert sentence.endswith("delete or rename it, or give the PackageServer another name.")


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}


@pytest.mark.parametrize(
    ("kind", "wanted", "writers", "expected"),
    [
        ("Deployment", {}, [("pywharf-operator", REPLICAS)], 3),
        ("Deployment", {}, [("pywharf-operator", {"f:spec": {"f:selector": {}}}), ("hpa", REPLICAS)], None),
        ("Deployment", {"replicas": 2}, [("pywharf-operator", REPLICAS)], None),
        ("Service", {}, [("pywharf-operator", REPLICAS)], None),
    ],
    ids=["an autoscaler from now on", "an autoscaler's already", "a number of its own", "no Deployment"],
)
def test_replicas_stay_when_they_are_rendered_no_more(kind, wanted, writers, expected):
    desired = {"apiVersion": "apps/v1", "kind": kind, "metadata": {}, "spec": wanted}
    managed = [wrote(manager, "1", fields) for manager, fields in writers]
    metadata = {"name": "a", "namespace": "ml", "uid": UID}
    live = {"metadata": metadata | {"managedFields": managed}, "spec": {"replicas": 3, "paused": False}}
    kept = None if expected is None else {**desired, "metadata": metadata, "spec": {"replicas": expected}}
    assert kept_replicas(desired, live) == kept
    assert kept_replicas(desired, None) is None


FIELDS = {
    "f:metadata": {"f:labels": {".": {}, "f:a.b/c": {}}},
    "f:spec": {
        "f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': {".": {}, "f:image": {}}}}},
        "f:args": {},
        "f:selector": {},
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:targetPort": {}}, "k:no JSON": {}, "k:[]": {}},
    },
}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), True),
        (("metadata", "labels", "a.b/c"), True),
        (("metadata", "labels", "d"), False),
        (("spec", "template", "spec", "containers", ("name", "server"), "image"), True),
        (("spec", "template", "spec", "containers", ("name", "server"), "command"), False),
        (("spec", "template", "spec", "containers", ("name", "other"), "image"), False),
        (("spec", "args", 0), True),
        (("spec", "selector", "app"), True),
        (("spec", "ports", ("port", 80), "targetPort"), True),
        (("spec", "ports", ("port", 81), "targetPort"), False),
        (("data",), False),
    ],
)
def test_who_wrote_a_field(steps, expected):
    found = {
        "metadata": {
            "managedFields": [
                wrote("kubectl-edit", "1", FIELDS),
                wrote("pywharf-operator", "2", FIELDS),
                wrote("kube-controller-manager", "3", FIELDS, subresource="status"),
                wrote("odd", "4", {"f:spec": "odd"}),
            ]
        }
    }
    managers = other_managers(found, steps)
    assert ("kubectl-edit" in managers) is expected, path_of(steps)
    assert managers == (["odd", "kubectl-edit"] if not steps else ["kubectl-edit"] * expected)
    assert other_managers({"metadata": {}}, steps) == []


def test_the_message_names_who_wrote_the_field_and_not_who_wrote_last():
    found = {"metadata": {"managedFields": [wrote("argocd", "1"), wrote("vpa", "9", {"f:spec": {}})]}}
    said = Contest.message(found, Difference("drifted", ("data", "k")))
    assert said.startswith("argocd changes data.k again and again;")
    assert Contest.message(found, Difference("drifted", ("metadata", "labels"))).startswith("vpa changes")
    assert Contest.message(found, Difference("changed")).startswith("vpa changes it again and again;")
    assert Contest.message(None, Difference("changed")).startswith("Somebody changes it")


def test_each_time_it_is_left_longer():
    contest, now, waits = Contest(), 1000.0, []
    for _ in range(13):
        wait = contest.wait(now)
        waits.append(wait)
        now += wait
        assert contest.wait(now) == 0
        contest.put_back(now)
    assert waits == [0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


def test_a_wait_grows_shorter_while_time_passes():
    contest = Contest()
    contest.put_back(0)
    contest.put_back(2)
    assert [contest.wait(now) for now in (2, 3, 5, 6, 100)] == [4, 3, 1, 0, 0]


@pytest.mark.parametrize(("peace", "wait"), [(600.0, False), (601.0, True)])
def test_after_ten_minutes_of_peace_it_is_forgotten(peace, wait):
    contest = Contest()
    for now in (0.0, 2.0, 6.0, 14.0):
        contest.put_back(now)
    assert contest.wait(14 + peace) == 0
    contest.put_back(14 + peace)
    assert contest.wait(14 + peace) == (2.0 if wait else 32.0)


def claim_of(size):
    return {"kind": "PersistentVolumeClaim", "spec": {"resources": {"requests": {"storage": size}}}}


@pytest.mark.parametrize(
    ("wanted", "present", "kept"),
    [
        ("10Gi", "20Gi", "20Gi"),
        ("20Gi", "10Gi", "20Gi"),
        ("10Gi", "10Gi", "10Gi"),
        ("10240Mi", "10Gi", "10240Mi"),
        ("1073741823", "1Gi", "1Gi"),
        ("10Gi", None, "10Gi"),
        ("10Gi", "odd", "10Gi"),
    ],
)
def test_a_claim_keeps_the_size_that_somebody_gave_it(wanted, present, kept):
    desired = claim_of(wanted)
    assert with_kept_size(desired, claim_of(present)) == claim_of(kept)
    assert with_kept_size(desired, {"spec": {}}) == with_kept_size(desired, None) == claim_of(wanted) == desired
