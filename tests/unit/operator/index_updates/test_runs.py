"""Reading Jobs and pods while they change."""

from datetime import UTC, datetime
from typing import Any

from pywharf_operator.index_updates.jobs import is_finished, terminated
from pywharf_operator.index_updates.runs import read_runs
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import JOB, POD

LABELS = {"labels": {"pywharf.dev/repo": "demo", "batch.kubernetes.io/job-name": "a"}, "name": "a"}


class Api:
    """The lists of an API server on which a Job ends after each list."""

    def __init__(self) -> None:
        self._ends = 0

    async def list(self, kind: Any, namespace: str, labels: str) -> list[Any]:
        is_over, self._ends = bool(self._ends), self._ends + 1
        if kind is JOB:
            return [{"metadata": LABELS, "status": {"conditions": [{"type": "Complete", "status": str(is_over)}]}}]
        assert kind is POD
        state = {"terminated": {"exitCode": 0}} if is_over else {"running": {}}
        return [{"metadata": LABELS, "status": {"containerStatuses": [{"name": "index", "state": state}]}}]


async def test_the_pod_of_a_finished_job_is_never_seen_as_running():
    """Otherwise the Job would count as one without a report, and no event would correct that."""
    api: Any = Api()
    runs = await read_runs(api, ObjectKey("ml", "pywharf"), datetime.now(UTC))
    ((job,), (pod,)) = runs.jobs["demo"], runs.pods["demo"]
    assert bool(terminated(pod)) >= is_finished(job)
    assert terminated(pod), "the pods are read last"
