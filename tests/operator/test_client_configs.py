"""`spec.clientConfig`: the ConfigMap in the repo's namespace is kept, and nobody else's is touched."""

import base64
from pathlib import Path
from typing import Any

import pytest

from support.certificates import certificates
from support.cluster.cluster import Cluster, new_namespace
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_object,
)
from support.operator.operating import grant, operating
from support.waiting import wait_for

CORE = "/api/v1"
NAME = "team-a-clients"
FILES = {"keyring", "pip.conf", "uv.toml"}


def config_map(namespace: str, name: str = NAME) -> str:
    return path("configmaps", namespace, name, CORE)


def asking(name: str = "team-a", config_map: str = NAME, **spec: Any) -> Json:
    return repo(name, clientConfig={"configMap": config_map}, **spec)


def wait_for_files(kube: KubeClient, namespace: str, files: set[str], name: str = NAME) -> Json:
    """Wait until the ConfigMap has exactly these keys."""
    return wait_for_object(
        kube, config_map(namespace, name), lambda live: set(live.get("data") or {}) == files, f"the keys {files}"
    )


def of_repo(namespace: str, name: str = "team-a") -> str:
    return path("packagerepos", namespace, name)


def written(kube: KubeClient, namespace: str) -> Json:
    return wait_for_condition(kube, of_repo(namespace), "ClientConfigured", "True", reason="Written")


@pytest.mark.timeout(240)
def test_what_somebody_changes_is_put_back(cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path):
    apply(kube, namespace, server(), secret_of("team-a"), asking())
    with operating(tmp_path, grant(cluster, namespace), namespace):
        made = wait_for_files(kube, namespace, FILES)
        of = written(kube, namespace)
        owner = made["metadata"]["ownerReferences"]
        assert [(one["kind"], one["uid"], one["controller"]) for one in owner] == [
            ("PackageRepo", of["metadata"]["uid"], True)
        ]
        assert f"http://pywharf.{namespace}.svc/repo/team-a/simple/" in made["data"]["pip.conf"]

        edits: list[Json] = [
            {
                "data": {"pip.conf": "[global]\nindex-url = https://evil.example/simple/\n", "other": "x"},
                "binaryData": {"more": base64.b64encode(b"x").decode()},
            },
            {"metadata": {"labels": {"pywharf.dev/repo": None, "app.kubernetes.io/managed-by": "somebody"}}},
            {"data": None, "metadata": {"ownerReferences": None}},
        ]
        for edit in edits:
            kube.patch(
                config_map(namespace),
                edit | {"metadata": {"annotations": {"mine": "stays"}} | edit.get("metadata", {})},
            )

            def restored() -> bool:
                live = kube.get(config_map(namespace)) or {"metadata": {}}
                labels, expected = live["metadata"].get("labels", {}), made["metadata"]["labels"]
                return (
                    live.get("data") == made["data"]
                    and "binaryData" not in live
                    and expected.items() <= labels.items()
                    and live["metadata"].get("ownerReferences") == owner
                )

            wait_for(restored, f"the ConfigMap after {edit}", longest_s=60.0)
        assert (kube.get(config_map(namespace)) or {})["metadata"]["annotations"]["mine"] == "stays"

        kube.delete(config_map(namespace))
        again = wait_for_files(kube, namespace, FILES)
        assert again["metadata"]["uid"] != made["metadata"]["uid"]


def test_it_goes_with_its_name_and_its_field(cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path):
    apply(kube, namespace, server(), secret_of("team-a"), asking())
    with operating(tmp_path, grant(cluster, namespace), namespace):
        wait_for_files(kube, namespace, FILES)
        apply(kube, namespace, asking(config_map="renamed"))
        wait_for_files(kube, namespace, FILES, "renamed")
        wait_for(lambda: kube.get(config_map(namespace)) is None, "the ConfigMap of the former name to be gone")

        apply(kube, namespace, repo("team-a"))
        wait_for(lambda: kube.get(config_map(namespace, "renamed")) is None, "the ConfigMap to be gone with the field")
        found = wait_for_condition(kube, of_repo(namespace), "Accepted", "True")
        assert condition(found, "ClientConfigured") == {}


