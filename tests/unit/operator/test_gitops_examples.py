"""examples/gitops: Argo CD's scripts find what the statuses say, and what the overlays make is taken.

PYWHARF_UPDATE_GOLDEN=1 writes argocd-cm.yaml anew from the scripts.
"""

import os
import re
from datetime import UTC, datetime

import msgspec
import pytest
import yaml

from pywharf.config import FileSystemSpec
from pywharf_operator.manifests import load_folder, parse_file
from pywharf_operator.render import Environment
from pywharf_operator.render.findings import REASONS
from pywharf_operator.render_command import rendered
from pywharf_operator.spec.conditions import Condition
from support import lua
from support.gitops import GITOPS, KUBECTL_S, OVERLAYS, Health, decrypted, health, kustomized, script
from support.parts import CHECKOUT

HEALTHY, PROGRESSING, DEGRADED = "Healthy", "Progressing", "Degraded"
GENERATION = 3
ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec})

# What each reason is to somebody who looks at Argo CD. True, False, Unknown: the condition's status that goes with it.
DECISIONS = {
    "PackageRepo Accepted": {
        "Accepted": ("True", HEALTHY),
        "ServerNotFound": ("False", DEGRADED),
        "NamespaceNotAllowed": ("False", DEGRADED),
        "NameConflict": ("False", DEGRADED),
        "StorageMissing": ("False", DEGRADED),
        "BackendNotInstalled": ("False", DEGRADED),
        "EndpointNotAllowed": ("False", DEGRADED),
        "InvalidBackend": ("False", DEGRADED),
    },
    "PackageRepo SecretsResolved": {
        "Resolved": ("True", HEALTHY),
        "NoCredentials": ("False", DEGRADED),
        "SecretNotFound": ("False", DEGRADED),
        "SecretNotLabelled": ("False", DEGRADED),
        "SecretKeyMissing": ("False", DEGRADED),
        "SecretInvalid": ("False", DEGRADED),
    },
    "PackageServer Accepted": {
        "Accepted": ("True", HEALTHY),
        "StorageNotShared": ("False", DEGRADED),
        "NamespacesNotWatched": ("False", DEGRADED),
        "InvalidPodTemplate": ("False", DEGRADED),
    },
    "PackageServer ConfigRendered": {
        "Rendered": ("True", HEALTHY),
        "ConfigTooLarge": ("False", DEGRADED),
    },
}
GOOD = {
    "PackageRepo": ("Accepted", "SecretsResolved", "Programmed", "IndexUpToDate"),
    "PackageServer": ("Accepted", "ConfigRendered"),
}


def condition(aspect, status, reason, message=""):
    made = Condition(
        type=aspect,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=datetime(2026, 1, 1, tzinfo=UTC),
        observed_generation=GENERATION,
    )
    return msgspec.to_builtins(made)


def instance(kind, *different, ready=None, observed=GENERATION):
    """An object all of whose conditions are True but those given; Ready follows from them, or is as given."""
    found = {aspect: condition(aspect, "True", "Fine", f"{aspect} is fine.") for aspect in GOOD[kind]}
    found |= {one["type"]: one for one in different}
    counted = [one for aspect, one in found.items() if aspect != "IndexUpToDate"]
    first = next((one for one in counted if one["status"] != "True"), None)
    if ready is None:
        text = "It is served." if first is None else first["message"]
        ready = condition("Ready", "True" if first is None else "False", "Any", text)
    conditions = [*found.values(), ready]
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "team-a", "namespace": "ml", "generation": GENERATION},
        "spec": {},
        "status": {"observedGeneration": observed, "conditions": conditions},
    }


def test_every_reason_has_a_decision():
    assert {aspect: set(reasons) for aspect, reasons in DECISIONS.items()} == {
        aspect: set(reasons) for aspect, reasons in REASONS.items()
    }


