"""OPERATOR test 10: a thousand repos at the same time."""

import pytest

from support.cluster.resources import condition
from support.operator import scale

REPOS = 1000


@pytest.mark.timeout(400)
def test_a_thousand_repos(cluster, kube, namespace, tmp_path, record_property):
    found = scale.measure(cluster, kube, namespace, tmp_path, REPOS, latencies=1)
    for name in ("reconciled_s", "applying_s", "writes_per_repo", "memory", "latencies_s", "idle_s", "idle_writes"):
        record_property(name, getattr(found, name))
    assert found.writes_per_repo <= 3
    assert found.memory < 300 * 1024**2
    assert found.idle_writes == 0
    assert len(found.repos) == REPOS + 1
    # Only their statuses were written.
    managers = {
        (entry["manager"], entry.get("subresource"))
        for one in found.repos
        for entry in one["metadata"]["managedFields"]
    }
    assert managers == {("tests", None), ("pywharf-operator", "status")}
    assert not [one for one in found.repos if one["metadata"].get("finalizers") or one["metadata"].get("annotations")]
    late = [one["metadata"]["name"] for one in found.repos if condition(one, "SecretsResolved")["status"] != "True"]
    assert not late
