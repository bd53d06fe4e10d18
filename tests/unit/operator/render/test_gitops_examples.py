"""examples/gitops: Argo CD's scripts understand the statuses, and the overlays' output is accepted.

PYWHARF_UPDATE_GOLDEN=1 rewrites argocd-cm.yaml from the scripts.
"""

import os
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import yaml

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.local.manifests import load_folder, parse_file
from pywharf_operator.local.render_command import rendered
from pywharf_operator.render import Environment, Finding, RepoVerdict, ServerVerdict
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.spec import API_VERSION, PackageRepo, PackageServer
from pywharf_operator.spec.package_policy import PackagePolicyStatus
from pywharf_operator.spec.package_server import RepoCounts
from pywharf_operator.status.conditions import (
    as_json,
    conditions_of,
    malformed_status,
    ready_of,
    repo_status,
    server_status,
)
from support.operator import lua
from support.operator.gitops import GITOPS, KUBECTL_S, OVERLAYS, Health, decrypted, health, kustomized, script
from support.operator.manifest_text import parsed
from support.parts import CHECKOUT

HEALTHY, PROGRESSING, DEGRADED = "Healthy", "Progressing", "Degraded"
GENERATION = 3
ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec})

# The condition's status that goes with each reason, and the health that Argo CD shows for it.
DECISIONS: dict[str, dict[str, tuple[bool | None, str]]] = {
    "PackageRepo Accepted": {
        "Accepted": (True, HEALTHY),
        "InvalidSpec": (False, DEGRADED),
        "ServerUnreadable": (None, PROGRESSING),
        "ServerNotFound": (False, DEGRADED),
        "NamespaceNotAllowed": (False, DEGRADED),
        "NameConflict": (False, DEGRADED),
        "StorageTaken": (False, DEGRADED),
        "StorageMissing": (False, DEGRADED),
        "CacheMissing": (False, DEGRADED),
        "BackendNotInstalled": (False, DEGRADED),
        "EndpointNotAllowed": (False, DEGRADED),
        "InvalidBackend": (False, DEGRADED),
        "ScheduleTooFrequent": (False, DEGRADED),
        "TableTooLarge": (False, DEGRADED),
        "TooManyRepos": (False, DEGRADED),
        "ServerFull": (False, DEGRADED),
    },
    "PackageRepo SecretsResolved": {
        "Resolved": (True, HEALTHY),
        "NoCredentials": (False, DEGRADED),
        "AmbientIdentityNotAllowed": (False, DEGRADED),
        "SecretNotFound": (False, DEGRADED),
        "SecretNotLabelled": (False, DEGRADED),
        "SecretKeyMissing": (False, DEGRADED),
        "SecretInvalid": (False, DEGRADED),
    },
    "PackageRepo AccessResolved": {
        "Resolved": (True, HEALTHY),
        "IssuerUnknown": (False, HEALTHY),
        "IssuerInvalid": (False, HEALTHY),
        "IssuerIsCluster": (False, HEALTHY),
        "AudienceOfApiServer": (False, HEALTHY),
        "ServiceAccountsOff": (False, HEALTHY),
        "ClusterKeysForbidden": (False, HEALTHY),
        "ClusterKeysUnreadable": (False, HEALTHY),
        "NoCluster": (False, HEALTHY),
        "ProxyHeadersOff": (False, HEALTHY),
        "ProxyInvalid": (False, HEALTHY),
        "EntryExpired": (False, HEALTHY),
        "EntryEndsSoon": (True, HEALTHY),
        "DigestRepeated": (True, HEALTHY),
    },
    "PackageRepo CredentialsStrong": {
        "SecretSameForBoth": (False, HEALTHY),
        "SecretShort": (False, HEALTHY),
        "SecretEasy": (False, HEALTHY),
        "SecretShared": (False, HEALTHY),
    },
    "PackageRepo Programmed": {
        "Programmed": (True, HEALTHY),
        "NoReadyReplica": (False, PROGRESSING),
        "ReplicasUnreachable": (False, DEGRADED),
        "Waiting": (False, PROGRESSING),
        "ImageTooOld": (False, DEGRADED),
        "ConfigRefused": (False, DEGRADED),
        "DataOwnedByOther": (False, DEGRADED),
        "PreconditionsIgnored": (False, DEGRADED),
        "BrokenOnReplica": (False, DEGRADED),
        "ConfigNotRendered": (False, DEGRADED),
        "NotServed": (False, DEGRADED),
    },
    "PackageRepo IndexUpToDate": {
        "Updated": (True, HEALTHY),
        "Pending": (None, HEALTHY),
        "Suspended": (None, HEALTHY),
        "WaitingForSlot": (None, HEALTHY),
        "WaitingForJob": (None, HEALTHY),
        "UpdateFailed": (False, HEALTHY),
        "UpdateStuck": (False, HEALTHY),
        "SidecarRunning": (False, HEALTHY),
        "NotServed": (None, HEALTHY),
    },
    "PackageRepo ClientConfigured": {
        "Written": (True, HEALTHY),
        "ObjectNotOwned": (False, HEALTHY),
        "AuthorityInvalid": (False, HEALTHY),
        "ApplyRefused": (False, HEALTHY),
        "Contested": (False, HEALTHY),
        "NotServed": (False, HEALTHY),
    },
    "PackageRepo UpstreamReachable": {
        "Reachable": (True, HEALTHY),
        "UpstreamAway": (False, HEALTHY),
        "NoReadyReplica": (None, HEALTHY),
    },
    "PackageRepo Ready": {
        "Ready": (True, HEALTHY),
    },
    "PackagePolicy Accepted": {
        "Accepted": (True, HEALTHY),
        "InvalidSpec": (False, DEGRADED),
        "TargetNotFound": (False, DEGRADED),
        "TooManyRules": (False, DEGRADED),
        "TooManyPolicies": (False, DEGRADED),
        "PolicyTooLarge": (False, DEGRADED),
    },
    "PackagePolicy Programmed": {
        "Programmed": (True, HEALTHY),
        "NoReadyReplica": (False, PROGRESSING),
        "ReplicasUnreachable": (False, DEGRADED),
        "Waiting": (False, PROGRESSING),
        "ImageTooOld": (False, DEGRADED),
        "ConfigRefused": (False, DEGRADED),
        "ConfigNotRendered": (False, DEGRADED),
        "NotDelivered": (False, DEGRADED),
        "AdvisoriesMissing": (False, DEGRADED),
    },
    "PackagePolicy Ready": {
        "Ready": (True, HEALTHY),
    },
    "PackageServer Accepted": {
        "Accepted": (True, HEALTHY),
        "InvalidSpec": (False, DEGRADED),
        "InvalidPodTemplate": (False, DEGRADED),
        "StorageNotShared": (False, DEGRADED),
        "CacheVolumeTooSmall": (False, DEGRADED),
        "NamespacesNotWatched": (False, DEGRADED),
    },
    "PackageServer NamespacesRead": {
        "Read": (True, HEALTHY),
        "NamespaceUnreadable": (False, HEALTHY),
        "PoliciesUnreadable": (False, HEALTHY),
    },
    "PackageServer IdentityReady": {
        "Ready": (True, HEALTHY),
        "ClusterKeysForbidden": (False, HEALTHY),
        "ClusterKeysUnreadable": (False, HEALTHY),
        "AudienceOfApiServer": (False, HEALTHY),
        "IssuerInvalid": (False, HEALTHY),
        "IssuerIsCluster": (False, HEALTHY),
        "ProxyInvalid": (False, HEALTHY),
        "TokenReviewForbidden": (False, HEALTHY),
    },
    "PackageServer ConfigRendered": {
        "Rendered": (True, HEALTHY),
        "ObjectNotOwned": (False, DEGRADED),
        "ReposRefused": (True, HEALTHY),
        "KeptPoliciesUnknown": (False, DEGRADED),
        "ConfigTooLarge": (False, DEGRADED),
    },
    "PackageServer Ready": {
        "Ready": (True, HEALTHY),
        "NoReadyReplica": (False, PROGRESSING),
        "ReplicasUnreachable": (False, DEGRADED),
        "ObjectNotOwned": (False, DEGRADED),
        "ApplyRefused": (False, DEGRADED),
        "PodRefused": (False, DEGRADED),
        "Contested": (False, DEGRADED),
        "ApiMissing": (False, DEGRADED),
    },
}
FINE = {
    "PackageRepo": (
        "Accepted",
        "SecretsResolved",
        "Programmed",
        "IndexUpToDate",
        "ClientConfigured",
        "UpstreamReachable",
    ),
    "PackageServer": ("Accepted", "ConfigRendered", "Ready", "NamespacesRead"),
    "PackagePolicy": ("Accepted", "Programmed"),
}


