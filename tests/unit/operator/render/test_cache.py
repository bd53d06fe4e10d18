"""The pull-through cache and several sources: what servers get of them, and what each repo may use."""

import base64
import json
import tomllib
from typing import Any

import msgspec
import pytest

from pywharf.config.cache_config import parse_cache_config
from pywharf.config.object_stores import S3Spec
from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.local.folder import faults_of, snapshot_of
from pywharf_operator.render import Environment, RenderedServer, Resolution, render_server, repos_applied, resolve
from pywharf_operator.render.objects.config_map import CONFIG_KEY, texts_of
from pywharf_operator.render.resolve.fallback import fallback_credentials
from pywharf_operator.render.resolve.repo_config import waits_for_cache
from pywharf_operator.spec import ObjectKey
from support.operator.manifest_text import parsed_each

ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec, "s3": S3Spec}, image="p:1", session_key=b"k")
VOLUME = {"fileSystem": {"size": "10Gi"}}
CLIENTS = {"anonymousRead": True, "readOnly": True}
PARTNER = {"url": "https://a.example/simple/", "projects": ["acme-*"], "credentialsSecretRef": {"name": "partner"}}
REST = {"url": "https://pypi.org/simple/"}
HOSTS = ["a.example", "b.example", "pypi.org"]


def server(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageServer",
        "metadata": {"name": "pywharf", "namespace": "ml", "uid": "u"},
        "spec": {"storage": {"size": "1Gi"}, "allowedEndpoints": HOSTS} | spec,
    }


def repo(name: str = "a", **upstream: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageRepo",
        "metadata": {"name": name, "namespace": "ml", "uid": name},
        "spec": {"backend": {"fileSystem": {}}, "credentials": CLIENTS, "upstream": upstream},
    }


def secret(name: str = "partner", labels: dict[str, str] | None = None, **values: str) -> dict[str, Any]:
    values = values or {"username": "acme", "password": "hush-hush"}
    labels = {"pywharf.dev/credentials": "true"} if labels is None else labels
    metadata = {"name": name, "namespace": "ml", "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def resolved(*objects: dict[str, Any]) -> Resolution:
    found = parsed_each(*(json.dumps(one) for one in objects))
    assert found.problems == ()
    return resolve(snapshot_of(found), ENVIRONMENT)


def rendered(*objects: dict[str, Any]) -> RenderedServer:
    resolution = resolved(*objects)
    assert faults_of(resolution, ()) == ()
    return render_server(resolution.servers[0], ENVIRONMENT)


def of_kind(made: RenderedServer, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in made.objects if one["kind"] == kind}


def pod_of(made: RenderedServer) -> dict[str, Any]:
    pod: dict[str, Any] = of_kind(made, "Deployment")["pywharf"]["spec"]["template"]
    return pod


def config_of(made: RenderedServer) -> dict[str, Any]:
    return tomllib.loads(texts_of(made.config_map)[CONFIG_KEY])


def credentials_of(made: RenderedServer) -> dict[str, bytes]:
    return {
        key: base64.b64decode(value)
        for one in made.credentials
        for key, value in one["data"].items()
        if not key.startswith("revision-")
    }


# The cache


def test_without_a_cache_there_is_nothing_of_it():
    made = rendered(server(), repo())
    assert list(texts_of(made.config_map)) == ["config.toml", "admin_secret.toml", "repos.toml"]
    assert "cache" not in json.dumps(pod_of(made))
    assert list(of_kind(made, "PersistentVolumeClaim")) == ["pywharf-data"]


def test_pods_without_the_cache_get_what_they_can_open():
    """A repo of the mode Cached cannot be opened by a pod that was started before the server had a cache."""
    found = parsed_each(
        *(json.dumps(one) for one in (server(cache=VOLUME), secret(), repo(mode="Cached", sources=[PARTNER, REST])))
    )
    environment = msgspec.structs.replace(ENVIRONMENT, has_pods_without_cache=True)
    resolution = resolve(snapshot_of(found), environment)
    assert faults_of(resolution, ()) == ()
    (one,) = resolution.repos
    made = render_server(resolution.servers[0], environment)
    upstream = config_of(made)["a"]["upstream"]
    assert "mode" not in upstream  # Pages, the default
    assert [source["url"] for source in upstream["sources"]] == [PARTNER["url"], REST["url"]]
    assert set(credentials_of(made).values()) == {b"acme", b"hush-hush"}
    assert "--cache_config=/etc/pywharf/cache.toml" in pod_of(made)["spec"]["containers"][0]["args"]
    assert one.spec is not None
    assert waits_for_cache(one.repo, resolution.servers[0].server, one.spec)


@pytest.mark.parametrize(
    "given",
    [
        {"podTemplate": {"metadata": {"annotations": {"pywharf.dev/cache": None}}}},
        {"podTemplate": {"metadata": {"annotations": {"pywharf.dev/cache": "x"}}}},
        {"annotations": {"team": "ml"}},
    ],
    ids=["null", "another", "with others"],
)
def test_pods_with_the_cache_are_known_whatever_their_template_says(given):
    expected = pod_of(rendered(server(cache=VOLUME)))["metadata"]["annotations"]["pywharf.dev/cache"]
    assert pod_of(rendered(server(cache=VOLUME, **given)))["metadata"]["annotations"]["pywharf.dev/cache"] == expected


def test_a_cache_on_a_volume():
    volume = {"size": "10Gi", "storageClassName": "slow", "accessModes": ["ReadWriteMany"]}
    made = rendered(server(cache={"fileSystem": volume, "keepPages": "2d"}, storage=None))
    claim = of_kind(made, "PersistentVolumeClaim")["pywharf-cache"]
    assert "ownerReferences" not in claim["metadata"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "10Gi"}},
        "storageClassName": "slow",
    }
    config = tomllib.loads(texts_of(made.config_map)["cache.toml"])
    assert config == {
        "type": "file_system",
        "folder": "/var/lib/pywharf-cache/kept",
        "max_bytes": 8 * 1024**3,
        "keep_pages": 2 * 86400,
    }
    pod = pod_of(made)["spec"]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "pywharf-cache"}} in pod["volumes"]
    (container,) = pod["containers"]
    assert {"name": "cache", "mountPath": "/var/lib/pywharf-cache"} in container["volumeMounts"]
    assert "--cache_config=/etc/pywharf/cache.toml" in container["args"]


