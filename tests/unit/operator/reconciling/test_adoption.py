"""Objects without an owner: the server adopts all that it renders, and nothing that merely resembles them."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pywharf_operator.reconciling.adoption import adoption, belongs, is_orphan, stale_data, taken_over
from pywharf_operator.reconciling.client_configs import is_orphan_of_repo
from pywharf_operator.render.labels import metadata
from pywharf_operator.render.objects.client_config import OWN_LABELS
from pywharf_operator.render.objects.job import update_job
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP, CRON_JOB, DEPLOYMENT, JOB, SECRET, SERVICE, VOLUME_CLAIM, kind_of
from pywharf_operator.spec.names import COMPONENT_LABEL, SERVER_LABEL

INSTANCE = "app.kubernetes.io/instance"
RENDERED = sorted((Path(__file__).parents[3] / "golden" / "render").glob("expected-*.yaml"))


def server_named(name, namespace):
    found = {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageServer",
        "metadata": {"name": name, "namespace": namespace, "uid": "new"},
    }
    return msgspec.convert(found, PackageServer)


def server_of(item):
    return server_named(item["metadata"]["labels"][SERVER_LABEL], item["metadata"]["namespace"])


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.stem)
def test_whatever_is_rendered_is_adopted(path):
    """The test therefore covers kinds and names that are added later, too."""
    for item in filter(None, yaml.safe_load_all(path.read_text())):
        assert "ownerReferences" not in item["metadata"]
        if item["metadata"]["labels"][COMPONENT_LABEL] == "clients":
            check_of_repo(item)
            continue
        kind, server = kind_of(item), server_of(item)
        assert is_orphan(kind, item, server), (kind.name, item["metadata"]["name"])
        if kind is CRON_JOB:
            assert is_orphan(JOB, update_job(item, "x"), server)
        if kind is not VOLUME_CLAIM:
            assert not is_orphan(kind, item, server_named("other", item["metadata"]["namespace"]))
            for label in set(item["metadata"]["labels"]) & set(metadata(server, "x")["labels"]):
                short = copy.deepcopy(item)
                del short["metadata"]["labels"][label]
                assert not is_orphan(kind, short, server), label


def check_of_repo(item):
    """A repo's ConfigMap belongs to no server, and is its repo's as long as it has every label."""
    namespace = item["metadata"]["namespace"]
    assert not is_orphan(CONFIG_MAP, item, server_named(item["metadata"]["labels"][INSTANCE], namespace))
    assert is_orphan_of_repo(item, item)
    for label in OWN_LABELS:
        short = copy.deepcopy(item)
        del short["metadata"]["labels"][label]
        assert not is_orphan_of_repo(short, item), label
    owned = copy.deepcopy(item)
    owned["metadata"]["ownerReferences"] = [owner("another", "PackageRepo")]
    assert not is_orphan_of_repo(owned, item)


def live(name="pywharf", owners=(), labels=None, **fields):
    made: dict[str, Any] = metadata(server_named("pywharf", "ml"), owned=False) | {"name": name, "uid": "u"}
    made["labels"] = made["labels"] | (labels or {})
    made["ownerReferences"] = list(owners)
    return {"apiVersion": "v1", "kind": "Some", "metadata": made, **fields}


def owner(uid, kind="PackageServer", *, controller=True):
    return {"uid": uid, "kind": kind, "name": "pywharf", "controller": controller}


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        (SERVICE, live(), True),
        (SERVICE, live("pywharf-metrics"), True),
        (SERVICE, live("pywharf-canary"), False),  # somebody's copy, with the same labels
        (SECRET, live("pywharf-session"), True),
        (SECRET, live("pywharf-credentials-7"), True),
        (SECRET, live("pywharf-credentials-8"), False),
        (CONFIG_MAP, live("pywharf-credentials"), False),
        (CRON_JOB, live("pywharf-index-a", labels={"pywharf.dev/repo": "a"}), True),
        (CRON_JOB, live("pywharf-index-b", labels={"pywharf.dev/repo": "a"}), False),
        (CRON_JOB, live("pywharf-index-a"), False),
        (JOB, live("pywharf-index-a-123", labels={"pywharf.dev/repo": "a"}), True),
        (JOB, live("pywharf-index-a", labels={"pywharf.dev/repo": "a"}), False),
        (DEPLOYMENT, live(owners=[owner("x", "App", controller=False)]), True),
        (DEPLOYMENT, live(owners=[owner("x", "App")]), False),
        (DEPLOYMENT, live(owners=[owner("former")]), False),
        (DEPLOYMENT, live(owners=[owner("new")]), False),  # it already has an owner
        (VOLUME_CLAIM, live("pywharf-data"), True),
        (VOLUME_CLAIM, live("pywharf-data", owners=[owner("x", "DataVolume")]), False),
        (VOLUME_CLAIM, live("pywharf-data", labels={SERVER_LABEL: "other"}), False),
    ],
)
def test_is_orphan(kind, item, expected):
    server = server_named("pywharf", "ml")
    assert is_orphan(kind, item, server) is expected
    owned = any(one["uid"] == "new" for one in item["metadata"]["ownerReferences"])
    assert belongs(kind, item, server) is (expected or owned)


def test_what_adopts_changes_nothing_else():
    made = adoption(live("pywharf-session", data={"key": "a"}), server_named("pywharf", "ml"))
    assert set(made) == {"apiVersion", "kind", "metadata"}
    assert set(made["metadata"]) == {"name", "namespace", "uid", "ownerReferences"}
    assert made["metadata"]["uid"] == "u"
    assert [one["uid"] for one in made["metadata"]["ownerReferences"]] == ["new"]


@pytest.mark.parametrize(
    ("kind", "desired", "present", "expected"),
    [
        (SECRET, {"data": {"a": "1"}}, {"data": {"a": "1", "gone": "2"}}, {"data": {"gone": None}}),
        (CONFIG_MAP, {"binaryData": {"a": "1"}}, {"data": {"a": "1"}}, {"data": {"a": None}}),
        (CONFIG_MAP, {"data": {"a": "1"}}, {"data": {"a": "2"}}, {}),
        (DEPLOYMENT, {}, {"data": {"a": "2"}}, {}),
        (SECRET, {"data": {"a": "1"}}, {}, {}),
    ],
)
def test_stale_data(kind, desired, present, expected):
    assert stale_data(kind, desired, present) == expected


OUR_LABEL: dict[str, Any] = {"f:metadata": {"f:labels": {f"f:{SERVER_LABEL}": {}}}}


def wrote(manager, fields, operation="Update", **more):
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields, **more}


def test_what_a_restore_wrote_becomes_the_operators():
    in_labels: dict[str, Any] = {".": {}, f"f:{SERVER_LABEL}": {}, "f:velero.io/restore": {}}
    restored = wrote("velero-server", {"f:metadata": {"f:labels": in_labels}, "f:data": {".": {}, "f:a": {}}})
    other = wrote("somebody", {"f:data": {"f:b": {}}})
    status = wrote("controller", {"f:status": {}}, subresource="status")
    item = live()
    item["metadata"]["managedFields"] = [restored, other, status]
    found = taken_over(item)
    assert found is not None
    own, *rest = found
    assert rest == [other, status]
    assert (own["manager"], own["operation"]) == ("pywharf-operator", "Apply")
    assert own["fieldsV1"] == {**OUR_LABEL, "f:data": {".": {}, "f:a": {}}}


@pytest.mark.parametrize("entries", [None, [], [wrote("somebody", {"f:data": {}})]])
def test_an_object_not_known_to_be_restored(entries):
    item = live()
    item["metadata"]["managedFields"] = entries
    assert [one["fieldsV1"] for one in taken_over(item) or []] == [
        OUR_LABEL,
        *(one["fieldsV1"] for one in entries or []),
    ]


def test_what_the_operator_applied_before_is_left():
    item = live()
    item["metadata"]["managedFields"] = [wrote("pywharf-operator", OUR_LABEL, "Apply"), wrote("somebody", OUR_LABEL)]
    assert taken_over(item) is None
