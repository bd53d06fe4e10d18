"""Access entries from `kubectl apply` to a client: the operator and a real server on a real API server."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pywharf.core.access.identity_document import parse_document
from pywharf.core.access.tokens import digest_of, new_token
from pywharf_operator.cluster.issuer_reader import PERIOD_S
from pywharf_operator.render.objects.config_map import texts_of
from support.certificates import key_pair
from support.cluster.cluster import Cluster, OwnCluster, new_namespace
from support.cluster.kube_client import ApiError, Json, KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    get_repo,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
)
from support.kubelet.stand_in import kubelet_of
from support.operator import operating
from support.server.asking import index_status
from support.waiting import wait_for

CORE = "/api/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
DISCOVERY = f"{RBAC}/clusterrolebindings/system:service-account-issuer-discovery"


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        yield running
        print(running.text())


def document(kube: KubeClient, namespace: str) -> Json:
    """Return the identity document that the server is given; empty if there is none."""
    found = kube.get(path("configmaps", namespace, f"{SERVER_NAME}-config", CORE))
    text = "" if found is None else texts_of(found).get("identity.json", "")
    if text:
        parse_document(text.encode())
    made: Json = json.loads(text or "{}")
    return made


def kids(kube: KubeClient, namespace: str) -> list[str]:
    return [one["kid"] for one in document(kube, namespace).get("cluster", {}).get("jwks", {}).get("keys", ())]


def key_id(token: str) -> str:
    """Return the `kid` of a token's header."""
    header = token.partition(".")[0]
    kid: str = json.loads(base64.urlsafe_b64decode(f"{header}{'=' * (-len(header) % 4)}"))["kid"]
    return kid


BAD_IDENTITIES = [
    ({"issuers": [{"name": "a", "url": "https://a.example:99999"}]}, "ports are 1 to 65535"),
    (
        {"issuers": [{"name": "a", "url": "https://a.example"}, {"name": "b", "url": "https://a.example"}]},
        "each url once",
    ),
    ({"issuers": [{"name": "github", "jwks": "{}"}]}, "jwks has no list of keys"),
    ({"trustedProxies": ["10.0.0.1/8"]}, "give the network's own address"),
    ({"trustedProxies": ["10.1.0.1/16"]}, "give the network's own address"),
    ({"trustedProxies": ["10.1.2.128/24"]}, "give the network's own address"),
    ({"trustedProxies": ["::ffff:0a00:1/104"]}, "write it as IPv4"),
]


def test_what_the_schema_cannot_refuse_is_left_out_alone(kube, namespace, operator):
    for identity, words in BAD_IDENTITIES:
        with pytest.raises(ApiError, match=words):
            apply(kube, namespace, server(identity=identity))
    fine: Json = {
        "issuers": [{"name": "github"}, {"name": "a", "url": "https://[::1]:65535"}, {"name": "b", "url": "https://b"}],
        "trustedProxies": ["10.0.0.0/8", "10.200.0.0/16", "10.1.2.0/24", "10.0.0.128/25", "10.20.30.1", "::ffff:1"],
    }
    apply(kube, namespace, server(identity=fine), secret_of("a"), repo("a"))
    wait_for_condition(kube, path("packagerepos", namespace, "a"), "Accepted", "True")
    where = path("packageservers", namespace, SERVER_NAME)
    broken: Json = {
        "issuers": [{"name": "github", "jwks": '{"keys": []}'}, {"name": "gitlab"}],
        "trustedProxies": ["fd00::1/8", "10.1.2.0/24"],
    }
    release = {"name": "release", "permission": "Read", "gitlab": {"project": "a/b", "namespaceID": 1}}
    apply(kube, namespace, server(identity=broken), repo("a", access=[release]))
    found = wait_for_condition(kube, where, "IdentityReady", "False", reason="IssuerInvalid")
    message = condition(found, "IdentityReady")["message"]
    assert "spec.identity.issuers: github has no keys that a server could use" in message
    assert "'fd00::1/8' is no network" in message
    wait_for_condition(kube, path("packagerepos", namespace, "a"), "AccessResolved", "True")
    wait_for(lambda: [one["name"] for one in document(kube, namespace).get("issuers", ())] == ["gitlab"], "the rest")
    (flag,) = (
        one
        for one in kube.get(path("deployments", namespace, SERVER_NAME, "/apis/apps/v1"))["spec"]["template"]["spec"][
            "containers"
        ][0]["args"]
        if one.startswith("--trusted_proxies")
    )
    assert flag == "--trusted_proxies=10.1.2.0/24"