@pytest.mark.parametrize(
    ("where", "reason"), [(where, reason) for where, reasons in DECISIONS.items() for reason in reasons]
)
def test_health_of_each_reason(where, reason):
    kind, aspect = where.split()
    status, expected = DECISIONS[where][reason]
    found = condition(aspect, status, reason, f"Because of {reason}.")
    obj = instance(kind, ready=found) if aspect == "Ready" else instance(kind, found)
    answer = health(obj)
    assert answer.status == expected
    if expected == HEALTHY:
        assert answer.message == obj["status"]["conditions"][-1]["message"]
    else:
        assert answer.message == f"Because of {reason}."


UNSEEN, OLD, UNREADY = (
    "The operator has not seen it yet.",
    "The operator has not seen this version yet.",
    "It is not Ready yet.",
)
UNSETTLED = {
    "no status": (lambda obj: obj.pop("status"), UNSEEN),
    "status null": (lambda obj: obj.update(status=None), UNSEEN),
    "status empty": (lambda obj: obj.update(status={}), UNSEEN),
    "of an older generation": (lambda obj: obj["status"].update(observedGeneration=GENERATION - 1), OLD),
    "of no generation": (lambda obj: obj["status"].pop("observedGeneration"), OLD),
    "no conditions": (lambda obj: obj["status"].update(conditions=[]), UNREADY),
    "no Ready": (lambda obj: obj["status"]["conditions"].pop(), UNREADY),
    "Ready unknown": (
        lambda obj: obj["status"]["conditions"][-1].update(status="Unknown", message="Being looked at."),
        "Being looked at.",
    ),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("state", UNSETTLED)
def test_what_is_not_settled_is_progressing(kind, state):
    change, message = UNSETTLED[state]
    obj = instance(kind)
    change(obj)
    assert health(obj) == Health(PROGRESSING, message)


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_unknown_is_progressing(kind):
    obj = instance(kind, condition("Accepted", "Unknown", "Any", "Not known yet."))
    assert health(obj) == Health(PROGRESSING, "Not known yet.")


def test_the_first_that_needs_somebody_is_told():
    refused = condition("Accepted", "False", "NameConflict", "Another repo has the name.")
    unresolved = condition("SecretsResolved", "False", "SecretNotFound", "There is no Secret team-a.")
    assert health(instance("PackageRepo", unresolved, refused)).message == "Another repo has the name."


def test_an_index_that_is_old_or_suspended_takes_no_health():
    obj = instance("PackageRepo", condition("IndexUpToDate", "False", "Any", "The last update failed."))
    obj["spec"] = {"index": {"suspend": True}}
    assert health(obj).status == HEALTHY


def test_a_script_reaches_no_more_than_in_argo_cd():
    for name in ("string", "math", "io", "debug", "python"):
        assert lua.run(f"return {name} == nil", {}) is True
    assert lua.run("return os.execute == nil and require('os').getenv == nil", {}) is True
    with pytest.raises(Exception, match="attempt to index"):
        lua.run("return ('x'):upper()", {})


@pytest.mark.parametrize("annotations", [None, {"team": "a", "pywharf.dev/update-index": "1"}])
def test_the_action_sets_the_annotation_and_nothing_else(annotations):
    obj = instance("PackageRepo")
    if annotations is not None:
        obj["metadata"]["annotations"] = annotations
    assert list(lua.run(script("action-packagerepo-discovery"), obj)) == ["update-index"]
    made = lua.run(script("action-packagerepo-update-index"), obj)
    value = made["metadata"]["annotations"].pop("pywharf.dev/update-index")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value)
    expected = {key: text for key, text in (annotations or {}).items() if key == "team"}
    assert dict(made["metadata"].pop("annotations")) == expected
    obj["metadata"].pop("annotations", None)
    obj["spec"] = []  # Argo CD puts an empty object back where Lua cannot tell it from a list
    assert made == obj


def config_map():
    """The patch of argocd-cm, made of the scripts."""
    actions = {
        "discovery.lua": script("action-packagerepo-discovery"),
        "definitions": [{"name": "update-index", "action.lua": script("action-packagerepo-update-index")}],
    }
    prefix = "resource.customizations"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "argocd-cm",
            "namespace": "argocd",
            "labels": {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"},
        },
        "data": {
            f"{prefix}.health.pywharf.dev_PackageRepo": script("health-packagerepo"),
            f"{prefix}.health.pywharf.dev_PackageServer": script("health-packageserver"),
            f"{prefix}.actions.pywharf.dev_PackageRepo": yaml_text(actions),
        },
    }


