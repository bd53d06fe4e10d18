"""Objects of a server that somebody deletes or edits are put back; an object of another's is left alone."""

import pytest

from support import operating
from support.resources import apply, condition, path, repo, secret_of, server, wait_for_condition, wait_for_config
from support.waiting import wait_for

PUT_BACK_S = 30.0
OWNED = [
    ("configmaps", "pywharf-config", "/api/v1"),
    ("secrets", "pywharf-credentials", "/api/v1"),
    ("services", "pywharf", "/api/v1"),
    ("serviceaccounts", "pywharf", "/api/v1"),
    ("deployments", "pywharf", "/apis/apps/v1"),
    ("networkpolicies", "pywharf", "/apis/networking.k8s.io/v1"),
]
LABEL = "pywharf.dev/server"


def test_deleted_or_edited_is_put_back(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        wait_for_config(kube, namespace, "team-a")
        for plural, name, group in OWNED:
            where = path(plural, namespace, name, group)
            uid = wait_for(lambda where=where: kube.get(where), where)["metadata"]["uid"]
            kube.patch(where, {"metadata": {"labels": {LABEL: "other"}, "annotations": {"other": "stays"}}})

            def labelled(where=where):
                return kube.get(where)["metadata"]["labels"].get(LABEL) == "pywharf"

            wait_for(labelled, f"the label of {where} put back", longest_s=PUT_BACK_S)
            assert kube.get(where)["metadata"]["annotations"]["other"] == "stays", where
            kube.delete(where)

            def made_again(where=where, uid=uid):
                return (kube.get(where) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid

            wait_for(made_again, f"{where} made again", longest_s=PUT_BACK_S)


@pytest.mark.parametrize("labels", [{}, {LABEL: "pywharf"}])
def test_of_another_is_left_alone(cluster, kube, namespace, tmp_path, labels):
    where = path("serviceaccounts", namespace, "pywharf", "/api/v1")
    metadata = {"name": "pywharf", "namespace": namespace, "labels": labels}
    made = kube.create(
        path("serviceaccounts", namespace, group="/api/v1"),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
    )
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    of_server = path("packageservers", namespace, "pywharf")
    with operating.operating(tmp_path, operating.grant(cluster, namespace), namespace):
        found = wait_for_condition(kube, of_server, "Ready", "False", reason="ObjectNotOwned")
        assert f"ServiceAccount {namespace}/pywharf" in condition(found, "Ready")["message"]
        left = kube.get(where)
        assert left["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
