"""Two managers of one object: the operator restores its values at growing intervals; the server names the other."""

import time

import pytest

from support.cluster.kube_client import ApiError
from support.cluster.resources import (
    apply,
    condition,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.operator import operating
from support.waiting import wait_for

RENDERED = "pywharf.dev/rendered"
CONFLICT = 409


def forgetting(live):
    """Change the object like a manager that writes the whole object from its own files."""
    annotations = {key: value for key, value in live["metadata"].get("annotations", {}).items() if key != RENDERED}
    made = live | {"metadata": live["metadata"] | {"annotations": annotations}}
    return made | {"spec": live["spec"] | {"selector": {"app": "other"}}}


def narrowed(live):
    return live | {"spec": live["spec"] | {"selector": live["spec"]["selector"] | {"more": "x"}}}


def replace(kube, where, change):
    """Replace the object like `kubectl replace`."""

    def put():
        live = kube.get(where)
        try:
            return kube.request("PUT", where, change(live), fieldManager="somebody")
        except ApiError as error:
            if error.status == CONFLICT:
                return None
            raise

    return wait_for(put, f"{where} replaced")


@pytest.mark.parametrize("change", [narrowed, forgetting])
def test_who_fights_is_named_and_waited_for(cluster, kube, namespace, tmp_path, change):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    where = path("services", namespace, "pywharf", "/api/v1")
    of_server = path("packageservers", namespace, "pywharf")
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for_config(kube, namespace, "team-a")
        good = wait_for(lambda: kube.get(where), "the Service")["spec"]["selector"]

        def is_good():
            return kube.get(where)["spec"]["selector"] == good

        waits = []
        for _ in range(4):
            replace(kube, where, change)
            started = time.monotonic()
            wait_for(is_good, "the selector put back", longest_s=60)
            waits.append(time.monotonic() - started)
        # Immediately, then 2, 4 and 8 seconds after the previous restore.
        assert waits[0] < 10
        assert sum(waits[1:]) > 9, waits
        assert waits[3] > waits[1], waits
        replace(kube, where, change)
        found = wait_for_condition(kube, of_server, "Ready", "False", reason="Contested", longest_s=20)
        assert f"Service {namespace}/pywharf: somebody changes" in condition(found, "Ready")["message"]
        wait_for(is_good, "the selector put back", longest_s=60)


def test_what_another_adds_stays(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    where = path("services", namespace, "pywharf", "/api/v1")
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for_config(kube, namespace, "team-a")
        live = wait_for(lambda: kube.get(where), "the Service")
        labels = {"team": "x", "app.kubernetes.io/part-of": "another"}
        change = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pywharf", "labels": labels},
            "spec": {"sessionAffinity": "ClientIP"},
        }
        kube.apply(where, change, "somebody", force=True)
        part_of = live["metadata"]["labels"]["app.kubernetes.io/part-of"]

        def put_back():
            found = kube.get(where)
            return found if found["metadata"]["labels"]["app.kubernetes.io/part-of"] == part_of else None

        found = wait_for(put_back, "the label put back", longest_s=30)
        assert found["metadata"]["labels"]["team"] == "x"
        assert found["spec"]["sessionAffinity"] == "ClientIP"
