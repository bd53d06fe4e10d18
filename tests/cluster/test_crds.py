"""The custom resources on a real API server: what it accepts, what it refuses and what it shows."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster.cluster import Cluster
from support.cluster.kube_client import ApiError, KubeClient
from support.operator.manifest_cases import MALFORMED, REFUSED_AT_ADMISSION, WELL_FORMED
from support.parts import CHECKOUT

GROUP = "apis/pywharf.dev/v1alpha1"
PREFIXES = {
    "PackageRepo": (GROUP, "packagerepos"),
    "PackageServer": (GROUP, "packageservers"),
    "PackagePolicy": (GROUP, "packagepolicies"),
    "Secret": ("api/v1", "secrets"),
}

PAST_THE_SCHEMA = (
    "endpoint is 'https://s3:99999'",
    "caBundle is 'a': it must hold certificates",
    "no month that it names has a day 30",
    "its minute has the range 30-10",
    "the IANA time zone database has no such name",
    "is no version specifier of PEP 440",
    "it must be a claim's name",
    "claims is '*********'",
    "129 claims with a *",
    "65 patterns with a *",
    "expected `bool | int | str`, got `array`",
)
"""Parts of the errors that no schema can express: only the operator refuses these manifests."""
WITHOUT_PATH = ("kind is", "metadata.name is missing", "metadata is missing")
"""Parts of the errors of manifests without a URL to send them to."""


def create_dry(kube: KubeClient, namespace: str, text: str, validation: str = "Strict") -> None:
    """Create an object like `kubectl create --dry-run=server --validate=strict`. Raises ApiError."""
    group, plural = PREFIXES[yaml.safe_load(text)["kind"]]
    path = f"/{group}/namespaces/{namespace}/{plural}"
    kube.request("POST", path, text.encode(), "application/yaml", dryRun="All", fieldValidation=validation)


REFUSED = [text for text, sentence in MALFORMED if not any(part in sentence for part in PAST_THE_SCHEMA + WITHOUT_PATH)]


def test_malformed_manifests_are_refused(kube, namespace):
    """The API server refuses every malformed manifest. One test checks all: each takes some milliseconds."""
    answers = {text: refusal(kube, namespace, text) for text in REFUSED}
    assert {text: status for text, status in answers.items() if status not in {400, 422}} == {}


def refusal(kube: KubeClient, namespace: str, text: str) -> int | None:
    try:
        create_dry(kube, namespace, text)
    except ApiError as error:
        return error.status
    return None


def test_what_only_the_operator_refuses_is_taken(kube, namespace):
    texts = [text for text, sentence in MALFORMED if any(part in sentence for part in PAST_THE_SCHEMA)]
    assert len(texts) == len(PAST_THE_SCHEMA)
    for text in texts:
        create_dry(kube, namespace, text)


def test_well_formed_manifests_are_taken(kube, namespace):
    for text in WELL_FORMED:
        later = "later:" in text  # a status field written by a later version
        create_dry(kube, namespace, text, "Ignore" if later else "Strict")


@pytest.mark.parametrize(("text", "sentence"), REFUSED_AT_ADMISSION)
def test_what_the_operator_would_leave_out_is_refused_with_its_reason(kube, namespace, text, sentence):
    with pytest.raises(ApiError, match=re.escape(sentence)):
        create_dry(kube, namespace, text)


def put(kube: KubeClient, namespace: str, plural: str, name: str, spec: dict[str, Any]) -> str:
    """Apply an object. Returns its path."""
    kind = next(name for name, (_, own) in PREFIXES.items() if own == plural)
    path = f"/{GROUP}/namespaces/{namespace}/{plural}/{name}"
    kube.apply(path, {"apiVersion": "pywharf.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
    return path


@pytest.mark.parametrize(
    ("before", "after"), [({"repoName": "a"}, {"repoName": "b"}), ({"repoName": "a"}, {}), ({}, {"repoName": "b"})]
)
def test_a_repos_name_stays(kube, namespace, before, after):
    backend: dict[str, Any] = {"backend": {"fileSystem": {}}}
    path = put(kube, namespace, "packagerepos", "demo", backend | before)
    with pytest.raises(ApiError) as refused:
        put(kube, namespace, "packagerepos", "demo", backend | after)
    assert refused.value.status == 422
    assert "repoName" in refused.value.message
    assert (kube.get(path) or {})["spec"].get("repoName") == before.get("repoName")


FOLDERS = [
    CHECKOUT / "examples" / "quickstart",
    CHECKOUT / "examples" / "two-teams",
    CHECKOUT / "examples" / "policy",
    CHECKOUT / "tests" / "golden" / "render" / "every-field",
]


@pytest.mark.parametrize("how", [("--server-side",), ()], ids=["server-side", "client-side"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_applies(cluster: Cluster, kube, namespace, folder: Path, how, tmp_path):
    """A folder applies twice; the second time nothing changes. The test's namespace replaces those it names."""
    documents = [
        document for path in sorted(folder.rglob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
    ]
    objects = [document for document in documents if document["kind"] in PREFIXES]
    for document in objects:
        document["metadata"].pop("namespace", None)
    text = yaml.safe_dump_all(objects)
    apply = ("apply", *how, "--validate=strict", f"--namespace={namespace}", "-f", "-")
    cluster.kubectl(*apply, "--dry-run=server", input=text)
    cluster.kubectl(*apply, input=text)
    versions = resource_versions(kube, namespace)
    cluster.kubectl(*apply, input=text)
    assert resource_versions(kube, namespace) == versions
    assert len(versions) == len(objects)


def resource_versions(kube: KubeClient, namespace: str) -> dict[str, str]:
    items = [
        item for group, plural in PREFIXES.values() for item in kube.list(f"/{group}/namespaces/{namespace}/{plural}")
    ]
    return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in items}


