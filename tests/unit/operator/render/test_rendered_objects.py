"""The ConfigMap and the Secret: exactly what the server reads, with a revision that does not reveal a weak secret."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.config.object_stores import S3Spec
from pywharf.config.repo_config import BackendSpec, FileSystemSpec, SecretRef, config_digest, parse_config
from pywharf.core.names import RepoName
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, render_server, resolve, schedule_of
from pywharf_operator.render.objects.credentials import revision
from pywharf_operator.render.pod.strategic_merge import merged_pod_template
from pywharf_operator.spec import PackageRepo
from support.operator.manifest_text import parsed
from support.operator.store_keys import S3_KEYS

SPECS: dict[str, type[BackendSpec]] = {"file_system": FileSystemSpec, "s3": S3Spec}
FOLDER = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf, namespace: ml}
spec: {storage: {size: 1Gi}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: ml, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: READ, write: "w\\u00e4ite \\\\x41", backend: KEYS}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: one.two, namespace: ml}
spec:
  backend: {fileSystem: {maxFileBytes: 7}}
  credentials: {readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}}
  index: {syncIntervalSeconds: 5}
  upstream: {mode: None, reserved: ["acme-*"], allowShadowing: [x]}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: wheels, namespace: ml}
spec:
  backend: {s3: {bucket: abc, prefix: a/}}
  credentials: {anonymousRead: true, readOnly: true, backendSecretRef: {name: keys, key: backend}}
"""


def rendered(text=FOLDER, **environment):
    made = Environment(specs=SPECS, **environment)
    found = parsed(text.replace("KEYS", json.dumps(S3_KEYS)))
    assert found.problems == ()
    (server,) = resolve(snapshot_of(found), made).servers
    return render_server(server, made)


def test_the_server_reads_what_is_rendered():
    objects = rendered(credentials_folder="/creds")
    data = objects.config_map["data"]
    config = parse_config(data["config.toml"], data["admin_secret.toml"], specs=SPECS)
    assert config.repos == {
        RepoName("one.two"): FileSystemSpec(
            read_secret=SecretRef(file="/creds/one.two.read"),
            write_secret=SecretRef(file="/creds/one.two.write"),
            index_filename="index.json",
            max_file_bytes=7,
            sync_index_interval=5,
            owner="ml/one.two",
            upstream=config.repos[RepoName("one.two")].upstream,
        ),
        RepoName("wheels"): S3Spec(bucket="abc", prefix="a/", anonymous_read=True, index_filename="index.json"),
    }
    upstream = config.repos[RepoName("one.two")].upstream
    assert (upstream.mode, upstream.reserved, upstream.allow_shadowing) == ("None", ("acme-*",), ("x",))
    assert {name: secret.file for name, secret in config.admin_secrets.items()} == {"wheels": "/creds/wheels.backend"}
    assert config.credentials_revision_file == ("/creds/revision-0",)
    secrets = {key: base64.b64decode(value) for key, value in objects.credentials[0]["data"].items()}
    assert secrets == {
        "one.two.read": b"READ",
        "one.two.write": "w\u00e4ite \\x41".encode(),
        "wheels.backend": S3_KEYS.encode(),
        "revision-0": (config.credentials_revision or "").encode(),
    }


def test_the_digest_is_that_of_the_texts():
    objects = rendered()
    data = objects.config_map["data"]
    assert objects.digest == config_digest(data["config.toml"], data["admin_secret.toml"])


def test_the_pod_template_is_made_once(monkeypatch):
    """A user's patch is merged into the server's template where it is checked, and nowhere else."""
    made = []

    def merge(base, patch, *path):
        made.append(patch)
        return merged_pod_template(base, patch, *path)

    monkeypatch.setattr("pywharf_operator.render.pod.pod_template.merged_pod_template", merge)
    objects = rendered()
    assert len(made) == 1
    assert {one["kind"] for one in objects.workload} >= {"Deployment"}
    assert len(objects.cron_jobs) == 2


def test_no_secret_stands_in_the_config_map():
    text = str(rendered().config_map)
    assert "READ" not in text
    assert "s3-secret-value" not in text


def test_metadata():
    objects = rendered()
    for made, name in ((objects.config_map, "pywharf-config"), (objects.credentials[0], "pywharf-credentials")):
        metadata = made["metadata"]
        assert (metadata["name"], metadata["namespace"]) == (name, "ml")
        assert metadata["labels"]["pywharf.dev/server"] == "pywharf"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "pywharf-operator"
        assert all(len(value) <= 63 for value in metadata["labels"].values())


def test_the_revision_is_keyed():
    """Without the key, nobody can try common passwords against the revision."""
    objects = rendered(session_key=b"k")
    content = {k: base64.b64decode(v) for k, v in objects.credentials[0]["data"].items() if k != "revision-0"}
    found = base64.b64decode(objects.credentials[0]["data"]["revision-0"]).decode()
    canonical = b"".join(
        len(part).to_bytes(8, "big") + part for key in sorted(content) for part in (key.encode(), content[key])
    )
    assert found == hmac.new(b"k", canonical, hashlib.sha256).hexdigest() == revision(content, b"k")
    assert found != base64.b64decode(rendered(session_key=b"l").credentials[0]["data"]["revision-0"]).decode()
    assert found in objects.config_map["data"]["config.toml"]


CONTENTS = st.dictionaries(st.text("ab.", min_size=1, max_size=4), st.binary(max_size=4), max_size=4)


@given(CONTENTS, CONTENTS)
def test_revisions_differ_exactly_where_the_content_does(one, two):
    assert (revision(one, b"k") == revision(two, b"k")) == (one == two)
    assert revision(dict(reversed(one.items())), b"k") == revision(one, b"k")


@pytest.mark.parametrize("change", [("READ", "READ2"), ("key: read}", "key: backend}"), ("one.two", "one-two")])
def test_a_change_of_any_secret_changes_the_revision(change):
    changed = rendered(FOLDER.replace(*change))
    assert changed.credentials[0]["data"]["revision-0"] != rendered().credentials[0]["data"]["revision-0"]


def test_rendering_is_a_function():
    assert rendered(session_key=b"k") == rendered(session_key=b"k")


def test_the_default_schedule_is_hourly_and_spread():
    def at(name):
        text = f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {{name: {name}}}
spec: {{backend: {{fileSystem: {{}}}}}}
"""
        (repo,) = parsed(text).of(PackageRepo)
        return schedule_of(repo)

    minutes = [int(at(f"repo-{i}").removesuffix(" * * * *")) for i in range(300)]
    assert at("repo-1") == at("repo-1")
    assert set(minutes) <= set(range(60))
    assert len(set(minutes)) > 50
