"""Check the one rule that extracts a secret's text, wherever the secret comes from."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.backends.secret_flags import given_secret
from pywharf.config.repo_config import FileSystemSpec, GithubSpec
from pywharf.config.settings import ServerSettings, UpdateIndexSettings
from pywharf.core.secret_text import secret_text
from pywharf.serving.config_source import ConfigSource
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.local.up.schedules import jobs_of
from pywharf_operator.render import Environment, resolve
from support.manifest_text import parsed

BOM = b"\xef\xbb\xbf"
CASES = [
    (b"s3cret", "s3cret"),
    (b"s3cret\n", "s3cret"),
    (b"s3cret\r\n\r\n", "s3cret"),
    (BOM + b"s3cret", "s3cret"),
    (BOM + b"s3cret\n", "s3cret"),
    (b" s3 cret ", " s3 cret "),
    ("schlüssel\n".encode(), "schlüssel"),
    (b"s3" + BOM + b"cret", "s3\ufeffcret"),
]
EMPTY = [b"", b"\n", b"\r\n\n", BOM, BOM + b"\n"]


@pytest.mark.parametrize(("content", "text"), CASES)
def test_bytes_and_texts_alike(content, text):
    assert secret_text(content) == secret_text(content.decode()) == text


@given(st.text())
def test_a_byte_order_mark_and_line_ends_make_no_difference(text):
    plain = secret_text(text)
    if not plain.startswith("\ufeff"):
        assert secret_text(f"\ufeff{plain}\r\n") == plain


@pytest.mark.parametrize(("content", "text"), CASES)
def test_a_command_s_file(tmp_path, content, text):
    (tmp_path / "secret").write_bytes(content)
    assert given_secret(UpdateIndexSettings(secret_file=str(tmp_path / "secret"))) == text


@pytest.mark.parametrize(("content", "text"), CASES)
def test_the_server_s_file(tmp_path, content, text):
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "config.toml").write_text(
        f'[a]\ntype = "file_system"\nread_secret = {{file = "{tmp_path}/secret"}}\nwrite_secret = "w"\n'
    )
    settings = ServerSettings(root=str(tmp_path), config=str(tmp_path / "config.toml"))
    loaded = ConfigSource(settings, {"file_system": FileSystemSpec}).load()
    (definition,) = loaded.repos.values()
    assert definition.credentials.read == text


def resolved(content):
    manifests = f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {{name: pywharf, namespace: ml}}
spec: {{storage: {{size: 1Gi}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: ml, labels: {{pywharf.dev/credentials: "true"}}}}
data: {{value: {base64.b64encode(content).decode() or '""'}}}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {{name: a, namespace: ml}}
spec:
  backend: {{github: {{owner: acme, repo: wheels}}}}
  credentials:
    writeSecretRef: {{name: keys, key: value}}
    backendSecretRef: {{name: keys, key: value}}
"""
    found = parsed(manifests)
    assert found.problems == ()
    (verdict,) = resolve(snapshot_of(found), Environment(specs={"github": GithubSpec})).repos
    return verdict


@pytest.mark.parametrize(("content", "text"), CASES)
def test_a_secret_of_the_cluster_in_a_schedule_of_up(content, text):
    (job,) = jobs_of((resolved(content),)).values()
    assert job.secret == text


@pytest.mark.parametrize("content", EMPTY)
def test_nothing_else_is_an_empty_secret(content):
    assert secret_text(content) == ""
    finding = resolved(content).secrets_resolved
    assert (finding.reason, "is empty" in finding.message) == ("SecretInvalid", True)
