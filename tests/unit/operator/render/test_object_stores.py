"""Repos in buckets: their secrets, the cloud identity that a server lends, and what servers and Jobs get of both."""

import json
from typing import Any

import msgspec
import pytest

from pywharf.config.object_stores import AzureSpec, GcsSpec, ObjectStoreSpec, S3Spec
from pywharf.core.names import RepoName
from pywharf_operator.local.folder import faults_of, snapshot_of
from pywharf_operator.local.render_command import text_of
from pywharf_operator.render import Environment, KeptRepo, RenderedServer, Resolution, render_server, resolve
from pywharf_operator.spec import ObjectKey
from support.operator.manifest_text import parsed
from support.operator.spec_changes import CERTIFICATE
from support.operator.store_keys import AZURE_KEY, GCS_ACCOUNT, S3_KEYS

ENVIRONMENT = Environment(specs={"s3": S3Spec, "gcs": GcsSpec, "azure": AzureSpec}, image="p:1", session_key=b"k")
BACKENDS: dict[str, dict[str, Any]] = {
    "s3": {"bucket": "wheels", "region": "eu-west-1"},
    "gcs": {"bucket": "wheels"},
    "azure": {"account": "acme", "container": "wheels"},
}
SECRETS = {"s3": S3_KEYS, "gcs": GCS_ACCOUNT, "azure": AZURE_KEY}
CLIENTS = {"anonymousRead": True, "readOnly": True}
LENT = {"ambientIdentity": {"namespaces": ["ml"]}}


def folder(kind: str, *, secret: str | None = None, server: dict[str, Any] | None = None, **backend: Any) -> Resolution:
    """Decide on one repo in a store of that kind; without `secret` it names none."""
    ref = {} if secret is None else {"backendSecretRef": {"name": "keys", "key": "backend"}}
    objects: list[dict[str, Any]] = [
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageServer",
            "metadata": {"name": "pywharf", "namespace": "servers"},
            "spec": {"allowedNamespaces": {"from": "All"}, **(server or {})},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "namespace": "ml", "labels": {"pywharf.dev/credentials": "true"}},
            "stringData": {"backend": secret or "unused"},
        },
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageRepo",
            "metadata": {"name": "a", "namespace": "ml"},
            "spec": {
                "serverRef": {"namespace": "servers"},
                "backend": {kind: BACKENDS[kind] | backend},
                "credentials": CLIENTS | ref,
            },
        },
    ]
    found = parsed("\n---\n".join(json.dumps(one) for one in objects))
    assert found.problems == ()
    return resolve(snapshot_of(found), ENVIRONMENT)


def rendered(resolution: Resolution) -> RenderedServer:
    (verdict,) = resolution.servers
    assert faults_of(resolution, ()) == ()
    return render_server(verdict, ENVIRONMENT)


def spec_of(resolution: Resolution) -> ObjectStoreSpec:
    (verdict,) = resolution.repos
    assert isinstance(verdict.spec, ObjectStoreSpec)
    return verdict.spec


def of_kind(objects: RenderedServer, kind: str) -> list[dict[str, Any]]:
    return [one for one in objects.objects if one["kind"] == kind]


def job_pod(objects: RenderedServer) -> dict[str, Any]:
    (job,) = objects.cron_jobs
    pod: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return pod


