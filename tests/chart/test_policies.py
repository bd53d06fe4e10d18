"""PackagePolicies of a release: their values, and what a mistake in them says."""

import pytest

from support.operator.chart import HelmError, objects

SPEC = {"targetRefs": [{"kind": "PackageServer", "name": "pywharf"}], "cooldown": {"minimumAge": "7d"}}
EXCEPTION = {"project": "a", "of": ["Cooldown"], "until": "2027-01-31T00:00:00Z", "reason": "approved"}
KEY = ("PackagePolicy", "packages", "company")


def test_each_is_an_object_of_the_release(tmp_path):
    labels = {"labels": {"team": "security"}, "annotations": {"review": "required"}}
    before = objects(tmp_path, {})
    made = objects(tmp_path, {"policies": {"company": {"spec": SPEC, **labels}}})
    assert made.keys() - before.keys() == {KEY}
    assert made[KEY]["spec"] == SPEC
    metadata = made[KEY]["metadata"]
    assert metadata["labels"].items() >= {"team": "security", "app.kubernetes.io/component": "policy"}.items()
    assert metadata["annotations"] == {"review": "required"}, "it is deleted with the release"


def test_common_labels_are_theirs_too(tmp_path):
    made = objects(tmp_path, {"policies": {"company": {"spec": SPEC}}, "commonLabels": {"cost-center": "42"}})
    assert made[KEY]["metadata"]["labels"]["cost-center"] == "42"


NONE = {"none": {}, "null": {"policies": None}, "a null": {"policies": {"company": None}}}


@pytest.mark.parametrize("values", NONE.values(), ids=NONE)
def test_a_release_without_policies(tmp_path, values):
    assert not [key for key in objects(tmp_path, values) if key[0] == "PackagePolicy"]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({}, "spec"),
        ({"spec": {**SPEC, "denied": []}}, "denied"),
        ({"spec": {**SPEC, "targetRefs": []}}, "targetRefs"),
        ({"spec": {**SPEC, "deny": [{"project": "a", "versions": "latest"}]}}, "versions"),
        ({"spec": {**SPEC, "exceptions": [{"project": "a", "of": ["Cooldown"], "reason": "b"}]}}, "until"),
        ({"spec": {**SPEC, "exceptions": [{**EXCEPTION, "reason": " "}]}}, "reason"),
    ],
)
def test_a_mistake_is_named(tmp_path, policy, words):
    with pytest.raises(HelmError) as refused:
        objects(tmp_path, {"policies": {"company": policy}})
    assert words in refused.value.stderr