def instance(kind, **different):
    """Build an object with the operator's status: all conditions are fine, except those given as findings."""
    found = {aspect: Finding(status=True, reason="Fine", message="Fine.") for aspect in FINE[kind]} | different
    metadata = {"name": "team-a", "namespace": "ml", "generation": GENERATION}
    now = datetime(2026, 1, 1, tzinfo=UTC)
    obj: dict[str, Any] = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": {}}
    status: msgspec.Struct
    if kind == "PackageRepo":
        obj["spec"] = {"backend": {"fileSystem": {}}, "index": {"suspend": True}, "clientConfig": {"configMap": "a"}}
        repo = msgspec.convert(obj, PackageRepo)
        status = repo_status(
            RepoVerdict(
                repo=repo,
                accepted=found["Accepted"],
                secrets_resolved=found["SecretsResolved"],
                access_resolved=found.get("AccessResolved"),
                credentials_strong=found.get("CredentialsStrong"),
            ),
            url=None,
            programmed=found["Programmed"],
            index_up_to_date=found["IndexUpToDate"],
            index=None,
            client_configured=found["ClientConfigured"],
            upstream_reachable=found["UpstreamReachable"],
            now=now,
        )
    elif kind == "PackagePolicy":
        conditions = conditions_of(found | {"Ready": ready_of(found, "Fine.")}, (), GENERATION, now)
        status = PackagePolicyStatus(observed_generation=GENERATION, conditions=conditions)
    else:
        server = msgspec.convert(obj, PackageServer)
        status = server_status(
            ServerVerdict(
                server=server, accepted=found["Accepted"], repos=(), identity_ready=found.get("IdentityReady")
            ),
            url=None,
            repos=RepoCounts(),
            ready_replicas=1,
            config_rendered=found["ConfigRendered"],
            ready=found["Ready"],
            namespaces_read=found["NamespacesRead"],
            now=now,
        )
    return {**obj, "status": as_json(status)}


