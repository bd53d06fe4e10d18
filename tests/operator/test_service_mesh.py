"""Faults that a service mesh causes in a server's pods, as the API server shows them: conditions name the remedy."""

from datetime import UTC, datetime, timedelta

import pytest

from support.cluster.resources import apply, condition, get_repo, path, repo, secret_of, server, wait_for_condition
from support.kubelet.index_pods import IndexPods
from support.operator.operating import grant, operating
from support.waiting import wait_for

LONG_S = 120.0
DEPLOYMENTS = "/apis/apps/v1"
REPORT = '{"projects": 1, "files": 2, "bytes": 3}'


def state_of(name, **state):
    return {"name": name, "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state}


@pytest.mark.timeout(240)
def test_a_sidecar_that_keeps_an_index_jobs_pod(cluster, kube, namespace, tmp_path):
    """The Job's report is used, and the condition names the container that still runs until it ends by itself."""
    cluster.need_controllers()
    moment = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"exitCode": 0, "reason": "Completed", "message": REPORT, "startedAt": moment, "finishedAt": moment}
    running = {"startedAt": moment}
    status = {
        "phase": "Running",
        "containerStatuses": [state_of("index", terminated=ended), state_of("istio-proxy", running=running)],
    }
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        pods = IndexPods(kube, namespace, team_a=status)
        where = path("packagerepos", namespace, "team-a")

        def reported():
            found = get_repo(kube, namespace, "team-a")
            return found if condition(found, "IndexUpToDate").get("reason") == "SidecarRunning" else None

        found = pods.until(reported, "the sidecar to be reported", longest_s=LONG_S)
        message = condition(found, "IndexUpToDate")["message"]
        for words in ("istio-proxy", "spec.jobs", "native sidecars"):
            assert words in message
        index = found["status"]["index"]
        assert (index["projects"], index["files"], index["bytes"]) == (1, 2, 3)
        pods.of_repo["team-a"] = {
            "phase": "Succeeded",
            "containerStatuses": [state_of("index", terminated=ended), state_of("istio-proxy", terminated=ended)],
        }
        pods = IndexPods(kube, namespace, team_a=pods.of_repo["team-a"])
        pods.until(lambda: reported() is None, "the end of the fault", longest_s=LONG_S)
        wait_for_condition(kube, where, "IndexUpToDate", "True", reason="Updated", longest_s=LONG_S)


@pytest.mark.timeout(240)
def test_replicas_whose_port_cannot_be_reached(cluster, kube, namespace, tmp_path):
    """The repos and the server report it with the remedy, not as something that passes by itself."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    deployment = path("deployments", namespace, "pywharf", DEPLOYMENTS)
    with operating(tmp_path, grant(cluster, namespace), namespace):
        made = wait_for(lambda: kube.get(deployment), "the Deployment", longest_s=LONG_S)
        container = {"name": "server", "image": "x"}
        metadata = {"name": "replica", "labels": made["spec"]["template"]["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        kube.create(path("pods", namespace, group="/api/v1"), pod)
        # Nothing listens there.
        addresses = {"podIP": "127.66.77.88", "podIPs": [{"ip": "127.66.77.88"}]}
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **addresses}
        kube.patch_status(path("pods", namespace, "replica", "/api/v1"), status)
        of_repo, of_server = path("packagerepos", namespace, "team-a"), path("packageservers", namespace, "pywharf")
        for where, kind in ((of_repo, "Programmed"), (of_server, "Ready")):
            found = wait_for_condition(kube, where, kind, "False", reason="ReplicasUnreachable", longest_s=LONG_S)
            message = condition(found, kind)["message"]
            for words in ("1 of 1", "replica", "9090", "NetworkPolicies", "strict mTLS"):
                assert words in message, (kind, words)
        kube.delete(path("pods", namespace, "replica", "/api/v1"))
        wait_for_condition(kube, of_repo, "Programmed", "False", reason="NoReadyReplica", longest_s=LONG_S)