def server_pod(objects: RenderedServer) -> dict[str, Any]:
    (deployment,) = of_kind(objects, "Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("kind", BACKENDS)
def test_the_secret_is_a_file_and_stands_nowhere_else(kind):
    objects = rendered(folder(kind, secret=SECRETS[kind], server=LENT))
    hidden = ("s3-secret-value", "AKIAEXAMPLE", "gcs-secret-value", "azure-secret-value")
    for one in objects.objects:
        assert not any(text in str(one) for text in hidden), one["kind"]
    (container,) = job_pod(objects)["containers"]
    assert "--secret_file=/etc/pywharf/a.backend" in container["args"]
    assert not [one for one in container["args"] if "ambient" in one]


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("lent", [True, False])
def test_a_repo_with_keys_of_its_own_has_no_identity(kind, lent):
    """Neither its table nor its Job may fall back to the server's identity, even if its namespace could use it."""
    found = folder(kind, secret=SECRETS[kind], server=LENT if lent else {})
    assert spec_of(found).ambient_identity is False
    objects = rendered(found)
    assert job_pod(objects)["serviceAccountName"] == "pywharf-index"


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_lent_identity(kind):
    account = {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/wheels"}}}
    found = folder(kind, server=LENT | account)
    assert spec_of(found).ambient_identity is True
    objects = rendered(found)
    assert job_pod(objects)["serviceAccountName"] == server_pod(objects)["serviceAccountName"] == "pywharf"
    (container,) = job_pod(objects)["containers"]
    assert "--ambient_identity=true" in container["args"]
    assert [volume["name"] for volume in job_pod(objects)["volumes"]] == ["tmp"]
    annotations = {
        one["metadata"]["name"]: one["metadata"].get("annotations") for one in of_kind(objects, "ServiceAccount")
    }
    assert annotations == {"pywharf": account["serviceAccount"]["annotations"], "pywharf-index": None}
    assert "wheels.backend" not in str(objects.config_map)


def test_an_account_of_another_maker():
    objects = rendered(folder("s3", server=LENT | {"serviceAccount": {"name": "cloud"}}))
    assert job_pod(objects)["serviceAccountName"] == server_pod(objects)["serviceAccountName"] == "cloud"
    assert [one["metadata"]["name"] for one in of_kind(objects, "ServiceAccount")] == ["pywharf-index"]


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_identity_that_is_not_lent(kind):
    (verdict,) = folder(kind, server={"ambientIdentity": {"namespaces": ["other"]}}).repos
    assert (verdict.secrets_resolved.reason, verdict.served) == ("AmbientIdentityNotAllowed", False)


def test_no_volume_and_many_replicas():
    objects = rendered(folder("s3", secret=S3_KEYS, server={"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}))
    assert of_kind(objects, "PersistentVolumeClaim") == []
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert of_kind(objects, "HorizontalPodAutoscaler")
    for pod in (server_pod(objects), job_pod(objects)):
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert "affinity" not in job_pod(objects)


MALFORMED = [
    ("s3", "hush", "is not TOML; it needs access_key_id and secret_access_key"),
    ("s3", 'access_key_id = "hush"', "lacks secret_access_key"),
    ("s3", GCS_ACCOUNT.replace("gcs-secret-value", "hush"), "is not TOML"),
    ("s3", 'access_key_id = "a"\nsecret_access_key = "b c hush"', "secret_access_key must be a text"),
    ("gcs", S3_KEYS, "is no JSON object"),
    ("gcs", json.dumps({"type": "service_account", "private_key": "hush"}), "lacks client_email"),
    ("azure", 'account_key = "hush"\nsas_token = "hush"', "has account_key and sas_token; give one"),
    ("azure", 'client_id = "hush"\ntenant_id = "hush"', "lacks client_secret"),
]


@pytest.mark.parametrize(("kind", "secret", "words"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_secret_is_the_repo_s_fault_and_is_not_shown(kind, secret, words):
    found = folder(kind, secret=secret)
    (verdict,) = found.repos
    assert (verdict.accepted.reason, verdict.secrets_resolved.reason) == ("Accepted", "SecretInvalid")
    message = verdict.secrets_resolved.message
    assert message.startswith("spec.credentials.backendSecretRef: the value of 'backend' in Secret ml/keys cannot be")
    assert words in message
    assert "hush" not in message
    (server,) = found.servers
    objects = render_server(server, ENVIRONMENT)
    assert objects.config_rendered.status is True
    assert objects.cron_jobs == ()
    assert "hush" not in text_of(list(objects.objects))


def test_what_the_table_says():
    endpoint = {"endpoint": "http://minio.storage.svc:9000", "allowHTTP": True}
    given = {"prefix": "a/", "caBundle": CERTIFICATE, "download": "stream", "pollIntervalSeconds": 9, **endpoint}
    found = folder("s3", secret=S3_KEYS, server={"allowedEndpoints": ["minio.storage.svc:9000"]}, **given)
    spec = spec_of(found)
    assert isinstance(spec, S3Spec)
    assert (spec.bucket, spec.prefix, spec.region) == ("wheels", "a/", "eu-west-1")
    assert (spec.endpoint, spec.allow_http, spec.ca_bundle) == (given["endpoint"], True, CERTIFICATE)
    assert (spec.download, spec.poll_interval, spec.index_name) == ("stream", 9, "index.json")
    (container,) = job_pod(rendered(found))["containers"]
    # What concerns clients and replicas changes no Job.
    assert not [one for one in container["args"] if one.startswith(("--download", "--poll_interval"))]
    assert f"--ca_bundle={CERTIFICATE}" in container["args"]


ENDPOINTS = [
    # endpoint, allowed endpoints, whether the repo is accepted
    ("", None, True),
    ("", [], True),
    ("https://s3.eu-west-1.amazonaws.com", None, False),
    ("https://minio.storage.svc:9000", ["minio.storage.svc"], False),
    ("https://minio.storage.svc:9000", ["minio.storage.svc:9000"], True),
    ("https://169.254.169.254", ["*"], False),
    ("https://10.0.0.5:9000", ["*"], False),
    ("https://10.0.0.5:9000", ["10.0.0.5:9000"], True),
]


@pytest.mark.parametrize(("endpoint", "listed", "accepted"), ENDPOINTS, ids=range(len(ENDPOINTS)))
def test_which_endpoints_are_allowed(endpoint, listed, accepted):
    server = {} if listed is None else {"allowedEndpoints": listed}
    (verdict,) = folder("s3", secret=S3_KEYS, server=server, endpoint=endpoint).repos
    assert verdict.accepted.reason == ("Accepted" if accepted else "EndpointNotAllowed")


OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def lent_repo(name: str, namespace: str, created: str, backend: dict[str, Any], **credentials: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageRepo",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {
            "serverRef": {"namespace": "servers"},
            "backend": backend,
            "credentials": CLIENTS | credentials,
        },
    }


LENDING: dict[str, Any] = {
    "apiVersion": "pywharf.dev/v1alpha1",
    "kind": "PackageServer",
    "metadata": {"name": "pywharf", "namespace": "servers"},
    "spec": {"allowedNamespaces": {"from": "All"}, "ambientIdentity": {"namespaces": ["b", "c"]}},
}


def reasons_of(*repos: dict[str, Any], kept: tuple[KeptRepo, ...] = ()) -> dict[str, str]:
    keys = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys", "namespace": "c", "labels": {"pywharf.dev/credentials": "true"}},
        "stringData": {"backend": S3_KEYS},
    }
    found = parsed("\n---\n".join(json.dumps(one) for one in (LENDING, keys, *repos)))
    assert found.problems == ()
    snapshot = msgspec.structs.replace(snapshot_of(found), kept=kept)
    return {str(one.repo.key): one.accepted.reason for one in resolve(snapshot, ENVIRONMENT).repos}


def at(prefix: str, bucket: str = "wheels") -> dict[str, Any]:
    return {"s3": {"bucket": bucket, "prefix": prefix}}


PLACES = [
    # the older repo's backend, the newer one's, whether both are accepted
    (at("a/"), at("b/"), True),
    (at("a/"), at("ab/"), True),
    (at("a/"), at("a/", "other"), True),
    (at("a/"), {"gcs": {"bucket": "wheels", "prefix": "a/"}}, True),
    (at("a/"), at("a/"), False),
    (at(""), at("a/"), False),
    (at("a/"), at(""), False),
    (at("a/b/"), at("a/"), False),
    (at("a/"), at("a/b/c/"), False),
    (
        {"azure": {"account": "acme", "container": "wheels"}},
        {"azure": {"account": "acme", "container": "wheels", "prefix": "a/"}},
        False,
    ),
    (
        {"azure": {"account": "acme", "container": "wheels"}},
        {"azure": {"account": "other", "container": "wheels"}},
        True,
    ),
]


@pytest.mark.parametrize(("older", "newer", "both"), PLACES, ids=range(len(PLACES)))
def test_no_repo_reaches_another_namespace_s_packages_by_the_lent_identity(older, newer, both):
    found = reasons_of(lent_repo("new", "b", NEW, newer), lent_repo("old", "c", OLD, older))
    assert found == {"b/new": "Accepted" if both else "StorageTaken", "c/old": "Accepted"}


def test_repos_of_one_namespace_may_share_a_bucket():
    found = reasons_of(lent_repo("new", "b", NEW, at("a/")), lent_repo("old", "b", OLD, at("")))
    assert set(found.values()) == {"Accepted"}


def test_a_repo_with_keys_of_its_own_neither_holds_nor_lacks_a_place():
    own = {"backendSecretRef": {"name": "keys", "key": "backend"}}
    for created in (OLD, NEW):
        found = reasons_of(lent_repo("one", "b", NEW, at("a/")), lent_repo("own", "c", created, at("a/"), **own))
        assert set(found.values()) == {"Accepted"}


def test_a_repo_keeps_its_place_while_it_is_broken_or_unreadable():
    broken = lent_repo("old", "c", OLD, at("a/"))
    broken["spec"]["index"] = {"schedule": "* * * * *"}
    found = reasons_of(lent_repo("new", "b", NEW, at("a/")), broken)
    assert found == {"b/new": "StorageTaken", "c/old": "ScheduleTooFrequent"}
    table = {"type": "s3", "bucket": "wheels", "prefix": "a/", "ambient_identity": True}
    server, repo = ObjectKey("servers", "pywharf"), ObjectKey("c", "old")
    one = KeptRepo(server=server, repo=repo, name=RepoName("old"), table=table, admin_table=None)
    assert reasons_of(lent_repo("new", "b", NEW, at("a/")), kept=(one,)) == {"b/new": "StorageTaken"}


def test_the_message_tells_no_tenant_about_another():
    repos = lent_repo("new", "b", NEW, at("a/")), lent_repo("old", "c", OLD, at("a/"))
    found = parsed("\n---\n".join(json.dumps(one) for one in (LENDING, *repos)))
    (refused, _) = resolve(snapshot_of(found), ENVIRONMENT).repos
    assert refused.accepted.message == (
        "An older PackageRepo of another namespace keeps its packages in this part of the bucket, with the cloud "
        "identity of PackageServer servers/pywharf; choose another prefix or bucket, or name keys of your own by "
        "spec.credentials.backendSecretRef."
    )


@pytest.mark.parametrize(("listed", "served"), [(["c"], True), (["b"], False), ([], False)])
def test_a_repo_that_cannot_be_read_loses_an_identity_that_is_no_longer_lent(listed, served):
    table = {"type": "s3", "bucket": "wheels", "ambient_identity": True}
    server, repo = ObjectKey("servers", "pywharf"), ObjectKey("c", "old")
    one = KeptRepo(server=server, repo=repo, name=RepoName("old"), table=table, admin_table=None)
    spec = LENDING["spec"] | {"ambientIdentity": {"namespaces": listed}}
    found = parsed(json.dumps(LENDING | {"spec": spec}))
    (verdict,) = resolve(msgspec.structs.replace(snapshot_of(found), kept=(one,)), ENVIRONMENT).servers
    assert verdict.kept == ((one,) if served else ())