class _Blocks(yaml.SafeDumper):
    """Texts of several lines are written as such."""


_Blocks.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def yaml_text(value):
    return yaml.dump(value, Dumper=_Blocks, sort_keys=False, width=200)


def test_the_config_map_holds_the_scripts():
    path = GITOPS / "argocd" / "argocd-cm.yaml"
    head = "# Made of the scripts beside it: kubectl -n argocd patch configmap argocd-cm --patch-file argocd-cm.yaml\n"
    text = head + yaml_text(config_map())
    if os.environ.get("PYWHARF_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
    assert yaml.safe_load(text) == config_map()


@pytest.mark.parametrize("path", sorted((GITOPS / "base").glob("*.yaml")), ids=lambda path: path.name)
def test_the_base_is_read(path):
    assert parse_file(path.name, path.read_bytes(), "packages").problems == ()


@pytest.mark.timeout(KUBECTL_S)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_once_its_secret_is_there(overlay, tmp_path):
    objects = kustomized(overlay)
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "all.yaml").write_text(yaml.safe_dump_all(decrypted(objects, {"read": "r", "write": "w"})))
    manifests = load_folder(folder, "packages")
    made, faults = rendered(manifests, ENVIRONMENT, "packages")
    assert (manifests.problems, manifests.notes, faults) == ((), (), ())
    assert {item["kind"] for item in made} >= {"ConfigMap", "Secret"}
    assert {item["metadata"]["namespace"] for item in made} == {"packages"}


@pytest.mark.timeout(KUBECTL_S)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_overlay_holds_a_secret_that_anything_would_take(overlay):
    """What is committed is refused until SOPS or External Secrets has been at work, rather than used as a password."""
    objects = kustomized(overlay)
    for item in objects:
        if item["kind"] == "Secret":
            assert "stringData" not in item
            assert all(value.startswith("ENC[") for value in item["data"].values())
            for taken in (item, {key: value for key, value in item.items() if key != "sops"}):
                (problem,) = parse_file("a.yaml", yaml.safe_dump(taken).encode(), "packages").problems
                assert "sops" in problem.sentence or "not base64" in problem.sentence
    labelled = [item for item in decrypted(objects, {}) if item["kind"] == "Secret"]
    assert [item["metadata"]["labels"] for item in labelled] == [{"pywharf.dev/credentials": "true"}]


def test_flux_names_our_kinds_and_the_conditions_that_they_have():
    _, flux = yaml.safe_load_all((GITOPS / "flux" / "sync.yaml").read_text())
    assert (CHECKOUT / flux["spec"]["path"] / "kustomization.yaml").is_file()
    assert flux["spec"]["wait"] is True
    assert "healthChecks" not in flux["spec"]  # Flux would not read it
    checks = {check["kind"]: check for check in flux["spec"]["healthCheckExprs"]}
    assert set(checks) == set(GOOD)
    for kind, check in checks.items():
        named = set(re.findall(r"c\.type (?:==|in) (\[[^]]*\]|'\w+')", check["failed"] + check["current"]))
        aspects = {aspect for text in named for aspect in re.findall(r"'(\w+)'", text)}
        assert aspects - {"Ready"} == set(GOOD[kind]) - {"Programmed", "IndexUpToDate"}
        # These alone may come right by themselves, once the other object is there.
        later = {reason for reason in ("ServerNotFound", "SecretNotFound") if reason in check["failed"]}
        known = {reason for where in REASONS if where.startswith(f"{kind} ") for reason in REASONS[where]}
        assert later <= known


def test_argo_cd_takes_an_overlay_that_is_there():
    application = yaml.safe_load((GITOPS / "argocd" / "application.yaml").read_text())
    assert (CHECKOUT / application["spec"]["source"]["path"] / "kustomization.yaml").is_file()
    assert application["spec"]["destination"]["namespace"] == "packages"
