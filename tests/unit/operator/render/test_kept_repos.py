"""Unreadable repos stay exactly as they were applied, whichever other repos come and go."""

import base64
import gzip

import msgspec
import pytest

from pywharf.config.repo_config import FileSystemSpec, GithubSpec
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, RenderedServer, Snapshot, render_server, repos_applied, resolve
from pywharf_operator.render.objects.config_map import CONFIG_KEY, REPOS_KEY, texts_of
from pywharf_operator.spec import ObjectKey
from support.operator.manifest_text import parsed

ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec, "github": GithubSpec}, session_key=b"key")
SERVER = ObjectKey("ml", "pywharf")
MANIFESTS = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf, namespace: ml, uid: u}
spec: {storage: {size: 1Gi}, allowedNamespaces: {from: FROM}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: ml, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: own-read, write: own-write}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: team, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: team-read, write: team-write, token: team-token}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: own, namespace: ml, creationTimestamp: "2020-01-01T00:00:00Z"}
spec:
  backend: {fileSystem: {}}
  credentials: {readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: files, namespace: team}
spec:
  serverRef: {namespace: ml}
  repoName: team.files
  backend: {fileSystem: {maxFileBytes: 4242}}
  credentials: {readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}}
  upstream: {reserved: ["acme-*"]}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: hub, namespace: team}
spec:
  serverRef: {namespace: ml}
  backend: {github: {owner: acme, repo: wheels}}
  credentials: {backendSecretRef: {name: keys, key: token}}
"""


def read(from_: str = "All") -> Snapshot:
    found = parsed(MANIFESTS.replace("FROM", from_))
    assert found.problems == ()
    return snapshot_of(found)


def without_team(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(
        snapshot,
        repos=tuple(one for one in snapshot.repos if one.key.namespace != "team"),
        secrets=tuple(one for one in snapshot.secrets if one.key.namespace != "team"),
    )


def rendered(snapshot: Snapshot) -> RenderedServer:
    return render_server(resolve(snapshot, ENVIRONMENT).servers[0], ENVIRONMENT)


def kept(before: RenderedServer, namespaces=("team",)):
    return repos_applied(SERVER, before.config_map, before.credentials, namespaces)


def test_what_is_applied_does_not_change_by_a_byte():
    before = rendered(read())
    after = rendered(msgspec.structs.replace(without_team(read()), kept=kept(before)))
    assert after.config_map == before.config_map
    assert after.credentials == before.credentials
    # Nor if the kept repos are read back from a kept configuration.
    again = rendered(msgspec.structs.replace(without_team(read()), kept=kept(after)))
    assert again.config_map == before.config_map
    # Their CronJobs are not rendered again; they stay as they are.
    assert [one["metadata"]["labels"]["pywharf.dev/repo"] for one in after.cron_jobs] == ["own"]


def test_only_those_of_the_namespaces_are_kept():
    before = rendered(read())
    assert [str(one.repo) for one in kept(before)] == ["team/hub", "team/files"]
    assert kept(before, ["other"]) == ()


def test_a_name_that_is_kept_is_held():
    """Even an older repo does not get the name, and the refused repo learns nothing about the holder."""
    taker = MANIFESTS.replace("metadata: {name: own, namespace: ml", "metadata: {name: hub, namespace: ml")
    found = parsed(taker.replace("FROM", "All"))
    snapshot = msgspec.structs.replace(without_team(snapshot_of(found)), kept=kept(rendered(read())))
    (verdict,) = resolve(snapshot, ENVIRONMENT).repos
    assert verdict.accepted.reason == "NameConflict"
    assert "team" not in verdict.accepted.message


def test_a_server_that_admits_the_namespace_no_more_drops_them():
    snapshot = msgspec.structs.replace(without_team(read("Same")), kept=kept(rendered(read())))
    text = texts_of(rendered(snapshot).config_map)[CONFIG_KEY]
    assert "[own]" in text
    assert "hub" not in text


def test_of_a_former_versions_config_map_nothing_is_dropped():
    """Such a ConfigMap names the owners of fileSystem repos only."""
    before = rendered(read())
    config = before.config_map | {"data": {key: v for key, v in before.config_map["data"].items() if key != REPOS_KEY}}
    old = repos_applied(SERVER, config, before.credentials, ["team"])
    assert {one.name for one in old} == {"hub", "team.files"}
    after = rendered(msgspec.structs.replace(without_team(read()), kept=old))
    assert texts_of(after.config_map)[CONFIG_KEY] == texts_of(before.config_map)[CONFIG_KEY]
    # A kept repo of unknown owner does not keep its own PackageRepo from being served.
    both = msgspec.structs.replace(read(), kept=old)
    reasons = {str(one.repo.key): one.accepted.reason for one in resolve(both, ENVIRONMENT).repos}
    assert reasons["team/hub"] == "Accepted"


@pytest.mark.parametrize(
    "content",
    [
        {"binaryData": {"config.toml.gz": "AAAA"}},
        {"binaryData": {"config.toml.gz": "odd"}},
        {"data": {"config.toml": "no [ toml"}},
        {"binaryData": {"config.toml.gz": base64.b64encode(gzip.compress(bytes(33 * 1024**2))).decode()}},
    ],
)
def test_a_config_map_that_cannot_be_read_is_reported(content):
    with pytest.raises(ValueError, match=r"."):
        repos_applied(SERVER, {"metadata": {"name": "x"}, **content}, [], ["team"])


def test_an_empty_config_map_has_none():
    assert (
        repos_applied(SERVER, {"metadata": {"name": "x"}, "data": None}, [{"metadata": {"name": "s"}}], ["team"]) == ()
    )
