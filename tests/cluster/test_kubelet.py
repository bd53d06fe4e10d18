"""The stand-in for a kubelet, on which the tests of whole servers rely."""

import json
import os
from typing import Any

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import KubeClient
from support.kubelet.stand_in import Kubelet, kubelet_of
from support.server.asking import index_status
from support.waiting import wait_for

SERVER = """
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data:
  config.toml: |
    [demo]
    type = "file_system"
    read_secret = {file = "/etc/pywharf/credentials/demo.read"}
    write_secret = "demo-write"
---
apiVersion: v1
kind: Secret
metadata: {name: credentials}
stringData: {demo.read: first-secret}
---
apiVersion: v1
kind: Secret
metadata: {name: session}
stringData: {key: a-key-of-a-session}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: wharf}
spec:
  selector: {app: wharf}
  ports: [{name: http, port: 80, targetPort: http}, {name: internal, port: 9090}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: wharf}
spec:
  replicas: 2
  selector: {matchLabels: {app: wharf}}
  template:
    metadata: {labels: {app: wharf}}
    spec:
      automountServiceAccountToken: false
      containers:
      - name: server
        image: pywharf.test/any
        args: [server, /var/lib/pywharf, --config=/etc/pywharf/config.toml, --extra_index_url=, --internal_port=9090,
               --session_secret=/etc/pywharf-session/key]
        ports: [{name: http, containerPort: 8888}, {name: internal, containerPort: 9090}]
        readinessProbe: {httpGet: {path: /readyz, port: internal}, periodSeconds: 2, failureThreshold: 1}
        livenessProbe: {httpGet: {path: /healthz, port: internal}, periodSeconds: 20}
        volumeMounts:
        - {name: config, mountPath: /etc/pywharf, readOnly: true}
        - {name: session, mountPath: /etc/pywharf-session, readOnly: true}
        - {name: data, mountPath: /var/lib/pywharf}
        - {name: tmp, mountPath: /tmp}
      volumes:
      - name: config
        projected:
          defaultMode: 0440
          sources:
          - configMap: {name: config}
          - secret: {name: credentials, items: [{key: demo.read, path: credentials/demo.read}]}
          - secret: {name: never-there, optional: true}
      - {name: session, secret: {secretName: session}}
      - {name: data, persistentVolumeClaim: {claimName: data}}
      - {name: tmp, emptyDir: {}}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {{name: index}}
spec:
  backoffLimit: 0
  template:
    spec:
      automountServiceAccountToken: false
      restartPolicy: Never
      containers:
      - name: index
        image: pywharf.test/any
        args: [update_index, {type}, demo, --root=/var/lib/pywharf, --report=/dev/termination-log]
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
        - {{name: data, mountPath: /var/lib/pywharf/cache/demo, subPath: cache/demo}}
        - {{name: tmp, mountPath: /tmp}}
      volumes:
      - {{name: data, emptyDir: {{}}}}
      - {{name: tmp, emptyDir: {{}}}}
"""


def apply(cluster: Cluster, namespace: str, *texts: str) -> None:
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", f"--namespace={namespace}", "-f", "-", input="---\n".join(texts)
    )


def available(kube: KubeClient, namespace: str) -> int:
    found = kube.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/wharf")
    return found["status"].get("availableReplicas", 0) if found else 0


def annotate_pod(kube: KubeClient, namespace: str, pod: str, value: str) -> None:
    kube.patch(
        f"/api/v1/namespaces/{namespace}/pods/{pod}", {"metadata": {"annotations": {"pywharf.dev/config": value}}}
    )


def rotate(kube: KubeClient, namespace: str, secret: str) -> None:
    kube.patch(f"/api/v1/namespaces/{namespace}/secrets/credentials", {"stringData": {"demo.read": secret}})


def the_pod(kube: KubeClient, namespace: str, *, but: str = "") -> dict[str, Any]:
    """Wait for a pod whose name is not `but`, and return it."""
    path = f"/api/v1/namespaces/{namespace}/pods"

    def found() -> dict[str, Any] | None:
        return next((one for one in kube.list(path) if one["metadata"]["name"] != but), None)

    pod = wait_for(found, "a pod")
    assert pod is not None
    return pod


def test_a_deployment_serves(cluster, kube, namespace, kubelet: Kubelet):
    apply(cluster, namespace, SERVER)
    wait_for(lambda: available(kube, namespace) == 2, f"two replicas\n{kubelet.account()}", longest_s=60)
    urls = kubelet.urls(namespace, "wharf")
    assert len(set(urls)) == 2
    assert all(url.startswith("http://127.") and url.endswith(":8888") for url in urls)
    assert all(url.endswith(":9090") for url in kubelet.urls(namespace, "wharf", "internal"))
    assert [index_status(url, "demo", "first-secret") for url in urls] == [200, 200]
    assert [index_status(url, "demo", "wrong") for url in urls] == [401, 401]
    # The stand-in only creates the volume. The controllers set the claim's state, which takes a moment.
    claim = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data"
    wait_for(lambda: (kube.get(claim) or {})["status"]["phase"] == "Bound", "the claim")