def shown_ready(obj):
    return next(one for one in obj["status"]["conditions"] if one["type"] == "Ready")


def test_every_reason_has_a_decision():
    assert {where: set(reasons) for where, reasons in DECISIONS.items()} == {
        where: set(reasons) for where, reasons in REASONS.items()
    }


@pytest.mark.parametrize(
    ("where", "reason"), [(where, reason) for where, reasons in DECISIONS.items() for reason in reasons]
)
def test_health_of_each_reason(where, reason):
    kind, aspect = where.split()
    status, expected = DECISIONS[where][reason]
    given = (
        {}
        if where in {"PackageRepo Ready", "PackagePolicy Ready"}
        else {aspect: Finding(status=status, reason=reason, message="Because.")}
    )
    obj = instance(kind, **given)
    message = "Because." if expected != HEALTHY else shown_ready(obj)["message"]
    assert health(obj) == Health(expected, message)


def test_one_that_got_past_the_schema_is_degraded():
    obj = instance("PackageRepo")
    finding = Finding(status=False, reason="InvalidSpec", message="The field x is unknown.")
    obj["status"] = malformed_status(obj, finding, datetime(2026, 1, 2, tzinfo=UTC))
    assert health(obj) == Health(DEGRADED, "The field x is unknown.")


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
    "no Ready": (lambda obj: obj["status"]["conditions"].remove(shown_ready(obj)), UNREADY),
    "Ready unknown": (lambda obj: shown_ready(obj).update(status="Unknown", message="Looked at."), "Looked at."),
}


@pytest.mark.parametrize("kind", FINE)
@pytest.mark.parametrize("state", UNSETTLED)
def test_what_is_not_settled_is_progressing(kind, state):
    change, message = UNSETTLED[state]
    obj = instance(kind)
    change(obj)
    assert health(obj) == Health(PROGRESSING, message)


