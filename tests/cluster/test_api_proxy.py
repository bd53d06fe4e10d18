"""The API proxy injects the faults that other tests put between the operator and the API server."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.cluster.api_faults import Answer, Delay, Drop, Pass, Silence, WatchError
from support.cluster.api_proxy import ApiProxy
from support.cluster.cluster import Cluster
from support.cluster.kube_client import ApiError, KubeClient
from support.waiting import wait_for

BROKEN = (OSError, http.client.HTTPException)


@pytest.fixture
def client(cluster: Cluster, api_proxy: ApiProxy) -> Iterator[KubeClient]:
    made = cluster.client(url=api_proxy.url, ca_file=api_proxy.ca_file)
    yield made
    made.close()


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_it_passes_on_and_notes(client: KubeClient, api_proxy: ApiProxy, maps: str, namespace: str, cluster: Cluster):
    client.create(maps, config_map("a", key="välue"))
    client.apply(f"{maps}/b", config_map("b"), manager="somebody")
    assert [item["metadata"]["name"] for item in client.list(maps, fieldSelector="metadata.name=a")] == ["a"]
    assert client.get(f"{maps}/missing") is None
    noted = [(call.method, call.path, call.content_type, call.status) for call in api_proxy.calls(path="configmaps")]
    assert noted == [
        ("POST", maps, "application/json", 201),
        ("PATCH", f"{maps}/b", "application/apply-patch+yaml", 201),
        ("GET", maps, "application/json", 200),
        ("GET", f"{maps}/missing", "application/json", 404),
    ]
    assert len(api_proxy.writes()) == 2
    assert {call.agent for call in api_proxy.calls()} == {"pywharf-tests"}
    kubeconfig = cluster.kubeconfig_through(api_proxy.url, api_proxy.ca_file)
    assert "välue" in cluster.kubectl("get", "configmaps", f"--namespace={namespace}", "-o=yaml", kubeconfig=kubeconfig)


@pytest.mark.parametrize(
    ("fault", "code", "retry_after"),
    [(Answer(code), code, None) for code in (401, 403, 410, 500, 503)] + [(Answer(429, 7), 429, "7")],
)
def test_answers_instead_of_the_api_server(client, api_proxy, maps, fault, code, retry_after):
    rule = api_proxy.add(fault, method="POST", path="/configmaps$", times=1)
    with pytest.raises(ApiError) as refused:
        client.create(maps, config_map("a"))
    assert (refused.value.status, refused.value.answer["code"], refused.value.retry_after) == (code, code, retry_after)
    assert client.get(f"{maps}/a") is None
    assert rule.hits == 1
    assert client.create(maps, config_map("a"))  # the rule applied once


@pytest.mark.parametrize("after", [False, True])
def test_dropped_before_or_after_it_was_done(client, api_proxy, kube, maps, after):
    seen = []
    rule = api_proxy.add(
        Drop(after_forwarding=after), method="POST", on_hit=lambda: seen.append(kube.get(f"{maps}/a") is not None)
    )
    with pytest.raises(BROKEN):
        client.create(maps, config_map("a"))
    assert seen == [after]
    assert (kube.get(f"{maps}/a") is not None) == after
    api_proxy.remove(rule)
    client.create(maps, config_map("b"))
    assert [call.status for call in api_proxy.writes()] == [None, 201]


def test_delayed(client, api_proxy, maps):
    api_proxy.add(Delay(0.5), method="GET")
    began = time.monotonic()
    client.list(maps)
    assert time.monotonic() - began >= 0.5


def test_down(client, api_proxy, maps):
    client.list(maps)
    with api_proxy.down() as rule, pytest.raises(BROKEN):
        client.list(maps)
    assert rule.hits == 1
    client.list(maps)


class Watch:
    """The events of a watch, read in a thread."""

    def __init__(self, cluster: Cluster, proxy: ApiProxy, path: str) -> None:
        self.events: list[dict[str, Any]] = []
        connection = cluster.client(url=proxy.url, ca_file=proxy.ca_file)
        self._executor = ThreadPoolExecutor(1)
        self.ended = self._executor.submit(self._read, connection, f"{path}?watch=1")

    def _read(self, client: KubeClient, path: str) -> str:
        try:
            with client.open("GET", path) as response:
                rest = b""
                while chunk := response.read1(65_536):  # readline hides a broken stream
                    *lines, rest = (rest + chunk).split(b"\n")
                    self.events += map(json.loads, lines)
        except BROKEN:
            return "broken"
        else:
            return "ended"
        finally:
            client.close()

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    def close(self, proxy: ApiProxy) -> None:
        proxy.clear()
        wait_for(lambda: self.ended.done() or proxy.cut(), "the watch's end")
        self._executor.shutdown()


@pytest.fixture
def watch(cluster: Cluster, api_proxy: ApiProxy, maps: str, kube: KubeClient) -> Iterator[Watch]:
    """An open watch that has reported the existing object."""
    kube.create(maps, config_map("first"))
    made = Watch(cluster, api_proxy, maps)
    wait_for(lambda: "ADDED" in made.kinds(), "the first event")
    assert api_proxy.watches(maps) == 1
    yield made
    made.close(api_proxy)


def names(watch: Watch) -> list[str]:
    return [event["object"]["metadata"]["name"] for event in watch.events if event["type"] == "ADDED"]


def test_a_watch_is_cut(watch, api_proxy, maps):
    assert api_proxy.cut(maps) == 1
    assert watch.ended.result(30) == "broken"


def test_an_error_comes_into_a_watch(watch, api_proxy, kube, maps):
    kube.create(maps, config_map("second", key="x" * 200_000))
    wait_for(lambda: "second" in names(watch), "the second event")
    assert api_proxy.inject(410, maps) == 1
    assert watch.ended.result(30) == "ended"
    assert (watch.kinds()[-1], watch.events[-1]["object"]["code"]) == ("ERROR", 410)
    wait_for(lambda: not api_proxy.watches(), "its end")


def test_a_watch_is_hushed(watch, cluster, api_proxy, kube, maps):
    assert api_proxy.hush(maps) == 1
    later = Watch(cluster, api_proxy, maps)
    kube.create(maps, config_map("second"))
    wait_for(lambda: "second" in names(later), "what another watch hears")
    assert "second" not in names(watch)
    assert not watch.ended.done()
    later.close(api_proxy)


@pytest.mark.parametrize(("fault", "code"), [(WatchError(410), 410), (WatchError(500), 500)])
def test_a_new_watch_fails(cluster, api_proxy, maps, fault, code):
    rule = api_proxy.add(fault, path=maps, watch=True)
    made = Watch(cluster, api_proxy, maps)
    assert made.ended.result(30) == "ended"
    assert [(event["type"], event["object"]["code"]) for event in made.events] == [("ERROR", code)]
    made.close(api_proxy)
    assert rule.hits == 1


def test_a_new_watch_hears_nothing(cluster, api_proxy, kube, maps):
    kube.create(maps, config_map("first"))
    api_proxy.add(Silence(), path=maps, watch=True)
    lists = api_proxy.add(Pass(), path=maps, watch=False)
    made = Watch(cluster, api_proxy, maps)
    wait_for(lambda: api_proxy.watches(maps) == 1, "the watch")
    assert made.events == []
    assert lists.hits == 0
    made.close(api_proxy)
    assert made.ended.result(30) == "broken"
