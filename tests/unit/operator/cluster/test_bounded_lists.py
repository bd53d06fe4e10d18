"""Lists of any size: pages are bounded in bytes, each object comes once, and only the needed fields are kept."""

import json
from typing import Any

import msgspec
import pytest

from pywharf_operator.cluster import kube as kube_module
from pywharf_operator.cluster.kube import Kube, ResponseTooLargeError
from pywharf_operator.cluster.transport import Transport
from pywharf_operator.cluster.trimming import MOST_SPEC_BYTES, OVERSIZE, trimmed, trimmed_metadata
from pywharf_operator.spec.kinds import CRON_JOB, JOB, POD, REPO, SECRET

UNUSED: Any = None


class Api:
    """A double of the API server that answers lists page by page. Real lists of these sizes would take too long."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items
        self.limits: list[int] = []
        self.accepts: set[str] = set()

    async def once(self, request: Any) -> bytes:
        limit, start = int(request.query["limit"]), int(request.query.get("continue") or 0)
        self.limits.append(limit)
        self.accepts.add(request.accept)
        end = start + limit
        token = str(end) if end < len(self.items) else ""
        page = {"metadata": {"continue": token, "resourceVersion": "7"}, "items": self.items[start:end]}
        content = json.dumps(page).encode()
        if len(content) > request.most:
            raise ResponseTooLargeError(request.most)
        return content


def listing(monkeypatch: pytest.MonkeyPatch, items: list[dict[str, Any]], most: int = 10_000) -> tuple[Kube, Api]:
    monkeypatch.setattr(kube_module, "_MOST_PAGE_BYTES", most)
    monkeypatch.setattr(kube_module, "MAX_ANSWER_BYTES", 2 * most)
    kube, api = Kube(UNUSED), Api(items)
    monkeypatch.setattr(Transport, "_once", lambda _self, request: api.once(request))
    return kube, api


def item(number: int, size: int = 0, **fields: Any) -> dict[str, Any]:
    metadata = {"name": f"n{number}", "namespace": "ml", "uid": str(number), "annotations": {"junk": "x" * size}}
    return {"metadata": metadata} | fields


SIZES = {
    "small": [10] * 3000,
    "large": [9_000] * 40,
    "larger than a page": [15_000] * 7,
    "large ones last": [10] * 700 + [9_000] * 30,
    "mixed": [10, 9_000, 15_000] * 20,
    "none": [],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
async def test_each_object_once_in_pages_of_bounded_bytes(monkeypatch, sizes):
    kube, api = listing(monkeypatch, [item(number, size) for number, size in enumerate(sizes)])
    found = await kube.list(REPO)
    assert [one["metadata"]["name"] for one in found] == [f"n{number}" for number in range(len(sizes))]
    assert {(one["apiVersion"], one["kind"]) for one in found} <= {("pywharf.dev/v1alpha1", "PackageRepo")}
    # Retries with smaller pages at most double the work.
    assert len(api.limits) <= 2 * len(sizes) + 10
    assert not [one for one in found if one["metadata"].get("annotations")]


async def test_an_object_too_large_to_be_stored_ends_the_list(monkeypatch):
    kube, _ = listing(monkeypatch, [item(1, 50_000)])
    with pytest.raises(ResponseTooLargeError):
        await kube.list(REPO)


async def test_only_some_are_kept_and_of_some_the_metadata(monkeypatch):
    secrets = [item(number, data={"k": "c2VjcmV0"}) for number in range(20)]
    kube, api = listing(monkeypatch, secrets)
    found = await kube.list_metadata(SECRET, "ml", only=lambda one: one["metadata"]["name"] == "n7")
    assert [one["metadata"]["name"] for one in found] == ["n7"]
    assert set(found[0]) == {"apiVersion", "kind", "metadata"}
    assert all("PartialObjectMetadataList" in one for one in api.accepts)


def test_what_is_kept_of_metadata():
    metadata = {
        "name": "a",
        "labels": {"pywharf.dev/server": "s", "junk/x": "y", "app.kubernetes.io/name": "z" * 9999},
        "annotations": {"pywharf.dev/update-index": "now", "junk": "x" * 200_000},
        "managedFields": [{"fieldsV1": {"f:x": {}}}] * 1000,
        "ownerReferences": [{"uid": str(number)} for number in range(5000)],
        "finalizers": ["x/y"] * 1000,
    }
    kept = trimmed_metadata(SECRET, {"metadata": metadata, "data": {"k": "v"}})
    assert set(kept) == {"apiVersion", "kind", "metadata"}
    assert kept["metadata"]["labels"]["pywharf.dev/server"] == "s"
    assert kept["metadata"]["annotations"] == {"pywharf.dev/update-index": "now"}
    assert len(msgspec.json.encode(kept)) < 8192


@pytest.mark.parametrize(
    "metadata", [None, "odd", [], {"name": "a", "labels": "odd", "annotations": [1], "ownerReferences": "x"}]
)
def test_odd_metadata_is_no_fault(metadata):
    assert trimmed_metadata(SECRET, {"metadata": metadata})["metadata"].keys() <= {"name"}


def test_a_pods_status_and_a_jobs_end_are_kept():
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [], "containerStatuses": [], "other": "x" * 9999}
    pod = trimmed(POD, {"metadata": {"name": "p"}, "spec": {"x": "y"}, "status": status})
    assert set(pod["status"]) == {"phase", "podIP", "conditions", "containerStatuses"}
    assert "spec" not in pod
    job = trimmed(JOB, {"metadata": {"name": "j"}, "spec": {"suspend": True, "template": {"x": "y"}}, "status": {}})
    assert job["spec"] == {"suspend": True}
    whole = {"metadata": {"name": "c", "managedFields": [1]}, "spec": {"x": "y"}}
    assert trimmed(CRON_JOB, whole) == {"apiVersion": "batch/v1", "kind": "CronJob"} | whole


def test_a_spec_past_the_bound_is_left_out_and_reported():
    fits = {"serverRef": {"name": "s"}, "repoName": "r", "upstream": {"reserved": ["x" * 1000]}}
    assert trimmed(REPO, {"metadata": {"name": "a"}, "spec": fits})["spec"] == fits
    large = fits | {"upstream": {"reserved": ["x" * MOST_SPEC_BYTES]}}
    made = trimmed(REPO, {"metadata": {"name": "a"}, "spec": large, "status": {"repoName": "r"}})
    assert made["spec"] == {"serverRef": {"name": "s"}, "repoName": "r"}
    assert made[OVERSIZE] == {"bytes": len(msgspec.json.encode(large)), "field": "spec.upstream.reserved"}
    odd = trimmed(REPO, {"metadata": {"name": "a"}, "spec": ["x" * MOST_SPEC_BYTES]})
    assert (odd["spec"], odd[OVERSIZE]["field"]) == ({}, "spec")
    assert made["status"] == {"repoName": "r"}