@pytest.mark.parametrize("kind", FINE)
def test_what_is_unknown_is_progressing(kind):
    obj = instance(kind, Accepted=Finding(status=None, reason="Any", message="Not known yet."))
    assert health(obj) == Health(PROGRESSING, "Not known yet.")


def test_the_first_that_needs_action_is_reported():
    refused = Finding(status=False, reason="NameConflict", message="Another repo has the name.")
    unresolved = Finding(status=False, reason="SecretNotFound", message="There is no Secret team-a.")
    obj = instance("PackageRepo", SecretsResolved=unresolved, Accepted=refused)
    obj["status"]["conditions"].reverse()  # their order has no meaning
    assert health(obj) == Health(DEGRADED, "Another repo has the name.")


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
    obj["spec"]["backend"]["fileSystem"] = []  # an empty object, which Lua cannot tell from a list; Argo CD restores it
    assert made == obj


def config_map():
    """Build the patch of argocd-cm from the scripts."""
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
            f"{prefix}.health.pywharf.dev_PackagePolicy": script("health-packagepolicy"),
            f"{prefix}.actions.pywharf.dev_PackageRepo": yaml_text(actions),
        },
    }


class _Blocks(yaml.SafeDumper):
    """A dumper that writes multi-line texts as block scalars."""


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
    made, faults, _ = rendered(manifests, ENVIRONMENT, "packages")
    assert (manifests.problems, manifests.notes, faults) == ((), (), ())
    assert {item["kind"] for item in made} >= {"ConfigMap", "Secret"}
    assert {item["metadata"]["namespace"] for item in made} == {"packages"}
    # The claim has no owner: an Argo CD that tracks by app.kubernetes.io/instance could otherwise claim and prune it.
    (claim,) = (item for item in made if item["kind"] == "PersistentVolumeClaim")
    assert "Prune=false" in claim["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]


@pytest.mark.timeout(KUBECTL_S)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_overlay_holds_a_secret_that_anything_would_take(overlay):
    """The committed data is refused until SOPS or External Secrets has replaced it. It is never used as a password."""
    objects = kustomized(overlay)
    for item in objects:
        if item["kind"] == "Secret":
            assert "stringData" not in item
            assert all(value.startswith("ENC[") for value in item["data"].values())
            for taken in (item, {key: value for key, value in item.items() if key != "sops"}):
                (problem,) = parsed(yaml.safe_dump(taken), "packages").problems
                assert "sops" in problem.sentence or "not base64" in problem.sentence
    labelled = [item for item in decrypted(objects, {}) if item["kind"] == "Secret"]
    assert [item["metadata"]["labels"] for item in labelled] == [{"pywharf.dev/credentials": "true"}]


def test_flux_waits_for_what_passes_by_itself():
    _, flux = yaml.safe_load_all((GITOPS / "flux" / "sync.yaml").read_text())
    assert (CHECKOUT / flux["spec"]["path"] / "kustomization.yaml").is_file()
    assert flux["spec"]["wait"] is True
    assert "healthChecks" not in flux["spec"]  # Flux would ignore it
    checks = {check["kind"]: check for check in flux["spec"]["healthCheckExprs"]}
    assert set(checks) == set(FINE)
    for kind, check in checks.items():
        passing = {
            reason
            for where, reasons in DECISIONS.items()
            for reason, (_, expected) in reasons.items()
            if where.startswith(f"{kind} ") and expected == PROGRESSING
        }
        # These resolve once the other object exists, which Flux may be about to apply.
        passing |= {"ServerNotFound", "NamespaceNotAllowed", "SecretNotFound"} if kind == "PackageRepo" else set()
        passing |= {"TargetNotFound"} if kind == "PackagePolicy" else set()
        (named,) = re.findall(r"c\.reason in \[([^]]*)\]", check["failed"])
        assert set(re.findall(r"'(\w+)'", named)) == passing


def test_argo_cd_takes_an_overlay_that_is_there():
    application = yaml.safe_load((GITOPS / "argocd" / "application.yaml").read_text())
    assert (CHECKOUT / application["spec"]["source"]["path"] / "kustomization.yaml").is_file()
    assert application["spec"]["destination"]["namespace"] == "packages"
