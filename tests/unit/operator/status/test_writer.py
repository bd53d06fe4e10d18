"""Writing a status while others write the same object."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pywharf_operator.cluster.kube import KubeError
from pywharf_operator.spec.kinds import REPO
from pywharf_operator.status import writer
from pywharf_operator.status.writer import Statuses

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RAW = {"metadata": {"name": "demo", "namespace": "ml", "uid": "u"}, "status": {"index": {"files": 0}}}
CONFLICT = KubeError(409, "Conflict", "the object has been modified")


class Api:
    """An API server whose first answers are errors."""

    def __init__(self, errors: list[KubeError]) -> None:
        self.errors, self.calls = errors, 0
        self.written: list[Any] = []

    async def apply_status(self, kind: Any, key: Any, body: Any, *, uid: str) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(body)


@pytest.mark.parametrize(
    ("errors", "calls", "written"),
    [
        pytest.param([], 1, True, id="immediately"),
        pytest.param([CONFLICT], 2, True, id="a conflict"),
        pytest.param([CONFLICT] * 9, 3, False, id="another object of that name"),
        pytest.param([KubeError(404, "NotFound", "")], 1, False, id="it is gone"),
    ],
)
async def test_a_conflict_loses_no_status(errors, calls, written):
    api: Any = Api(list(errors))
    await Statuses(api).write(REPO, [(RAW, {"index": {"files": 1}})], NOW)
    assert (api.calls, api.written) == (calls, [{"index": {"files": 1}}] if written else [])


async def test_a_status_that_cannot_be_converted_stops_no_other(monkeypatch, caplog):
    api: Any = Api([])
    broken = {"metadata": {"name": "broken", "namespace": "ml", "uid": "b"}}

    def as_json(status: Any) -> Any:
        if status == "broken":
            raise OverflowError("date value out of range")
        return status

    monkeypatch.setattr(writer, "as_json", as_json)
    odd: Any = "broken"
    for _ in range(2):
        await Statuses(api).write(REPO, [(broken, odd), (RAW, {"index": {"files": 1}})], NOW)
    assert api.written == [{"index": {"files": 1}}] * 2
    assert "The status of PackageRepo ml/broken is refused: date value out of range" in caplog.text