def kustomizations() -> list[Path]:
    return sorted((CHECKOUT / "examples").rglob("kustomization.yaml"))


@pytest.mark.parametrize("path", kustomizations(), ids=lambda path: path.parent.name)
def test_a_kustomization_builds(cluster: Cluster, path: Path):
    built = cluster.kubectl("kustomize", str(path.parent))
    assert [document for document in yaml.safe_load_all(built) if document["kind"] in PREFIXES]


TARGETS = [{"kind": "PackageServer", "name": "pywharf"}]


def test_a_policy_of_ten_thousand_rules(kube, namespace):
    """Each rule of the schema is checked 10,000 times, within what the API server spends on one object."""
    sha256 = "ab" * 32
    deny = [
        {"project": f"stolen-{number}", "versions": ">=2,<2.3", "sha256": sha256 if number % 2 else "cd" * 32}
        for number in range(10_000)
    ]
    path = put(kube, namespace, "packagepolicies", "long", {"targetRefs": TARGETS, "deny": deny})
    assert len((kube.get(path) or {})["spec"]["deny"]) == 10_000
    with pytest.raises(ApiError) as refused:
        put(kube, namespace, "packagepolicies", "longer", {"targetRefs": TARGETS, "deny": [*deny, deny[0]]})
    assert refused.value.status == 422
    assert "10000" in refused.value.message


def test_columns(cluster: Cluster, kube, namespace):
    put(kube, namespace, "packageservers", "demo", {})
    path = put(kube, namespace, "packagerepos", "demo", {"backend": {"fileSystem": {}}})
    condition = {"type": "Ready", "status": "False", "reason": "SecretMissing", "message": "", "observedGeneration": 1}
    condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    kube.patch_status(path, {"conditions": [condition], "index": {"files": 7}})
    where = f"--namespace={namespace}"
    header, row = cluster.kubectl("get", "pkgrepo", where).splitlines()
    assert header.split() == ["NAME", "READY", "URL", "FILES", "UPDATED", "AGE"]
    assert re.match(r"demo\s+False\s+7\s", row)
    header, row = cluster.kubectl("get", "pkgserver", where).splitlines()
    assert header.split() == ["NAME", "READY", "URL", "REPOS", "REPLICAS", "AGE"]
    policy = put(kube, namespace, "packagepolicies", "demo", {"targetRefs": TARGETS, "cooldown": {"minimumAge": "7d"}})
    kube.patch_status(policy, {"conditions": [condition], "targets": 3, "rules": 1, "withheld": {"files": 7}})
    header, row = cluster.kubectl("get", "pkgpolicy", where).splitlines()
    assert header.split() == ["NAME", "READY", "TARGETS", "RULES", "WITHHELD", "AGE"]
    assert re.match(r"demo\s+False\s+3\s+1\s+7\s", row)
    assert len(cluster.kubectl("get", "pywharf", where, "--output=name").splitlines()) == 3
    with pytest.raises(AssertionError, match="timed out"):
        cluster.kubectl("wait", "--for=condition=Ready", "--timeout=1s", where, "pkgrepo/demo")
    kube.patch_status(path, {"conditions": [condition | {"status": "True"}]})
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", where, "pkgrepo/demo")


def test_the_fields_are_explained(cluster: Cluster):
    assert "fileSystem" in cluster.kubectl("explain", "packagerepo.spec.backend")
    assert "DESCRIPTION" in cluster.kubectl("explain", "packageserver.spec.allowedNamespaces")
    assert "minimumAge" in cluster.kubectl("explain", "packagepolicy.spec.cooldown")


RENDERED = sorted((CHECKOUT / "tests" / "golden" / "render").glob("expected-*.yaml"))
WITHOUT_THEIR_CRDS = {"HTTPRoute", "ServiceMonitor"}


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.stem.removeprefix("expected-"))
def test_what_is_rendered_is_taken(cluster: Cluster, namespace, path: Path):
    """The API server accepts every rendered object, checked field by field by its kind's schema and rules."""
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    objects = [document for document in documents if document["kind"] not in WITHOUT_THEIR_CRDS]
    for document in objects:
        document["metadata"]["namespace"] = namespace
        for reference in document["metadata"].get("ownerReferences", ()):
            reference["uid"] = "00000000-0000-0000-0000-000000000000"
    if objects:
        text = yaml.safe_dump_all(objects)
        cluster.kubectl("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-", input=text)