@pytest.mark.parametrize("whose", ["a person's", "another object's", "another object's with our labels"])
def test_another_s_is_never_overwritten(cluster, kube, namespace, tmp_path, whose):
    where, data = path("configmaps", namespace, group=CORE), {"pip.conf": "[global]\n", "precious": "x"}
    metadata: Json = {"name": NAME}
    if whose != "a person's":
        # The garbage collector deletes an object whose owner does not exist.
        owner = kube.create(where, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        metadata["ownerReferences"] = [reference | {"controller": True}]
    if whose.endswith("labels"):
        metadata["labels"] = {"pywharf.dev/repo": "team-a", "app.kubernetes.io/managed-by": "pywharf-operator"}
    kube.create(where, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    apply(kube, namespace, secret_of("team-a"))
    apply(kube, namespace, server(), asking())
    with operating(tmp_path, grant(cluster, namespace), namespace):
        found = wait_for_condition(kube, of_repo(namespace), "ClientConfigured", "False", reason="ObjectNotOwned")
        message = condition(found, "ClientConfigured")["message"]
        assert f"{namespace}/{NAME}" in message
        assert "delete or rename it" in message
        assert (kube.get(config_map(namespace)) or {})["data"] == data
        # Everything else goes on, and so does this one under a free name.
        assert condition(found, "Accepted")["status"] == "True"
        apply(kube, namespace, asking(config_map="free"))
        wait_for_files(kube, namespace, FILES, "free")
        written(kube, namespace)


def test_the_authority_comes_from_the_server_s_secret(cluster, kube, namespace, tmp_path):
    made = certificates(tmp_path / "tls", f"DNS:pywharf.{namespace}.svc")
    key = made.key.read_text()

    def tls(authority: str | None) -> Json:
        data = {"tls.crt": made.cert.read_text(), "tls.key": key} | ({"ca.crt": authority} if authority else {})
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tls"},
            "type": "kubernetes.io/tls",
            "stringData": data,
        }

    authority = made.authority.read_text()
    apply(kube, namespace, secret_of("team-a"), asking(), tls(authority + key))
    apply(kube, namespace, server(tls={"secretRef": {"name": "tls"}}))
    with operating(tmp_path / "operator", grant(cluster, namespace), namespace) as operator:
        operator.secrets.add(key.splitlines()[1])
        found = wait_for_files(kube, namespace, FILES | {"ca.crt"})
        assert found["data"]["ca.crt"].strip() == authority.strip()
        assert "PRIVATE" not in str(found["data"])
        assert "cert = /etc/pywharf-client/ca.crt" in found["data"]["pip.conf"]
        written(kube, namespace)

        kube.apply(path("secrets", namespace, "tls", CORE), tls("no certificate"), "tests", force=True)
        # The Secret is not watched; a change of the repo has the server reconciled now, otherwise the resync does.
        kube.patch(of_repo(namespace), {"spec": {"index": {"suspend": True}}})
        of = wait_for_condition(kube, of_repo(namespace), "ClientConfigured", "False", reason="AuthorityInvalid")
        assert "Secret tls" not in condition(of, "ClientConfigured")["message"]
        wait_for_files(kube, namespace, FILES)


def test_a_repo_of_another_namespace_has_its_own(own_cluster, tmp_path):
    """Its own control plane: on the shared one an operator for all namespaces would reconcile every other test's."""
    kube = own_cluster.client()
    namespace, team = new_namespace(kube), new_namespace(kube)
    apply(kube, namespace, server(allowedNamespaces={"from": "All"}))
    apply(kube, team, secret_of("team-a"), asking(serverRef={"name": "pywharf", "namespace": namespace}))
    with operating(tmp_path, grant(own_cluster, namespace, cluster_wide=True)):
        made = wait_for_files(kube, team, FILES)
        assert f"http://pywharf.{namespace}.svc/repo/team-a/simple/" in made["data"]["uv.toml"]
        kube.patch(config_map(team), {"data": {"uv.toml": "x"}})
        wait_for(lambda: (kube.get(config_map(team)) or {}).get("data") == made["data"], "the drift to be corrected")
        kube.delete(path("packagerepos", team, "team-a"))
        wait_for(lambda: kube.get(config_map(team)) is None, "it to be gone with its repo", longest_s=90.0)
    kube.close()
