"""Which policies are read, and what is concluded where some cannot be: nothing. A double stands for the API server."""

from typing import Any

import pytest

from pywharf_operator.cluster import policy_reader
from pywharf_operator.cluster.kube import Json, KubeError
from pywharf_operator.cluster.namespaces import Namespaces
from pywharf_operator.cluster.policy_reader import PolicyReader
from pywharf_operator.cluster.trimming import OVERSIZE, trimmed
from pywharf_operator.spec.kinds import POLICY

FORBIDDEN = KubeError(403, "Forbidden", "not yours")


def policy(name: str, namespace: str = "ml", **more: Any) -> Json:
    metadata = {"name": name, "namespace": namespace, "uid": name} | more
    return {"metadata": metadata, "spec": {"allowOnly": [name * 20]}}


class Cluster:
    def __init__(self, **listed: list[Json] | KubeError | None) -> None:
        self.listings = listed

    async def listed(self, kind: Any, namespace: str | None, *, only: Any) -> tuple[list[Json], str]:
        found = self.listings[namespace or "every"]
        if isinstance(found, KubeError):
            raise found
        if found is None:  # the cluster lacks the kind
            return [], ""
        return [trimmed(kind, item) for item in found if only(item)], "1"


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


async def test_each_namespace_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_reader, "_MOST_BYTES", 100)
    items = [policy("a"), policy("b"), policy("c"), policy("d"), policy("e", "hr")]
    found = await reader(None, every=items).read(lambda raw: raw["metadata"]["name"] != "a")
    shown = {one["metadata"]["name"]: (OVERSIZE in one, one["spec"] == {}) for one in found.items}
    assert shown == {"b": (False, False), "c": (False, False), "d": (True, True), "e": (False, False)}
    assert trimmed(POLICY, found.items[2])["spec"] == {}


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
