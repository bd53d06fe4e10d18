"""Texts of a tenant in real pods, and what a tenant learns about others."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from support.cluster.cluster import new_namespace
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, condition, path, repo, secret, secret_of, server, wait_for_condition
from support.operator.operating import grant, operating
from support.waiting import wait_for

LONG_S = 120.0
TOKEN = "the-token-of-the-admin"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything with 404, and the paths of its requests."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"127.0.0.1:{listening.server_port}", paths
        listening.shutdown()
        thread.join()


@pytest.mark.timeout(240)
def test_no_url_of_a_tenant_reads_the_variables_of_a_pod(cluster, kube, namespace, kubelet, tmp_path, asked):
    """Kubernetes expands `$(NAME)` in arguments. A Job's request to the tenant's server must not contain the value."""
    host, paths = asked
    variable = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "admin-only", "key": "token"}}}
    template = {"spec": {"containers": [{"name": "server", "env": [variable]}]}}
    apply(kube, namespace, secret("admin-only", token=TOKEN), secret("evil", token="a-token"))
    apply(kube, namespace, server(allowedEndpoints=[host], podTemplate=template))
    evil = repo(
        "evil",
        backend={"github": {"owner": "acme", "repo": "wheels", "apiURL": f"http://{host}/$(TOKEN)"}},
        credentials={"backendSecretRef": {"name": "evil", "key": "token"}},
    )
    apply(kube, namespace, evil)
    with operating(tmp_path / "operator", grant(cluster, namespace), namespace):
        wait_for(lambda: paths, "a request of its Job or server", longest_s=LONG_S)
        where = path("packagerepos", namespace, "evil")
        found = wait_for_condition(kube, where, "IndexUpToDate", "False", reason="UpdateFailed", longest_s=LONG_S)
    assert not [one for one in paths if TOKEN in one]
    assert [one for one in paths if "TOKEN" in one]
    assert TOKEN not in str(found)


def reported(kube: KubeClient, namespace: str, name: str) -> tuple[list[Json], list[Json]]:
    """Return the conditions and Events of a repo, without what differs between any two repos."""
    found = kube.get(path("packagerepos", namespace, name)) or {}
    conditions = [
        {**one, "lastTransitionTime": "", "message": one["message"].replace(f"/{name}", "/NAME")}
        for one in found["status"]["conditions"]
    ]
    events = kube.list(path("events", namespace, group="/api/v1"), fieldSelector=f"involvedObject.name={name}")
    return conditions, [
        {field: str(one[field]).replace(f"/{name}", "/NAME") for field in ("type", "reason", "message")}
        for one in events
    ]


@pytest.mark.timeout(240)
def test_a_tenant_does_not_learn_which_servers_others_have(cluster, kube, namespace, tmp_path):
    """Servers that do not admit the namespace, valid or not, and missing servers are all reported alike."""
    other = new_namespace(kube)
    try:
        apply(kube, other, server("there"), server("wants", allowedNamespaces={"from": "Same"}, replicas=3))
        apply(kube, namespace, *(secret_of(name) for name in ("there", "wants", "absent")))
        for name in ("there", "wants", "absent"):
            apply(kube, namespace, repo(name, serverRef={"name": name, "namespace": other}))
        with operating(tmp_path, grant(cluster, namespace, other), namespace, other):
            for name in ("there", "wants", "absent"):
                where = path("packagerepos", namespace, name)
                found = wait_for_condition(kube, where, "Accepted", "False", reason="NamespaceNotAllowed")
                assert "Secret" not in condition(found, "Accepted")["message"]
            wait_for(lambda: len(reported(kube, namespace, "absent")[1]) > 0, "its Event")
            wait_for(
                lambda: (
                    reported(kube, namespace, "there")
                    == reported(kube, namespace, "wants")
                    == reported(kube, namespace, "absent")
                ),
                "the same conditions and Events",
            )
    finally:
        kube.delete(f"/api/v1/namespaces/{other}")