def test_a_change_is_seen_once_the_annotations_change(cluster, kube, namespace, kubelet: Kubelet):
    apply(cluster, namespace, SERVER.replace("replicas: 2", "replicas: 1"))
    (url,) = kubelet.wait_for_urls(namespace, "wharf", 1)
    (pod,) = kubelet.pods(namespace, app="wharf")
    name = pod["metadata"]["name"]
    file = kubelet.volume(name, "config") / "credentials" / "demo.read"
    assert file.read_text() == "first-secret"
    assert (file.stat().st_mode & 0o777) == 0o440
    rotate(kube, namespace, "second-secret")
    assert file.read_text() == "first-secret"  # as on a node, for up to a minute
    annotate_pod(kube, namespace, name, "1")
    wait_for(lambda: file.read_text() == "second-secret", "the annotation", longest_s=5)
    wait_for(lambda: index_status(url, "demo", "second-secret") == 200, "the new secret", longest_s=15)

    kubelet.hold_volumes(name, "Secret")
    rotate(kube, namespace, "third-secret")
    kube.patch(f"/api/v1/namespaces/{namespace}/configmaps/config", {"data": {"more": "text"}})
    annotate_pod(kube, namespace, name, "2")
    wait_for((file.parents[1] / "more").exists, "the ConfigMap alone", longest_s=5)
    assert file.read_text() == "second-secret"
    kubelet.release(name)
    assert file.read_text() == "third-secret"


def test_without_an_annotation_it_takes_until_the_next_refresh(cluster, kube, namespace, tmp_path):
    cluster.need_controllers()
    with kubelet_of(cluster, tmp_path / "kubelet", namespace, refresh_s=2) as kubelet:
        apply(cluster, namespace, SERVER.replace("replicas: 2", "replicas: 1"))
        kubelet.wait_for_urls(namespace, "wharf", 1)
        (pod,) = kubelet.pods(namespace, app="wharf")
        file = kubelet.volume(pod["metadata"]["name"], "config") / "credentials" / "demo.read"
        rotate(kube, namespace, "second-secret")
        wait_for(lambda: file.read_text() == "second-secret", "the refresh", longest_s=15)


def test_a_pod_waits_for_what_its_volumes_need(cluster, kube, namespace, kubelet: Kubelet):
    documents = SERVER.replace("replicas: 2", "replicas: 1").split("---\n")
    secret = next(text for text in documents if "first-secret" in text)
    apply(cluster, namespace, *(text for text in documents if text != secret))

    def waiting() -> bool:
        status = the_pod(kube, namespace).get("status", {})
        return 'secret "credentials" not found' in status.get("message", "")

    wait_for(waiting, "the pod to say what it waits for")
    status = the_pod(kube, namespace)["status"]
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    apply(cluster, namespace, secret)
    kubelet.wait_for_urls(namespace, "wharf", 1)


@pytest.mark.parametrize(("kind", "outcome"), [("file_system", "Complete"), ("no_such_type", "Failed")])
def test_a_job_ends_with_its_message(cluster, kube, namespace, kubelet: Kubelet, kind, outcome):
    apply(cluster, namespace, JOB.format(type=kind))
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/index"

    def ended() -> bool:
        conditions = (kube.get(path) or {}).get("status", {}).get("conditions", ())
        return any(one["type"] == outcome and one["status"] == "True" for one in conditions)

    wait_for(ended, f"{outcome}\n{kubelet.account()}", longest_s=60)
    terminated = the_pod(kube, namespace)["status"]["containerStatuses"][0]["state"]["terminated"]
    if outcome == "Complete":
        assert terminated["exitCode"] == 0
        assert json.loads(terminated["message"])["files"] == 0
    else:
        assert terminated["exitCode"] > 0
        assert "no_such_type" in terminated["message"]
    assert terminated["finishedAt"] >= terminated["startedAt"]


def test_a_deleted_pod_ends_and_what_it_wrote_stays(cluster, kube, namespace, kubelet: Kubelet):
    apply(cluster, namespace, SERVER.replace("replicas: 2", "replicas: 1"))
    kubelet.wait_for_urls(namespace, "wharf", 1)
    first = the_pod(kube, namespace)["metadata"]["name"]
    (kubelet.volume(first, "data") / "kept").write_text("yes")
    kube.delete(f"/api/v1/namespaces/{namespace}/pods/{first}")
    wait_for(lambda: kube.get(f"/api/v1/namespaces/{namespace}/pods/{first}") is None, "its end", longest_s=60)
    assert "Serving on" in kubelet.log(first)
    second = the_pod(kube, namespace, but=first)["metadata"]["name"]
    kubelet.wait_for_urls(namespace, "wharf", 1)
    assert (kubelet.volume(second, "data") / "kept").read_text() == "yes"
    assert not os.path.lexists("/etc/pywharf/config.toml")  # nothing was written to this machine itself


def test_a_frozen_server_is_not_ready_and_a_killed_one_starts_again(cluster, kube, namespace, kubelet: Kubelet):
    apply(cluster, namespace, SERVER.replace("replicas: 2", "replicas: 1"))
    kubelet.wait_for_urls(namespace, "wharf", 1)
    name = the_pod(kube, namespace)["metadata"]["name"]
    kubelet.freeze(name)
    kubelet.wait_for_urls(namespace, "wharf", 0)
    kubelet.thaw(name)
    kubelet.wait_for_urls(namespace, "wharf", 1)
    kubelet.kill(name)

    def restarted() -> bool:
        (status,) = the_pod(kube, namespace)["status"]["containerStatuses"]
        return bool(status["restartCount"] == 1 and status["ready"])

    wait_for(restarted, f"the restart\n{kubelet.account()}", longest_s=30)
    (status,) = the_pod(kube, namespace)["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 137