@pytest.mark.parametrize(
    ("cache", "most"),
    [
        (VOLUME, 8 * 1024**3),
        (VOLUME | {"maxBytes": 5}, 5),
        ({"fileSystem": {"existingClaim": "mine"}}, None),
        ({"fileSystem": {"size": 1}}, 1),
        ({"s3": {"bucket": "abc"}}, None),
    ],
    ids=["of the volume", "as given", "of unknown size", "of a tiny volume", "in a bucket"],
)
def test_how_much_is_kept(cache, most):
    config = tomllib.loads(texts_of(rendered(server(cache=cache)).config_map)["cache.toml"])
    assert config.get("max_bytes") == most


@pytest.mark.parametrize(
    ("storage", "cache", "strategy"),
    [
        ({"size": "1Gi"}, None, "Recreate"),
        (None, None, "RollingUpdate"),
        (None, VOLUME, "Recreate"),
        ({"size": "1Gi", "accessModes": ["ReadWriteMany"]}, VOLUME, "Recreate"),
        (None, {"fileSystem": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}}, "RollingUpdate"),
        (None, {"s3": {"bucket": "abc"}}, "RollingUpdate"),
    ],
)
def test_two_pods_never_need_one_unshared_volume(storage, cache, strategy):
    made = rendered(server(storage=storage, cache=cache))
    assert of_kind(made, "Deployment")["pywharf"]["spec"]["strategy"]["type"] == strategy


def test_an_existing_claim_is_mounted_and_none_is_made():
    made = rendered(server(cache={"fileSystem": {"existingClaim": "mine"}}))
    assert list(of_kind(made, "PersistentVolumeClaim")) == ["pywharf-data"]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "mine"}} in pod_of(made)["spec"]["volumes"]


SPOOL = int(16 * 1024**3 * 0.9)
STORES: dict[str, dict[str, Any]] = {
    "s3": {"bucket": "kept", "prefix": "a/", "region": "eu-west-1"},
    "gcs": {"bucket": "kept"},
    "azure": {"account": "acme", "container": "kept"},
}


