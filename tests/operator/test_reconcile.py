"""The operator on a real API server: from manifests to objects and statuses."""

import json

from support.cluster import resources
from support.cluster.resources import apply, condition, path, repo, secret_of, server, wait_for_config
from support.operator import operating


def test_from_manifests_to_objects(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace) as operator:
        operator.secrets |= {"team-a-read-value", "team-a-write-value"}
        wait_for_config(kube, namespace, "team-a")
        where = path("packagerepos", namespace, "team-a")
        found = resources.wait_for_condition(kube, where, "Accepted", "True")
        assert condition(found, "SecretsResolved")["status"] == "True", json.dumps(found["status"], indent=1)
        assert condition(found, "Programmed")["reason"] == "NoReadyReplica"
        assert condition(found, "Ready")["status"] == "False"
        assert found["status"]["url"] == f"http://pywharf.{namespace}.svc/repo/team-a/simple/"
        found = resources.wait_for_condition(kube, path("packageservers", namespace, "pywharf"), "Accepted", "True")
        assert found["status"]["url"] == f"http://pywharf.{namespace}.svc"
        assert found["status"]["repos"] == {"total": 1, "ready": 0}
        deployments = kube.list(path("deployments", namespace, group="/apis/apps/v1"))
        assert [one["metadata"]["name"] for one in deployments] == ["pywharf"]
        apply(kube, namespace, secret_of("team-b"), repo("team-b"))
        wait_for_config(kube, namespace, "team-a", "team-b", longest_s=10)
        kube.delete(path("packagerepos", namespace, "team-a"))
        wait_for_config(kube, namespace, "team-b", longest_s=10)