def accounts(*names: str, namespace: str, **more: Any) -> Json:
    subjects = [{"namespace": namespace, "name": name} for name in names]
    return {"name": "pods", "permission": "Read", "serviceAccounts": subjects, **more}


@pytest.mark.timeout(240)
def test_entries_are_served_and_refused_without_a_restart(cluster, kube, namespace, kubelet, operator, tmp_path):
    """A repo that no Secret belongs to: pods read by their own tokens, and somebody by a token in Git by digest."""
    other = new_namespace(kube)
    trainer = cluster.token_of("trainer", namespace, audience="pywharf")
    stranger = cluster.token_of("trainer", other, audience="pywharf")
    of_api_server = cluster.token_of("trainer", namespace)
    token = new_token()
    operator.secrets |= {trainer, stranger, of_api_server, token}
    spec: Json = {"credentials": {}, "access": [accounts("trainer", namespace=namespace)]}
    apply(kube, namespace, server(), repo("team-a", **spec))
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=90)
    where = path("packagerepos", namespace, "team-a")
    wait_for_condition(kube, where, "Ready", "True")

    def takes(secret: str) -> bool:
        """Return whether the server takes it. It slows down who sends wrong ones, with 429 in place of 401."""
        status = index_status(url, "team-a", secret)
        assert status in {200, 401, 429}
        return status == 200

    wait_for(lambda: takes(trainer), "the pod's token to be taken")
    assert not any(map(takes, (stranger, of_api_server, token)))
    uids = [pod["metadata"]["uid"] for pod in kubelet.pods(namespace)]
    by_digest = {"name": "ci", "permission": "Read", "tokenDigests": [digest_of(token)]}
    apply(kube, namespace, repo("team-a", credentials={}, access=[by_digest]))
    wait_for(lambda: takes(token), "the entry to be replaced")
    assert not any(map(takes, (trainer, stranger, of_api_server)))
    # Nothing verifies tokens of ServiceAccounts any more, as no entry is about one.
    assert document(kube, namespace) == {}
    found = wait_for_condition(kube, where, "AccessResolved", "True", reason="Resolved")
    assert token not in json.dumps(found)
    apply(kube, namespace, repo("team-a", credentials={}, access=[by_digest | {"expires": "2020-01-01T00:00:00Z"}]))
    wait_for(lambda: not takes(token), "the entry to end")
    wait_for_condition(kube, where, "AccessResolved", "False", reason="EntryExpired")
    assert [pod["metadata"]["uid"] for pod in kubelet.pods(namespace)] == uids


def test_conditions_say_what_is_missing(kube, namespace, operator):
    workflow = {"repository": "acme/tool", "workflow": "release.yml", "ownerID": 4711}
    entries = [
        {"name": "release", "permission": "Publish", "github": workflow},
        accounts("a", namespace=namespace),
        {"name": "people", "permission": "Read", "proxyGroups": ["ops"]},
    ]
    identity: Json = {"serviceAccounts": "Off"}
    apply(kube, namespace, server(identity=identity), secret_of("a"), repo("a", access=entries))
    where = path("packagerepos", namespace, "a")
    found = wait_for_condition(kube, where, "AccessResolved", "False", reason="IssuerUnknown")
    message = condition(found, "AccessResolved")["message"]
    assert "The access entry release names the issuer github" in message
    assert "The access entry pods names serviceAccounts" in message
    assert "The access entry people names proxyGroups" in message
    # The repo is served all the same.
    assert condition(found, "SecretsResolved")["status"] == "True"
    wait_for(
        lambda: any(
            one["reason"] == "IssuerUnknown" and one["type"] == "Warning"
            for one in kube.list(path("events", namespace, group=CORE))
        ),
        "the Event",
    )
    identity = {"issuers": [{"name": "github"}], "trustedProxies": ["10.0.0.1"], "proxyHeaders": True}
    apply(kube, namespace, server(identity=identity))
    wait_for_condition(kube, where, "AccessResolved", "True", reason="Resolved")
    wait_for_condition(kube, path("packageservers", namespace, SERVER_NAME), "IdentityReady", "True")
    assert [one["name"] for one in document(kube, namespace)["issuers"]] == ["github"]
    issuer = document(kube, namespace)["cluster"]
    # The operator's own token says which audiences are the API server's.
    assert issuer["audiences"] == [issuer["issuer"]]
    apply(kube, namespace, server(identity={"audience": issuer["issuer"]}))
    where = path("packageservers", namespace, SERVER_NAME)
    wait_for_condition(kube, where, "IdentityReady", "False", reason="AudienceOfApiServer")
    assert document(kube, namespace) == {}