@pytest.mark.parametrize("kind", STORES)
def test_a_cache_in_a_bucket_with_keys(kind):
    where = STORES[kind] | {"endpoint": "http://minio.example:9000", "allowHTTP": True}
    made = rendered(server(cache={kind: where, "credentialsSecretRef": {"name": "keys", "key": "toml"}}))
    text = texts_of(made.config_map)["cache.toml"]
    config = msgspec.to_builtins(parse_cache_config(text))
    shared = {"endpoint": "http://minio.example:9000", "allow_http": True}
    secret_file = {"secret": {"file": "/etc/pywharf-cache/secret"}}
    assert config == {"type": kind, **STORES[kind], **shared, **secret_file, "max_spool_bytes": SPOOL}
    pod = pod_of(made)["spec"]
    volume = {
        "secretName": "keys",
        "defaultMode": 0o440,
        "items": [{"key": "toml", "path": "secret"}],
    }
    assert {"name": "cache-secret", "secret": volume} in pod["volumes"]
    mount = {"name": "cache-secret", "mountPath": "/etc/pywharf-cache", "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]
    (endpoints,) = [arg for arg in pod["containers"][0]["args"] if arg.startswith("--allowed_endpoints=")]
    assert "minio" not in endpoints  # no repo, and no redirect, may lead there
    assert {"name": "cache", "mountPath": "/var/lib/pywharf/upstream-cache"} in pod["containers"][0]["volumeMounts"]
    assert {"name": "cache", "emptyDir": {"sizeLimit": "16Gi"}} in pod["volumes"]


@pytest.mark.parametrize("kind", STORES)
def test_a_cache_in_a_bucket_with_the_pods_identity(kind):
    """The metadata service is open to the server's pods alone, not to Jobs of repos that were lent nothing."""
    made = rendered(server(cache={kind: STORES[kind]}), repo())
    config = msgspec.to_builtins(parse_cache_config(texts_of(made.config_map)["cache.toml"]))
    assert config == {"type": kind, **STORES[kind], "ambient_identity": True, "max_spool_bytes": SPOOL}
    policies = of_kind(made, "NetworkPolicy")
    assert policies["pywharf"]["spec"]["egress"] == [{}]
    assert policies["pywharf-index"]["spec"]["egress"] != [{}]


@pytest.mark.parametrize(
    "cache", [None, VOLUME, {"s3": {"bucket": "a-b"}, "credentialsSecretRef": {"name": "k", "key": "k"}}]
)
def test_otherwise_the_metadata_service_stays_blocked(cache):
    policies = of_kind(rendered(server(cache=cache)), "NetworkPolicy")
    assert policies["pywharf"]["spec"]["egress"] == policies["pywharf-index"]["spec"]["egress"] != [{}]


def test_uploads_and_fetched_files_share_the_limit_of_the_node_s_disk():
    """Otherwise a kubelet would evict the pod."""
    limits = {"resources": {"limits": {"ephemeral-storage": "8Gi"}}}
    for cache, share in ((None, 8), ({"s3": {"bucket": "abc"}}, 4)):
        made = rendered(server(storage=None, cache=cache, **limits))
        (container,) = pod_of(made)["spec"]["containers"]
        most = int(share * 1024**3 * 0.9)
        assert f"--max_staged_bytes={most}" in container["args"]
        text = texts_of(made.config_map).get("cache.toml", "")
        assert not text or tomllib.loads(text)["max_spool_bytes"] == most
    (container,) = pod_of(rendered(server(storage=None, cache={"s3": {"bucket": "abc"}})))["spec"]["containers"]
    assert container["resources"]["limits"]["ephemeral-storage"] == "36Gi"  # twice 16, and 4 for what else there is


def test_a_change_of_the_cache_starts_new_pods_and_one_of_repos_does_not():
    def annotation(*objects: dict[str, Any]) -> str:
        return str(pod_of(rendered(*objects))["metadata"]["annotations"]["pywharf.dev/cache"])

    before = annotation(server(cache=VOLUME))
    assert annotation(server(cache=VOLUME), repo(mode="Cached")) == before
    assert annotation(server(cache=VOLUME | {"keepPages": "1d"})) != before


def test_jobs_do_not_mount_the_cache():
    made = rendered(server(cache=VOLUME), repo(mode="Cached"))
    (job,) = made.cron_jobs
    assert "pywharf-cache" not in json.dumps(job)
    assert "podAffinity" in json.dumps(job)  # they do mount the packages' volume


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [("cache/", "StorageTaken"), ("cache/a/", "StorageTaken"), ("", "StorageTaken"), ("other/", "Accepted")],
)
@pytest.mark.parametrize("credentials", [None, {"name": "keys", "key": "toml"}], ids=["identity", "keys"])
def test_no_repo_with_the_pods_identity_lies_in_the_cache(prefix, reason, credentials):
    """Its owner could otherwise replace files that all repos of the server serve; nor may one of the own namespace."""
    cache = {"s3": {"bucket": "shared", "prefix": "cache/"}, "credentialsSecretRef": credentials}
    lent = {"backend": {"s3": {"bucket": "shared", "prefix": prefix}}, "credentials": CLIENTS}
    found = resolved(server(cache=cache, ambientIdentity={"namespaces": ["ml"]}), repo() | {"spec": lent})
    assert found.repos[0].accepted.reason == reason
    if reason != "Accepted":
        assert "keeps its cache in this part of the bucket" in found.repos[0].accepted.message


