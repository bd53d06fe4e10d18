"""Check the two rules that extract a secret's text: every reader finds the same secret in the same bytes."""

import base64

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pywharf.backends.github.credentials import parse_credentials
from pywharf.backends.secret_flags import given_secret
from pywharf.cli.shared import own_secret
from pywharf.cli.update_index import update_index_command
from pywharf.config.repo_config import FileSystemSpec, GithubSpec
from pywharf.config.settings import ServerSettings, UpdateIndexSettings
from pywharf.core.errors import ForbiddenError, InvalidConfigError
from pywharf.core.secret_text import secret_text, token_text
from pywharf.core.toml_text import dumps
from pywharf.serving.config_source import ConfigGiven, ConfigSource
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.local.up.schedules import jobs_of
from pywharf_operator.reconciling.session_key import signing_key_of
from pywharf_operator.render import Environment, resolve
from pywharf_operator.render.pod.pod_template import SESSION_KEY
from support.operator.manifest_text import parsed

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


def of_a_command(fields):
    return given_secret(UpdateIndexSettings(**fields))


def command_file(folder, _environment, content):
    return of_a_command({"secret_file": file_with(folder, content)})


def command_variable(_folder, environment, content):
    environment.setenv("SECRET", content.decode())
    return of_a_command({"secret_env": "SECRET"})


def command_flag(_folder, _environment, content):
    return of_a_command({"secret": content.decode()})


def config_file(folder, _environment, content):
    return configured(folder, {"file": file_with(folder, content)})


def config_variable(folder, environment, content):
    environment.setenv("SECRET", content.decode())
    return configured(folder, {"env": "SECRET"})


def config_text(folder, _environment, content):
    return configured(folder, content.decode())


def admin_file(folder, _environment, content):
    admin = folder / "admin.toml"
    admin.write_text(dumps({"a": {"type": "github", "file": file_with(folder, content)}}))
    config = folder / "config.toml"
    config.write_text(dumps({"a": {"type": "github", "owner": "acme", "repo": "wheels"}}))
    given = ConfigGiven(config=str(config), admin_secret=str(admin))
    (definition,) = ConfigSource(given, {"github": GithubSpec}).load().repos.values()
    return definition.admin_secret


def server_file(folder, _environment, content):
    return own_secret(ServerSettings(root="r"), file_with(folder, content), "--session_secret")


def server_text(_folder, _environment, content):
    settings = ServerSettings(root="r", config_or_admin_secret_can_be_text=True)
    return own_secret(settings, content.decode(), "--session_secret")


def schedule_of_up(_folder, _environment, content):
    (job,) = jobs_of((resolved(content),)).values()
    return job.secret


def file_with(folder, content):
    (folder / "secret").write_bytes(content)
    return str(folder / "secret")


def configured(folder, secret):
    config = folder / "config.toml"
    config.write_text(dumps({"a": {"type": "file_system", "read_secret": secret, "write_secret": "w"}}))
    given = ConfigGiven(config=str(config))
    (definition,) = ConfigSource(given, {"file_system": FileSystemSpec}).load().repos.values()
    return definition.credentials.read


READERS = [
    command_file,
    command_variable,
    command_flag,
    config_file,
    config_variable,
    config_text,
    admin_file,
    server_file,
    server_text,
    schedule_of_up,
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("content", "text"), CASES)
def test_every_reader_finds_the_same_secret(tmp_path, monkeypatch, reader, content, text):
    assert reader(tmp_path, monkeypatch, content) == text


NO_REFUSAL = {command_flag, schedule_of_up, server_text}
"""An empty flag is no secret, an empty Secret has no schedule, and an empty text is a folder's path."""


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader not in NO_REFUSAL])
@pytest.mark.parametrize("content", EMPTY)
def test_every_reader_refuses_what_is_empty(tmp_path, monkeypatch, reader, content):
    with pytest.raises(InvalidConfigError, match="is empty"):
        reader(tmp_path, monkeypatch, content)


@pytest.mark.parametrize(("content", "text"), CASES)
def test_the_write_secret_of_update_index_s_flags(tmp_path, content, text):
    flags = ["file_system", "a", f"--root={tmp_path}", f"--write_secret={content.decode()}"]
    assert CliRunner().invoke(update_index_command, [*flags, f"--secret={text}"]).exit_code == 0
    refused = CliRunner().invoke(update_index_command, [*flags, f"--secret={text}x"])
    assert isinstance(refused.exception, ForbiddenError)


@pytest.mark.parametrize("reader", [command_file, config_file, admin_file, server_file])
def test_every_reader_refuses_other_bytes(tmp_path, monkeypatch, reader):
    with pytest.raises(InvalidConfigError, match="is not UTF-8 text"):
        reader(tmp_path, monkeypatch, b"\xff\xfe")


def session_key(content):
    return signing_key_of({"data": {SESSION_KEY: base64.b64encode(content).decode()}}).decode()


def github_token(content):
    return parse_credentials(secret_text(content)).token


@pytest.mark.parametrize("reader", [token_text, session_key, github_token])
@pytest.mark.parametrize(
    "content", [b"t0ken", b"t0ken\n", b" t0ken \r\n", b"\tt0ken", BOM + b"t0ken", BOM + b" t0ken\n\n"]
)
def test_every_reader_of_a_token_finds_the_same(reader, content):
    assert reader(content) == "t0ken"


@pytest.mark.parametrize("content", [*EMPTY, b" ", b" \t\r\n"])
def test_a_key_of_white_space_is_missing_on_both_sides(tmp_path, content):
    """Otherwise the operator would keep a key with which no server starts."""
    assert session_key(content) == ""
    with pytest.raises(InvalidConfigError, match="the secret is empty"):
        server_file(tmp_path, None, content)


def test_a_key_of_other_bytes_is_missing_on_both_sides(tmp_path):
    assert session_key(b"\xff") == ""
    with pytest.raises(InvalidConfigError, match="is not UTF-8 text"):
        server_file(tmp_path, None, b"\xff")


@pytest.mark.parametrize("content", EMPTY)
def test_nothing_else_is_an_empty_secret(content):
    assert secret_text(content) == ""
    finding = resolved(content).secrets_resolved
    assert (finding.reason, "is empty" in finding.message) == ("SecretInvalid", True)