@pytest.mark.timeout(300)
def test_the_keys_of_the_cluster_are_followed(own_cluster: OwnCluster, tmp_path: Path):
    """The control plane signs with a new key, whose tokens a server takes; later nobody may read the keys."""
    own_cluster.need_controllers()
    plane, kube = own_cluster.plane, own_cluster.client()
    namespace = new_namespace(kube)
    config = operating.grant(own_cluster, namespace)
    apply(kube, namespace, server(), repo("a", credentials={}, access=[accounts("a", namespace=namespace)]))
    old_public = plane.accounts[1]
    with (
        operating.operating(tmp_path / "operator", config, namespace) as operator,
        kubelet_of(own_cluster, tmp_path / "kubelet", namespace) as kubelet,
    ):
        wait_for(lambda: len(kids(kube, namespace)) == 1, "the cluster's key")
        (old,) = kids(kube, namespace)
        (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=90)
        before_rotation = own_cluster.token_of("a", namespace, audience="pywharf")
        wait_for(lambda: index_status(url, "a", before_rotation) == 200, "a token of the first key to be taken")
        new_private, new_public = key_pair(plane.folder, "service-accounts-new")
        both = plane.folder / "both.pub"
        both.write_text(old_public.read_text() + new_public.read_text())
        plane.api_flags = {
            "service-account-key-file": str(both),
            "service-account-signing-key-file": str(new_private),
        }
        plane.stop_apiserver()
        plane.start_apiserver()
        wait_for(lambda: len(kids(kube, namespace)) == 2, "both keys", longest_s=3 * PERIOD_S)
        assert old in kids(kube, namespace)
        after_rotation = own_cluster.token_of("a", namespace, audience="pywharf")
        operator.secrets |= {before_rotation, after_rotation}
        kubelet.secrets |= {before_rotation, after_rotation}
        assert key_id(before_rotation) == old
        assert key_id(after_rotation) != old
        wait_for(lambda: index_status(url, "a", after_rotation) == 200, "a token of the new key to be taken")
        assert index_status(url, "a", before_rotation) == 200
        stranger = own_cluster.token_of("b", namespace, audience="pywharf")
        assert key_id(stranger) == key_id(after_rotation)
        assert index_status(url, "a", stranger) in {401, 429}
        # The right that every ServiceAccount has is taken away: the last keys stay, also for a new operator.
        before = document(kube, namespace)
        kube.delete(DISCOVERY)
    with operating.operating(tmp_path / "operator-2", config, namespace):
        where = path("packageservers", namespace, SERVER_NAME)
        found = wait_for_condition(kube, where, "IdentityReady", "False", reason="ClusterKeysForbidden")
        assert "system:service-account-issuer-discovery" in condition(found, "IdentityReady")["message"]
        assert document(kube, namespace) == before
        assert condition(get_repo(kube, namespace, "a"), "AccessResolved")["status"] == "True"
        # To ask the API server, its issuer is enough.
        apply(kube, namespace, server(identity={"serviceAccounts": "TokenReview"}))
        wait_for_condition(kube, where, "IdentityReady", "True")
        assert document(kube, namespace)["cluster"]["token_review"] is True