# Sources


def test_sources_with_credentials_in_files():
    made = rendered(server(cache=VOLUME), secret(), repo(mode="Cached", sources=[PARTNER, REST]))
    upstream = config_of(made)["a"]["upstream"]
    first, rest = upstream["sources"]
    assert (upstream["mode"], rest) == ("Cached", REST)
    assert (first["url"], first["projects"]) == (PARTNER["url"], ["acme-*"])
    files = {field: first[field]["file"].removeprefix("/etc/pywharf/") for field in ("username", "password")}
    assert credentials_of(made) == {files["username"]: b"acme", files["password"]: b"hush-hush"}
    others = [one for one in made.objects if one["kind"] != "Secret"]
    assert "hush-hush" not in json.dumps(others) + repr(made)


def test_sources_take_the_part_of_the_server_s_url():
    defaults = {"url": "https://b.example/simple/", "mode": "Pages", "reserved": ["acme-*"]}
    made = rendered(server(upstream=defaults), repo(sources=[REST]), repo("b"))
    config = config_of(made)
    assert config["a"]["upstream"] == {"sources": [REST], "reserved": ["acme-*"]}
    assert config["b"]["upstream"] == {"url": "https://b.example/simple/", "reserved": ["acme-*"]}


CASES: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "missing": ([], "SecretNotFound", "there is no Secret ml/partner with the label"),
    "unlabelled": ([secret(labels={})], "SecretNotLabelled", "Secret ml/partner lacks the label"),
    "no user name": ([secret(password="x")], "SecretKeyMissing", "Secret ml/partner has no key 'username'"),
    "no password": ([secret(username="x")], "SecretKeyMissing", "Secret ml/partner has no key 'password'"),
    "empty": ([secret(username="x", password="")], "SecretInvalid", "the value of 'password'"),
    "two lines": ([secret(username="x", password="hush\nhush")], "SecretInvalid", "holds line breaks or other"),
    "a colon": ([secret(username="hush:x", password="x")], "SecretInvalid", "holds a colon, which no user name may"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_source_s_secret_at_fault_is_its_repo_s_alone(case):
    secrets, reason, words = CASES[case]
    found = resolved(server(), *secrets, repo(sources=[REST, PARTNER]), repo("b"))
    broken, fine = found.repos
    assert (broken.served, fine.served) == (False, True)
    assert broken.secrets_resolved.reason == reason
    assert f"spec.upstream.sources[1].credentialsSecretRef: {words}"[:40] in broken.secrets_resolved.message
    assert words in broken.secrets_resolved.message
    assert "hush" not in broken.secrets_resolved.message
    assert list(config_of(render_server(found.servers[0], ENVIRONMENT)))[2:] == ["b"]


def test_a_value_follows_its_url_and_not_its_position():
    """While replicas have the older configuration, no index is sent what is meant for another."""
    before = rendered(server(), secret(), repo(sources=[PARTNER, REST]))
    moved = PARTNER | {"url": "https://b.example/simple/"}
    for sources, same in (([moved, REST], False), ([REST], False), ([REST, PARTNER], True)):
        after = resolved(server(), secret(), repo(sources=sources))
        wanted = render_server(after.servers[0], ENVIRONMENT)
        made = fallback_credentials(after.servers[0], before.config_map, wanted.config_map, b"k")
        assert made is not None
        values = {
            key: base64.b64decode(value) for one in made for key, value in one["data"].items() if key.startswith("a.")
        }
        assert values.keys() == credentials_of(before).keys()
        assert (values == credentials_of(before)) is same
        assert (b"hush-hush" in values.values()) is same


def test_a_kept_repo_keeps_what_its_sources_need():
    made = rendered(server(), secret(), repo(sources=[PARTNER, REST]))
    (kept,) = repos_applied(ObjectKey("ml", "pywharf"), made.config_map, made.credentials, {"ml"})
    found = parsed_each(json.dumps(server()))
    snapshot = msgspec.structs.replace(snapshot_of(found), kept=(kept,))
    again = render_server(resolve(snapshot, ENVIRONMENT).servers[0], ENVIRONMENT)
    assert (again.config_map, again.credentials) == (made.config_map, made.credentials)


def test_another_secret_for_the_same_index_is_another_value():
    other = PARTNER | {"projects": ["b"], "credentialsSecretRef": {"name": "second"}}
    made = rendered(server(), secret(), secret("second"), repo(sources=[PARTNER, other]))
    assert len(credentials_of(made)) == 4
