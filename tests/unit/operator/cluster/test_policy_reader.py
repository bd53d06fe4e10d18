"""Which policies are read, and what is concluded where some cannot be: nothing. A double stands for the API server."""

import copy
from random import Random
from typing import Any

import pytest

from pywharf_operator.cluster import policy_reader
from pywharf_operator.cluster.kube import Json, KubeError
from pywharf_operator.cluster.namespaces import Namespaces
from pywharf_operator.cluster.policy_reader import PolicyReader
from pywharf_operator.cluster.trimming import OVERSIZE, trimmed
from pywharf_operator.reconciling.observe import Observer
from pywharf_operator.reconciling.parsed_objects import Malformed

FORBIDDEN = KubeError(403, "Forbidden", "not yours")


def policy(name: str, namespace: str = "ml", **more: Any) -> Json:
    metadata = {"name": name, "namespace": namespace, "uid": name} | more
    return {"metadata": metadata, "spec": {"allowOnly": [name * 20]}}


class Cluster:
    def __init__(self, **listed: list[Json] | KubeError | None) -> None:
        self.listings = listed
        self.expires = False

    async def listed(self, kind: Any, namespace: str | None, *, only: Any, again: Any) -> tuple[list[Json], str]:
        found = self.listings[namespace or "every"]
        if isinstance(found, KubeError):
            raise found
        if found is None:  # the cluster lacks the kind
            return [], ""
        if self.expires:  # HTTP 410 at the last page
            for item in copy.deepcopy(found):
                only(item)
            again()
        return [trimmed(kind, item) for item in copy.deepcopy(found) if only(item)], "1"


def reader(watched: tuple[str, ...] | None, **listed: list[Json] | KubeError | None) -> PolicyReader:
    double: Any = Cluster(**listed)
    return PolicyReader(double, watched)


@pytest.mark.parametrize(
    ("watched", "listed", "names", "unlisted"),
    [
        (None, {"every": [policy("a"), policy("b", deletionTimestamp="2026-01-01T00:00:00Z")]}, ["a"], frozenset()),
        (None, {"every": FORBIDDEN}, [], None),
        (None, {"every": None}, [], None),
        (("ml", "hr"), {"ml": [policy("a")], "hr": [policy("c", "hr")]}, ["a", "c"], frozenset()),
        (("ml", "hr"), {"ml": [policy("a")], "hr": FORBIDDEN}, ["a"], frozenset({"hr"})),
        (("ml", "hr"), {"ml": FORBIDDEN, "hr": FORBIDDEN}, [], frozenset({"ml", "hr"})),
        (("ml",), {"ml": None}, [], frozenset({"ml"})),
    ],
)
async def test_what_cannot_be_read_is_reported(watched: Any, listed: Any, names: Any, unlisted: Any) -> None:
    found = await reader(watched, **listed).read(lambda _raw: True)
    assert [one["metadata"]["name"] for one in found.items] == names
    assert found.unlisted == unlisted


async def test_other_faults_are_raised() -> None:
    with pytest.raises(KubeError):
        await reader(("ml",), ml=KubeError(500, "InternalError", "")).read(lambda _raw: True)


def made(day: int, name: str, namespace: str = "ml") -> Json:
    return policy(name, namespace, creationTimestamp=f"2026-01-{day:02}T00:00:00Z")


async def shown(reader: PolicyReader, *names: str) -> dict[str, bool]:
    """Return which of the policies are refused, if only those of the names are wanted."""
    found = await reader.read(lambda raw: not names or raw["metadata"]["name"] in names)
    assert all((OVERSIZE in one) is (one["spec"] == {}) for one in found.items)
    return {one["metadata"]["name"]: OVERSIZE in one for one in found.items}


@pytest.mark.parametrize("expires", [False, True])
async def test_each_namespace_has_a_bound(monkeypatch: pytest.MonkeyPatch, expires: bool) -> None:
    """The newest are refused, whichever are wanted and in whatever order they are listed."""
    monkeypatch.setattr(policy_reader, "_MOST_BYTES", 100)
    items = [made(4, "a"), made(1, "b"), made(3, "c"), made(2, "d"), made(5, "e", "hr")]
    for seed in range(10):
        Random(seed).shuffle(items)
        double: Any = Cluster(every=items)
        double.expires = expires
        every = {"a": True, "b": False, "c": True, "d": False, "e": False}
        assert await shown(PolicyReader(double, None)) == every
        for name, refused in every.items():
            assert await shown(PolicyReader(double, None), name) == {name: refused}
    double = Cluster(every=[one for one in items if one["metadata"]["name"] != "b"])
    assert await shown(PolicyReader(double, None), "c") == {"c": False}


async def test_a_refusal_past_the_bound_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_reader, "_MOST_BYTES", 150)
    first, second = made(1, "a"), made(2, "b")
    for one in (first, second):
        one["metadata"] |= {"resourceVersion": "1"}
        one["spec"]["targetRefs"] = [{"kind": "PackageServer", "name": "x"}]
    double: Any = Cluster(ml=[first, second])
    observer = Observer(double, ("ml",))

    async def finding() -> object:
        parsed = await observer.parsed_policies((await observer.policies()).items)
        return {one.key.name[0]: isinstance(one, Malformed) for one in parsed}

    assert await finding() == {"a": False, "b": True}
    double.listings["ml"] = [second]
    assert await finding() == {"b": False}
    double.listings["ml"] = [first, second]
    assert await finding() == {"a": False, "b": True}


async def test_a_refusal_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    double: Any = Cluster(ml=FORBIDDEN)
    unreadable: list[frozenset[str]] = []
    namespaces = Namespaces(double, ("ml",), changed=unreadable.append)
    made = PolicyReader(double, ("ml",), namespaces.policies_unlisted)
    for _ in range(3):
        await made.read(lambda _raw: True)
    double.listings["ml"] = []
    await made.read(lambda _raw: True)
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]
    assert "PackagePolicies of ml cannot be read" in caplog.text
    assert unreadable == [{"ml"}, frozenset()]


async def test_a_refusal_for_all_namespaces_has_a_name() -> None:
    double: Any = Cluster(every=FORBIDDEN)
    unreadable: list[frozenset[str]] = []
    namespaces = Namespaces(double, None, changed=unreadable.append)
    await PolicyReader(double, None, namespaces.policies_unlisted).read(lambda _raw: True)
    assert unreadable == [{"*"}]
