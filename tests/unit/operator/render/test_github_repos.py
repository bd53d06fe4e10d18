"""A github repo from its manifest to the server and its Jobs: forms, pods without a volume, the App's key."""

import base64
import contextlib

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from github.Auth import AppInstallationAuth, Token

from pywharf.backends.github.credentials import parse_credentials
from pywharf.config.repo_config import GithubSpec, SecretRef, parse_config
from pywharf.core.errors import InvalidConfigError
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.local.up.schedules import jobs_of
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.spec.backends import Github
from support.operator.manifest_text import parsed

SPECS = {"github": GithubSpec}
ENVIRONMENT = Environment(specs=SPECS, image="pywharf:1", session_key=b"k")
FOLDER = ENVIRONMENT.credentials_folder
_MADE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY = _MADE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
APP = f"app_id = 12\ninstallation_id = 34\nprivate_key = '''\n{KEY}'''\n"

MANIFESTS = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf, namespace: ml}
spec: {replicas: 3, allowedEndpoints: ["ghe.example:8443"]}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: wheels, namespace: ml}
spec:
  backend:
    github: {owner: acme, repo: wheels, branch: main, apiURL: "https://ghe.example:8443/api/v3", download: stream}
  credentials: {REFSbackendSecretRef: {name: keys, key: backend}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: ml, labels: {pywharf.dev/credentials: "true"}}
data: {read: cmVhZA==, write: d3JpdGU=, backend: BACKEND}
"""
OWN = "readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}, "


def made(refs="", backend=APP):
    """Return the server's verdict and its rendered objects."""
    text = MANIFESTS.replace("REFS", refs).replace("BACKEND", base64.b64encode(backend.encode()).decode())
    found = parsed(text)
    assert (found.problems, found.notes) == ((), ())
    resolution = resolve(snapshot_of(found), ENVIRONMENT)
    assert [(one.accepted.reason, one.secrets_resolved.reason) for one in resolution.repos] == [
        ("Accepted", "Resolved")
    ]
    (server,) = resolution.servers
    return server, render_server(server, ENVIRONMENT)


def deployment(rendered):
    (found,) = [one for one in rendered.workload if one["kind"] == "Deployment"]
    return found["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("field", "value", "is_valid"),
    [
        *(("owner", value, True) for value in ("a", "A-1", "legacy-", "octocat_acme", "x" * 39)),
        *(("owner", value, False) for value in ("", "-a", "_a", "a/b", "a.b", "a b", "é", "x" * 40)),
        *(("repo", value, True) for value in ("a", ".github", "A_b-c.d", "...", "x" * 100)),
        *(("repo", value, False) for value in ("", ".", "..", "a/b", "a b", "a%2f", "x" * 101)),
        *(("branch", value, True) for value in ("main", "a/b", "_x", "v1.0", "x" * 244)),
        *(("branch", value, False) for value in ("", "-x", "/x", ".x", "a b", "a?b", "a#b", "x" * 245)),
        *(("api_url", f"https://ghe.example{path}", True) for path in ("", ":8443", "/", "/api/v3", "/api/v3/")),
        ("api_url", "http://localhost:3000", True),
        *(("api_url", f"https://{rest}", False) for rest in ("", "u:p@a.example", "a.example?b", "a.example#b")),
        *(("api_url", value, False) for value in ("", "ftp://a.example", "a.example", "https://a.example/ x")),
        *(("download", value, True) for value in ("redirect", "stream")),
        *(("download", value, False) for value in ("", "proxy")),
        *(("max_file_bytes", value, True) for value in (1, 2**31 - 1, 2**53)),
        *(("max_file_bytes", value, False) for value in (0, -1, 2**53 + 1)),
    ],
)
def test_manifest_and_table_take_the_same(field, value, is_valid):
    """The server can serve whatever the API server accepts, and nothing is refused needlessly."""
    table = {"owner": "acme", "repo": "wheels", field: value}
    names = {one.name: one.encode_name for one in msgspec.structs.fields(Github)}
    manifest = {names[key]: one for key, one in table.items()}
    for kind, data in ((Github, manifest), (GithubSpec, {"type": "github", **table})):
        with contextlib.nullcontext() if is_valid else pytest.raises(msgspec.ValidationError):
            msgspec.convert(data, kind)


def test_the_defaults_are_the_same():
    manifest, spec = Github(owner="a", repo="b"), GithubSpec(owner="a", repo="b")
    for name in ("branch", "max_file_bytes", "api_url", "download"):
        assert getattr(manifest, name) == getattr(spec, name)
    assert manifest.index_filename == spec.index_name


