"""Tokens that a real API server issues: verified by its keys, reviewed by it, and followed as its keys rotate."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import key_pair
from support.cluster.cluster import Cluster, OwnCluster, admin_token
from support.cluster.kube_client import KubeClient
from support.identity.identity_file import IdentityFile
from support.server.audit import audit_lines
from support.server.calling import call
from support.server.serving import Server, running
from support.waiting import wait_for

TABLES = """
[demo]
type = "file_system"

[[demo.access]]
name = "pods"
permission = "Read"
service_accounts = [{{namespace = "{namespace}", name = "trainer"}}]

[[demo.access]]
name = "as-oidc"
permission = "Read"
oidc = {{issuer = "cluster-as-issuer", claims = {{sub = "system:serviceaccount:{namespace}:builder"}}}}
"""
AUDIENCE = "pywharf"
DISCOVERY = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "discovery-for-everybody"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:service-account-issuer-discovery",
    },
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
}
DELEGATOR = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
}


def projected(kube: KubeClient, namespace: str, account: str, audience: str | None = AUDIENCE) -> str:
    """Return a token of an account, which is created if missing, as the kubelet asks for it."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
    kube.apply(path, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}})
    spec: dict[str, object] = {"expirationSeconds": 600, **({"audiences": [audience]} if audience else {})}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str(kube.create(f"{path}/token", request)["status"]["token"])


def admin(cluster: OwnCluster) -> KubeClient:
    """Return a client with a new token: one of another issuer counts no more."""
    return cluster.client(admin_token(cluster.kubectl_program, cluster.kubeconfig))


def read(server: Server, token: str) -> int:
    server.secrets.add(token)
    return call(server.repo(), auth=f"__token__:{token}").status


def reviews_forbidden(server: Server) -> bool:
    """Return what the server tells the operator about its right to review tokens."""
    found: bool = call(f"{server.internal_url}/config", timeout_s=10).json()["reviews_forbidden"]
    return found


def cluster_document(cluster: Cluster, **changed: object) -> dict[str, object]:
    """Return what the operator makes of the cluster."""
    issuer = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks"))
    return {"cluster": {"issuer": issuer, "jwks": keys, "audiences": [issuer], **changed}}


@pytest.fixture
def identities(tmp_path: Path) -> IdentityFile:
    return IdentityFile(tmp_path / "identity.json")


def test_projected_tokens_are_verified_by_the_keys_that_the_cluster_publishes(
    cluster, kube, namespace, identities, tmp_path
):
    config = identities.config(TABLES.format(namespace=namespace))
    identities.write(cluster_document(cluster))
    with running(tmp_path / "server", ["--access_log=text"], config=config) as server:
        assert read(server, projected(kube, namespace, "trainer")) == 200
        refused = {
            projected(kube, namespace, "other"): "not-named",
            projected(kube, namespace, "trainer", "vault"): "jwt-audience",
            projected(kube, namespace, "trainer", None): "jwt-audience-of-api-server",
        }
        for token in refused:
            assert read(server, token) == 401
        reasons = [line["reason"].partition(":")[0] for line in audit_lines(server) if line["event"] == "refusal"]
        assert reasons == list(refused.values())
        assert f"system:serviceaccount:{namespace}:trainer" in server.text()


@pytest.fixture
def delegated(kube: KubeClient, namespace: str) -> Iterator[str]:
    """The token of an account that may review tokens, as the chart binds it."""
    path = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/reviews-{namespace}"
    subjects = [{"kind": "ServiceAccount", "name": "pywharf", "namespace": namespace}]
    kube.apply(path, {**DELEGATOR, "metadata": {"name": f"reviews-{namespace}"}, "subjects": subjects})
    yield projected(kube, namespace, "pywharf", None)
    kube.delete(path)


def test_the_api_server_reviews_tokens_and_knows_deleted_accounts(
    cluster: Cluster, kube, namespace, identities, tmp_path, delegated
):
    config = identities.config(TABLES.format(namespace=namespace))
    identities.write(cluster_document(cluster, jwks={}, token_review=True))
    (tmp_path / "own").write_text(delegated)
    flags = [
        f"--token_review_url={cluster.url}",
        f"--token_review_ca_file={cluster.ca_file}",
        f"--token_review_token_file={tmp_path / 'own'}",
        "--internal_port=0",
    ]
    with running(tmp_path / "server", flags, config=config) as server:
        server.secrets.add(delegated)
        token = projected(kube, namespace, "trainer")
        assert not reviews_forbidden(server), "the right is checked with the server's own token"
        assert read(server, token) == 200
        assert read(server, projected(kube, namespace, "other")) == 401
        kube.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/trainer")
        wait_for(lambda: read(server, token) == 401, "the deleted account to be refused", longest_s=60)
        (tmp_path / "own").write_text(projected(kube, namespace, "somebody", None))
        kube.apply(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/trainer",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer"}},
        )
        assert read(server, projected(kube, namespace, "trainer")) == 503
        assert "may not create tokenreviews (403); bind it to system:auth-delegator" in server.text()
        assert reviews_forbidden(server)
    with running(tmp_path / "another", flags, config=config) as server:
        assert reviews_forbidden(server), "a missing right is known before a client comes"
        (tmp_path / "own").write_text(delegated)
        wait_for(lambda: not reviews_forbidden(server), "the right to be noticed", longest_s=60)


def test_a_real_issuer_is_followed_while_its_keys_rotate(own_cluster: OwnCluster, identities, tmp_path):
    """The API server is an OIDC issuer as others are: discovery, keys over TLS, and another key after a while."""
    plane = own_cluster.plane
    kube = own_cluster.client()
    kube.apply("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/discovery-for-everybody", DISCOVERY)
    plane.api_flags = {
        "service-account-issuer": own_cluster.url,
        "service-account-jwks-uri": f"{own_cluster.url}/openid/v1/jwks",
    }
    own_cluster.stop_apiserver()
    own_cluster.start_apiserver()
    config = identities.config(TABLES.format(namespace="default"))
    identities.write({"issuers": [{"name": "cluster-as-issuer", "url": own_cluster.url}]})
    trust = {"SSL_CERT_FILE": str(own_cluster.ca_file)}
    with running(tmp_path / "server", config=config, env=trust) as server:
        first = projected(admin(own_cluster), "default", "builder")
        assert read(server, first) == 200
        # As a cluster's administrator rotates keys: the new one signs, both are published.
        private, public = key_pair(tmp_path, "rotated")
        both = tmp_path / "both.pub"
        both.write_bytes(public.read_bytes() + plane.accounts[1].read_bytes())
        own_cluster.stop_apiserver()
        assert read(server, first) == 200, "the issuer is not asked again"
        plane.api_flags |= {
            "service-account-key-file": str(both),
            "service-account-signing-key-file": str(private),
        }
        own_cluster.start_apiserver()
        second = projected(admin(own_cluster), "default", "builder")
        assert read(server, second) == 200
        assert read(server, first) == 200
