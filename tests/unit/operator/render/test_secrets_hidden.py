"""No message, note or repr reveals a secret, wherever it stands in a manifest and however broken the manifest is."""

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.local.folder import faults_of, snapshot_of
from pywharf_operator.render import Environment, render_server, resolve
from support.examples import examples
from support.operator.manifest_text import parsed

HIDDEN = "hunter2hunter2"
NO_TEXT = base64.b64encode(b"\xff" + HIDDEN.encode()).decode()
ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec}, session_key=HIDDEN.encode())
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: {pywharf.dev/credentials: 'true'}}\n"
REPO = """\
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: a}
spec:
  backend: {fileSystem: {}}
  credentials: {readSecretRef: {name: a, key: read}, writeSecretRef: {name: a, key: write}}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf}
spec: {storage: {size: 1Gi}}
---
"""
TEXTS = [
    f"{SECRET}stringData: {{read: {HIDDEN}, write: {HIDDEN}}}",
    f"{SECRET}stringData: {{read: {HIDDEN}}}",
    f"{SECRET}stringData: {HIDDEN}",
    f"{SECRET}stringData: [{HIDDEN}]",
    f"{SECRET}stringData: {{read: [{HIDDEN}]}}",
    f"{SECRET}stringData: {{read: {{x: {HIDDEN}}}}}",
    f"{SECRET}data: {{read: '{HIDDEN}!'}}",
    f"{SECRET}data: {{read: {base64.b64encode(HIDDEN.encode()).decode()}}}",
    f"{SECRET}password: {HIDDEN}",
    f"{SECRET}stringData:\n  read: *{HIDDEN}",
    f"{SECRET}stringData:\n  read: !{HIDDEN}",
    f"{SECRET}stringData:\n  read: !{HIDDEN} x",
    f"{SECRET}stringData:\n  read: &{HIDDEN} x\n  write: &{HIDDEN} y",
    f"{SECRET}stringData:\n  read: %{HIDDEN}",
    f"{SECRET}stringData:\n  read: @{HIDDEN}",
    f"{SECRET}stringData:\n  read: `{HIDDEN}",
    f"{SECRET}stringData:\n  read: '{HIDDEN}",
    f'{SECRET}stringData:\n  read: "{HIDDEN}',
    f'{SECRET}stringData:\n  read: "\\{HIDDEN}"',
    f"{SECRET}stringData:\n  read: {HIDDEN}: x",
    f"{SECRET}stringData:\n  read: [{HIDDEN}",
    f"{SECRET}stringData:\n  read: {{{HIDDEN}",
    f"{SECRET}stringData:\n  read: |x{HIDDEN}\n",
    f"{SECRET}stringData:\n\tread: {HIDDEN}\n",
    f"{SECRET}stringData:\n  read: {HIDDEN}\x01\n",
    f"{SECRET}stringData:\n  ? {{{HIDDEN}: x}}\n  : y",
    f"{REPO}{SECRET}stringData: {{read: {HIDDEN}, write: ''}}",
    f"{REPO}{SECRET}stringData: {{read: {HIDDEN}}}\ndata: {{write: {NO_TEXT}}}",
    REPO.replace("fileSystem: {}", f"github: {{owner: a, repo: b, apiURL: 'https://u:{HIDDEN}@api.example'}}"),
    REPO.replace("fileSystem: {}", f"github: {{owner: a, repo: b, apiURL: 'https://u:p/{HIDDEN}@api.example'}}"),
    REPO.replace("fileSystem: {}", f"github: {{owner: a, repo: b, token: {HIDDEN}}}"),
    REPO.replace("fileSystem: {}", f"s3: {{bucket: abc, endpoint: 'https://{HIDDEN}@{'x' * 3000}'}}"),
    REPO.replace("{name: a, key: read}", HIDDEN),
    REPO.replace("  credentials:", f"  upstream: {{url: 'https://u:{HIDDEN}@index.example/simple/'}}\n  credentials:"),
    REPO.replace(
        "  credentials:", f"  upstream: {{url: 'https://index.example/simple/?token={HIDDEN}'}}\n  credentials:"
    ),
    REPO.replace("  credentials:", f"  upstream: {{url: '{HIDDEN}@index.example'}}\n  credentials:"),
]


def said(text):
    """Return everything that users, logs and tracebacks could show."""
    found = parsed(text)
    resolution = resolve(snapshot_of(found), ENVIRONMENT)
    rendered = [render_server(server, ENVIRONMENT) for server in resolution.servers]
    return [
        *map(str, (*found.problems, *found.notes)),
        *faults_of(resolution, ()),
        repr(found),
        repr(resolution),
        repr(rendered),
        repr(ENVIRONMENT),
        *(str(server.config_map) for server in rendered),
    ]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_message_shows_it(text):
    shown = said(text)
    encoded = base64.b64encode(HIDDEN.encode()).decode()[:12]
    assert [line for line in shown if HIDDEN in line or encoded in line] == []


@settings(max_examples=examples(150))
@given(
    value=st.text(st.characters(codec="utf-8"), min_size=6, max_size=40),
    place=st.sampled_from(["stringData", "data", "stringdata", "type"]),
    key=st.sampled_from(["read", "other"]),
)
def test_no_value_of_a_secret_is_shown(value, place, key):
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, place: {key: value}}
    shown = said(REPO + msgspec.json.encode(manifest).decode())
    harmless = said(REPO + msgspec.json.encode(manifest | {place: {key: "x"}}).decode())
    assert [line for line in shown if value in line and line not in harmless and value not in "".join(harmless)] == []


def test_a_broken_document_in_a_secrets_file_is_located():
    (problem,) = parsed(f"{SECRET}stringData:\n  read: *{HIDDEN}").problems
    assert str(problem).startswith(
        "a.yaml, document 1: line 5, column 9: it is not valid YAML (found undefined alias);"
    )