def test_the_server_s_configuration_names_the_repository():
    _, rendered = made(OWN)
    texts = rendered.config_map["data"]
    config = parse_config(texts["config.toml"], texts["admin_secret.toml"], specs=SPECS)
    (spec,) = config.repos.values()
    assert isinstance(spec, GithubSpec)
    assert (spec.owner, spec.repo, spec.branch) == ("acme", "wheels", "main")
    assert (spec.api_url, spec.download) == ("https://ghe.example:8443/api/v3", "stream")
    assert spec.read_secret == SecretRef(file=f"{FOLDER}/wheels.read")
    assert spec.write_secret == SecretRef(file=f"{FOLDER}/wheels.write")
    (admin,) = config.admin_secrets.values()
    assert (admin.type, admin.file) == ("github", f"{FOLDER}/wheels.backend")
    assert "PRIVATE KEY" not in str(rendered.config_map)


def test_without_passwords_clients_send_their_own_tokens():
    _, rendered = made()
    texts = rendered.config_map["data"]
    (spec,) = parse_config(texts["config.toml"], texts["admin_secret.toml"], specs=SPECS).repos.values()
    assert (spec.read_secret, spec.write_secret, spec.anonymous_read) == (None, None, False)
    assert set(rendered.credentials[0]["data"]) == {"wheels.backend", "revision-0"}


@pytest.mark.parametrize("ends", ["", "\n", "\r\n"])
def test_an_app_s_key_arrives_whole(ends):
    """The key's line breaks are preserved for the server, for a Job and for `up`."""
    server, rendered = made(OWN, APP + ends)
    in_file = base64.b64decode(rendered.credentials[0]["data"]["wheels.backend"]).decode()
    (job,) = jobs_of(server.repos).values()
    for text in (in_file, in_file.rstrip("\r\n"), job.secret or ""):
        auth = parse_credentials(text)
        assert isinstance(auth, AppInstallationAuth)
        assert auth.installation_id == 34
        signed = auth._app_auth.create_jwt()  # noqa: SLF001 - what GitHub is sent
        assert jwt.decode(signed, _MADE.public_key(), algorithms=["RS256"])["iss"] in {12, "12"}


def test_a_token_may_end_its_line():
    _, rendered = made(backend="ghp_a\n")
    auth = parse_credentials(base64.b64decode(rendered.credentials[0]["data"]["wheels.backend"]).decode())
    assert isinstance(auth, Token)
    assert auth.token == "ghp_a"


@pytest.mark.parametrize("secret", ["", "a b", APP.replace("-----BEGIN", "BEGIN"), f"{APP}x = 1\n", APP[:-20]])
def test_what_is_no_credential_is_refused_and_not_shown(secret):
    with pytest.raises(InvalidConfigError) as caught:
        parse_credentials(secret)
    assert not any(line in str(caught.value) for line in KEY.splitlines()[1:-1])


def test_it_needs_no_volume():
    """Uploads can still be stored for a moment, by the user that the pod runs as."""
    _, rendered = made()
    pod = deployment(rendered)
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: one for one in pod["containers"][0]["volumeMounts"]}
    root = mounts["/var/lib/pywharf"]
    assert volumes[root["name"]] == {"name": root["name"], "emptyDir": {"sizeLimit": "16Gi"}}
    assert "readOnly" not in root
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"] == 65532
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    # Files of up to 2 GiB, several at a time. The kubelet evicts a pod that uses more.
    assert pod["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "20Gi"
    assert not [one for one in rendered.objects if one["kind"] == "PersistentVolumeClaim"]


def test_its_job_sees_the_server_s_own_secret_and_no_other():
    _, rendered = made(OWN)
    (cron_job,) = rendered.cron_jobs
    pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][:3] == ["update_index", "github", "wheels"]
    assert set(container["args"][3:]) == {
        "--root=/tmp",
        "--owner=acme",
        "--repo=wheels",
        "--branch=main",
        "--index_filename=index.toml",
        "--api_url=https://ghe.example:8443/api/v3",
        "--report=/dev/termination-log",
        "--allowed_endpoints=ghe.example:8443,pypi.org",
        f"--secret_file={FOLDER}/wheels.backend",
    }
    items = {one["name"]: one.get("secret", {}).get("items") for one in pod["volumes"]}
    assert items == {"tmp": None, "config": [{"key": "wheels.backend", "path": "wheels.backend"}]}
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in container["volumeMounts"]}
    assert mounts == {"/tmp": False, FOLDER: True}
    assert "affinity" not in pod
    assert "env" not in container


def test_policies_let_servers_and_jobs_reach_any_port_of_github():
    """The API's port comes from a custom URL, the storage's from signed URLs, which nobody knows in advance."""
    _, rendered = made()
    policies = [one for one in rendered.objects if one["kind"] == "NetworkPolicy"]
    assert {one["metadata"]["name"] for one in policies} == {"pywharf", "pywharf-index"}
    for policy in policies:
        everywhere = policy["spec"]["egress"][0]
        assert "ports" not in everywhere
        blocks = [one["ipBlock"] for one in everywhere["to"] if "ipBlock" in one]
        assert [(one["cidr"], one["except"]) for one in blocks] == [
            ("0.0.0.0/0", ["169.254.169.254/32"]),
            ("::/0", ["fd00:ec2::254/128"]),
        ]
