"""For every pod spec field that Kubernetes knows, the operator decides whether Jobs inherit it."""

from pywharf_operator.render.pod.job_pod import INHERITED, NOT_INHERITED
from support.cluster.kube_client import KubeClient

POD_SPEC = "io.k8s.api.core.v1.PodSpec"


def test_every_field_is_decided(kube: KubeClient):
    found = kube.request("GET", "/openapi/v3/api/v1")
    fields = set(found["components"]["schemas"][POD_SPEC]["properties"])
    assert not INHERITED.keys() & NOT_INHERITED.keys()
    decided = INHERITED.keys() | NOT_INHERITED.keys()
    assert fields - decided == set(), "say in render/job_pod.py whether Jobs take them over, and why"
    assert decided - fields == set()
