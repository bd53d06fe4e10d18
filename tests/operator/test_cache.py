"""The pull-through cache and its sources from `kubectl apply` to clients: the operator, real servers, a real index."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    path,
    repo,
    secret,
    secret_of,
    server,
    wait_for_condition,
)
from support.distributions.wheels import wheel
from support.kubelet.stand_in import Kubelet
from support.operator import operating
from support.server.calling import call
from support.server.upstream import Upstream, upstream
from support.waiting import wait_for

LONG_S = 90.0
CACHE: Json = {"fileSystem": {"size": "1Gi"}}
USER, FIRST, SECOND = "acme", "first-password-4711", "second-password-0815"
PARTNER = "partner"


@pytest.fixture
def operator(cluster: Cluster, namespace: str, kubelet: Kubelet, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        running.secrets |= {FIRST, SECOND}
        yield running
        print(running.text())


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Upstream]:
    """An index with one wheel, which asks for credentials."""
    with upstream() as running:
        running.credentials = f"{USER}:{FIRST}"
        running.offer("parcel", wheel(tmp_path, "parcel"), core_metadata=True)
        yield running


def cached(index: Upstream, name: str = "team-a", *, keys: str | None = PARTNER) -> Json:
    """Return a repo with the index as its only source; `keys` names the Secret of its credentials."""
    source: Json = {"url": index.url, "projects": ["par*"]}
    if keys is not None:
        source["credentialsSecretRef"] = {"name": keys}
    return repo(name, upstream={"mode": "Cached", "sources": [source]})


def host(index: Upstream) -> str:
    return urlsplit(index.url).netloc


def at(namespace: str, name: str = "team-a") -> str:
    return path("packagerepos", namespace, name)


def claim(kube: KubeClient, namespace: str) -> Json | None:
    return kube.get(path("persistentvolumeclaims", namespace, f"{SERVER_NAME}-cache", "/api/v1"))


def page(url: str, name: str = "team-a", project: str = "parcel") -> int:
    return call(f"{url}/repo/{name}/simple/{project}/", auth=f"{name}:{name}-read-value").status


def file(url: str, name: str = "team-a") -> bytes:
    where = f"{url}/repo/{name}/simple/parcel/parcel-1.0-py3-none-any.whl"
    answer = call(where, auth=f"{name}:{name}-read-value")
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.timeout(240)
def test_from_a_manifest_to_a_file_that_outlives_its_index(kube, namespace, kubelet, operator, index, tmp_path):
    content = (tmp_path / "parcel-1.0-py3-none-any.whl").read_bytes()
    apply(kube, namespace, secret_of("team-a"), secret(PARTNER, username=USER, password=FIRST))
    apply(kube, namespace, cached(index), server(cache=CACHE, allowedEndpoints=[host(index)]))
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=LONG_S)
    found = wait_for_condition(kube, at(namespace), "Ready", "True", longest_s=LONG_S)
    assert condition(found, "UpstreamReachable")["status"] == "True"
    assert page(url) == 200
    assert page(url, project="other") == 404  # no source answers for it
    assert file(url) == content
    made = claim(kube, namespace) or {}
    assert "ownerReferences" not in made["metadata"]
    # Another password, from its Secret alone and without a restart: the index takes nothing else now.
    index.credentials = f"{USER}:{SECOND}"
    index.offer("parkour", wheel(tmp_path, "parkour"))
    apply(kube, namespace, secret(PARTNER, username=USER, password=SECOND))
    wait_for(lambda: page(url, project="parkour") == 200, "a page by the new password", longest_s=LONG_S)
    assert page(url) == 200  # what is kept of an index is kept for these credentials
    # The index is gone, and the pod with all that it has in memory is another one.
    index.answers.clear()
    index.credentials = "nobody:at-all"
    apply(kube, namespace, server(cache=CACHE | {"keepPages": "2d"}, allowedEndpoints=[host(index)]))
    where = path("deployments", namespace, SERVER_NAME, "/apis/apps/v1")

    def replaced() -> bool:
        urls = kubelet.urls(namespace, SERVER_NAME)
        status = (kube.get(where) or {}).get("status", {})
        return len(urls) == 1 and urls != [url] and bool(status.get("observedGeneration"))

    wait_for(replaced, "a pod with the changed cache", longest_s=LONG_S)
    (url,) = kubelet.urls(namespace, SERVER_NAME)
    wait_for(lambda: page(url) == 200, "the kept page", longest_s=LONG_S)
    assert file(url) == content
    # Without a cache the repo is refused; the claim stays, with what it holds.
    apply(kube, namespace, server(allowedEndpoints=[host(index)]))
    found = wait_for_condition(kube, at(namespace), "Accepted", "False", reason="CacheMissing", longest_s=LONG_S)
    assert "has no spec.cache" in condition(found, "Accepted")["message"]
    kept = claim(kube, namespace)
    assert kept is not None
    assert kept["metadata"]["uid"] == made["metadata"]["uid"]


FAULTS: dict[str, tuple[list[Json], str, str, str]] = {
    "no-secret": ([], "SecretsResolved", "SecretNotFound", "credentialsSecretRef: there is no Secret"),
    "unlabelled": (
        [secret("keys-of-unlabelled", username=USER, password=FIRST) | {"metadata": {"name": "keys-of-unlabelled"}}],
        "SecretsResolved",
        "SecretNotLabelled",
        "lacks the label",
    ),
    "half": ([secret("keys-of-half", username=USER)], "SecretsResolved", "SecretKeyMissing", "no key 'password'"),
}


@pytest.mark.timeout(240)
def test_a_fault_of_a_source_is_its_repo_s_own(kube, namespace, kubelet, operator, index):
    apply(kube, namespace, secret_of("team-a"), secret(PARTNER, username=USER, password=FIRST))
    apply(kube, namespace, cached(index), server(cache=CACHE, allowedEndpoints=[host(index)]))
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=LONG_S)
    wait_for_condition(kube, at(namespace), "Ready", "True", longest_s=LONG_S)
    for name, (secrets, kind, reason, words) in FAULTS.items():
        apply(kube, namespace, secret_of(name), *secrets, cached(index, name, keys=f"keys-of-{name}"))
        found = wait_for_condition(kube, at(namespace, name), kind, "False", reason=reason, longest_s=LONG_S)
        assert words in condition(found, kind)["message"]
    elsewhere = repo("elsewhere", upstream={"sources": [{"url": "http://10.0.0.5/simple/"}]})
    apply(kube, namespace, secret_of("elsewhere"), elsewhere)
    found = wait_for_condition(kube, at(namespace, "elsewhere"), "Accepted", "False", reason="EndpointNotAllowed")
    assert "spec.upstream.sources[0].url is 'http://10.0.0.5/simple/'" in condition(found, "Accepted")["message"]
    # Nobody else's repo was touched; one fault is corrected, and that repo is served as well.
    apply(kube, namespace, secret("keys-of-half", username=USER, password=FIRST))
    wait_for_condition(kube, at(namespace, "half"), "Ready", "True", longest_s=LONG_S)
    assert page(url) == page(url, "half") == 200
    assert kubelet.urls(namespace, SERVER_NAME) == [url]


@pytest.mark.timeout(240)
def test_a_repo_stays_served_until_pods_have_the_cache(kube, namespace, kubelet, operator, index):
    """The pods that run cannot open a repo of the mode Cached; new ones take a while, or never become ready."""
    index.credentials = None
    storage: Json = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}  # otherwise the old pod ends first
    given: Json = {"storage": storage, "allowedEndpoints": [host(index)]}
    pages = repo("team-a", upstream={"mode": "Pages", "sources": [{"url": index.url}]})
    apply(kube, namespace, secret_of("team-a"), pages, server(**given))
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=LONG_S)
    wait_for_condition(kube, at(namespace), "Ready", "True", longest_s=LONG_S)
    keys: Json = {"s3": {"bucket": "abc"}, "credentialsSecretRef": {"name": "later", "key": "keys"}}
    apply(kube, namespace, server(cache=keys, **given), cached(index, keys=None))
    found = wait_for_condition(kube, at(namespace), "Programmed", "False", reason="Waiting", longest_s=LONG_S)
    assert "started before it had a cache" in condition(found, "Programmed")["message"]
    assert page(url) == page(url, project="parcel") == 200
    assert kubelet.urls(namespace, SERVER_NAME) == [url]
    # A cache without a fault: new pods, and the mode that the repo asks for.
    apply(kube, namespace, server(cache=CACHE, **given))
    wait_for_condition(kube, at(namespace), "Ready", "True", longest_s=LONG_S)
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=LONG_S)
    assert page(url) == 200