DIGESTS = [f"sha256:{number:064x}" for number in range(64)]


def test_as_much_access_as_there_may_be(kube, namespace):
    """Each rule of the schema holds for 64 entries with 64 subjects each, within what the API server spends."""
    accounts = [{"namespace": "n" * 63, "name": "a" * 240 + str(number)} for number in range(64)]
    access = [
        {"name": f"e{number}", "permission": "Read"}
        | ({"tokenDigests": DIGESTS} if number % 2 else {"serviceAccounts": accounts})
        for number in range(64)
    ]
    spec = {"backend": {"fileSystem": {}}, "access": access}
    path = put(kube, namespace, "packagerepos", "long", spec)
    assert len((kube.get(path) or {})["spec"]["access"]) == 64
    with pytest.raises(ApiError) as refused:
        put(kube, namespace, "packagerepos", "longer", spec | {"access": [*access, access[0] | {"name": "more"}]})
    assert refused.value.status == 422


def test_as_many_projects_as_there_may_be(kube, namespace):
    """The rule that counts the projects of all entries costs no more than the API server spends."""
    projects = [f"{'p' * 190}-{number}" for number in range(250)]
    claims: dict[str, Any] = {
        "oidc": {"issuer": "corp", "claims": {f"c{number}": "*" * 8 + "a" * 504 for number in range(16)}}
    }
    ref: dict[str, Any] = {"gitlab": {"project": "a/b", "namespaceID": 1, "ref": "*a" * 8 + "b" * 496}}
    access = [ENTRY | claims | {"name": f"e{number}", "projects": projects} for number in range(3)]
    access += [ENTRY | ref | {"name": f"r{number}", "projects": projects[:4]} for number in range(61)]
    spec = {"backend": {"fileSystem": {}}, "access": access}
    path = put(kube, namespace, "packagerepos", "long", spec)
    assert len((kube.get(path) or {})["spec"]["access"]) == 64
    access[-1] |= {"projects": projects[:20]}
    with pytest.raises(ApiError) as refused:
        put(kube, namespace, "packagerepos", "longer", spec)
    assert "all entries together may have 1000 projects" in refused.value.message


ENTRY = {"name": "a", "permission": "Read"}
SENTENCES = [
    ({"access": [ENTRY]}, "an entry must have exactly one of tokenDigests, serviceAccounts, github, gitlab, oidc and"),
    ({"access": [ENTRY | {"tokenDigests": DIGESTS[:1], "proxyGroups": ["a"]}]}, "an entry must have exactly one of"),
    ({"access": [ENTRY | {"tokenDigests": ["pywharf_a"]}]}, "it must be sha256: and 64 hexadecimal digits in lower"),
    ({"access": [ENTRY | {"serviceAccounts": [{"namespace": "a", "name": "a*"}]}]}, "or * for every one of the namesp"),
    (
        {"access": [ENTRY | {"github": {"repository": "a/b", "workflow": "c/d.yml", "ownerID": 1}}]},
        "it must be the name of a file in .github/workflows such as release.yml",
    ),
    (
        {"access": [ENTRY | {"tokenDigests": DIGESTS[:1], "expires": "9999-06-01T00:00:00Z"}]},
        "expires must be before the year 9999",
    ),
    ({"access": [ENTRY | {"tokenDigests": DIGESTS[:1]}] * 2}, "Duplicate value"),
    (
        {
            "access": [ENTRY | {"tokenDigests": DIGESTS[:1], "permission": "Publish"}],
            "credentials": {"readOnly": True},
        },
        "credentials.readOnly is true, so nobody publishes; give each entry the permission Read",
    ),
]


@pytest.mark.parametrize(("spec", "sentence"), SENTENCES)
def test_bad_entries_are_refused_in_our_words(kube, namespace, spec, sentence):
    metadata = {"name": "demo"}
    made = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageRepo", "metadata": metadata}
    with pytest.raises(ApiError) as refused:
        create_dry(kube, namespace, yaml.safe_dump(made | {"spec": {"backend": {"fileSystem": {}}} | spec}))
    assert sentence in refused.value.message


def test_an_entry_is_applied_by_its_name(kube, namespace):
    """Two managers may each own an entry of a repo: entries are told apart by their names."""
    path = put(kube, namespace, "packagerepos", "demo", {"backend": {"fileSystem": {}}, "access": []})
    for manager in ("team", "platform"):
        entry = {"name": manager, "permission": "Read", "tokenDigests": DIGESTS[:1]}
        made = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageRepo", "metadata": {"name": "demo"}}
        kube.apply(path, made | {"spec": {"access": [entry]}}, manager)
    entries = (kube.get(path) or {})["spec"]["access"]
    assert [(one["name"], one["projects"]) for one in entries] == [("team", ["*"]), ("platform", ["*"])]
