"""What Jobs inherit of each field of the server's `podTemplate.spec`, and what they do not."""

import json
from typing import Any

import pytest

from pywharf.config.object_stores import S3Spec
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, resolve
from pywharf_operator.render.objects.cron_job import cron_jobs
from pywharf_operator.render.pod.job_pod import CONTAINER, INHERITED, NOT_INHERITED, inherited_removals
from support.operator.manifest_text import parsed_each
from support.operator.store_keys import S3_KEYS

ENVIRONMENT = Environment(specs={"s3": S3Spec}, image="p:1")
NODE: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
SERVER = {
    "name": "server",
    "image": "other:1",
    "imagePullPolicy": "Always",
    "securityContext": {"readOnlyRootFilesystem": False, "seLinuxOptions": {"level": "s0"}},
    "livenessProbe": None,
    "env": [{"name": "A", "value": "b"}],
    "volumeMounts": [{"name": "ca", "mountPath": "/ca"}, {"name": "own", "mountPath": "/own"}],
}
CA = {"name": "ca", "configMap": {"name": "ca"}}
GIVEN: dict[str, Any] = {
    "activeDeadlineSeconds": 7,
    "affinity": {"nodeAffinity": NODE, "podAffinity": {"a": []}, "podAntiAffinity": {"a": []}},
    "automountServiceAccountToken": True,
    "containers": [SERVER, {"name": "sidecar", "image": "s"}],
    "dnsConfig": {"nameservers": ["10.0.0.1"]},
    "dnsPolicy": "None",
    "enableServiceLinks": True,
    "ephemeralContainers": [{"name": "e"}],
    "evictionResponders": [{"name": "e"}],
    "hostAliases": [{"ip": "10.0.0.2", "hostnames": ["a.example"]}],
    "hostIPC": True,
    "hostNetwork": True,
    "hostPID": True,
    "hostUsers": False,
    "hostname": "a",
    "hostnameOverride": "a",
    "imagePullSecrets": [{"name": "a"}],
    "initContainers": [{"name": "a", "image": "a"}],
    "nodeName": "a",
    "nodeSelector": {"a": "a"},
    "os": {"name": "linux"},
    "overhead": {"cpu": "1"},
    "preemptionPolicy": "Never",
    "priority": 5,
    "priorityClassName": "a",
    "readinessGates": [{"conditionType": "a"}],
    "resourceClaims": [{"name": "a"}],
    "resources": {"limits": {"cpu": "1"}},
    "restartPolicy": "Always",
    "runtimeClassName": "a",
    "schedulerName": "a",
    "schedulingGates": [{"name": "a"}],
    "schedulingGroup": {"podGroupName": "a"},
    "securityContext": {"runAsUser": None, "supplementalGroups": [5], "seLinuxOptions": {"level": "s0"}},
    "serviceAccount": "a",
    "serviceAccountName": "identity",
    "setHostnameAsFQDN": True,
    "shareProcessNamespace": True,
    "subdomain": "a",
    "terminationGracePeriodSeconds": 7,
    "tolerations": [{"key": "a"}],
    "topologySpreadConstraints": [{"topologyKey": "a"}],
    "volumes": [CA, {"name": "own", "emptyDir": {}}, {"name": "keys", "secret": {"secretName": "keys"}}],
}
"""A value for every field of a pod's spec. tests/cluster/test_pod_fields.py compares the fields with Kubernetes."""
CHANGED: dict[str, Any] = {
    "affinity": {"nodeAffinity": NODE},
    "serviceAccountName": "pywharf-index",
    "securityContext": {
        "runAsNonRoot": True,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
        "supplementalGroups": [5],
        "seLinuxOptions": {"level": "s0"},
    },
}
"""The Job's value of each field that is inherited in part."""


def job(fields, *, lent=False, removals=()):
    """Return the spec of a Job's pod."""
    objects = [
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageServer",
            "metadata": {"name": "pywharf"},
            "spec": {
                "podTemplate": {"spec": fields},
                "podTemplateRemovals": list(removals),
                "ambientIdentity": {"namespaces": ["ml"]},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "labels": {"pywharf.dev/credentials": "true"}},
            "stringData": {"keys": S3_KEYS},
        },
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageRepo",
            "metadata": {"name": "a"},
            "spec": {
                "backend": {"s3": {"bucket": "abc"}},
                "credentials": {"anonymousRead": True, "readOnly": True}
                | ({} if lent else {"backendSecretRef": {"name": "keys", "key": "keys"}}),
            },
        },
    ]
    found = parsed_each(*(json.dumps(one) for one in objects), namespace="ml")
    assert found.problems == ()
    (verdict,) = resolve(snapshot_of(found), ENVIRONMENT).servers
    assert verdict.accepted.status, verdict.accepted
    (made,) = cron_jobs(verdict, ENVIRONMENT, shard_count=1)
    return made["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_each_field_has_a_value_here():
    assert GIVEN.keys() == INHERITED.keys() | NOT_INHERITED.keys()


@pytest.mark.parametrize("field", sorted(INHERITED.keys() - {"containers", "volumes"}))
def test_taken(field):
    before, after = job({}), job({field: GIVEN[field]})
    assert after.pop(field) == CHANGED.get(field, GIVEN[field])
    before.pop(field, None)
    assert after == before


@pytest.mark.parametrize("field", NOT_INHERITED)
def test_not_taken(field):
    assert job({field: GIVEN[field]}) == job({})


def test_of_containers_and_volumes():
    before, after = job({}), job({"containers": GIVEN["containers"], "volumes": GIVEN["volumes"]})
    (old,), (new,) = before.pop("containers"), after.pop("containers")
    assert new.pop("imagePullPolicy") == "Always"
    assert new.pop("env") == [{"name": "A", "value": "b"}]
    assert new.pop("securityContext") == old.pop("securityContext") | SERVER["securityContext"]
    assert [one for one in new.pop("volumeMounts") if one not in old["volumeMounts"]] == [
        {"name": "ca", "mountPath": "/ca"}
    ]
    assert new == {key: value for key, value in old.items() if key not in {"imagePullPolicy", "volumeMounts"}}
    volumes = before.pop("volumes")
    assert [one for one in after.pop("volumes") if one not in volumes] == [CA]
    assert after == before


def test_the_account_where_the_identity_is_lent():
    assert job({"serviceAccountName": "identity"}, lent=True)["serviceAccountName"] == "identity"


@pytest.mark.parametrize("affinity", [{}, {"podAntiAffinity": {}}, None])
def test_an_affinity_without_nodes(affinity):
    assert "affinity" not in job({"affinity": affinity})


OF_SERVER = "spec.containers[server].securityContext.capabilities"
REMOVALS = {
    "spec.securityContext.runAsUser": "spec.securityContext.runAsUser",
    "spec.securityContext": "spec.securityContext",
    "spec[securityContext][runAsGroup]": "spec[securityContext][runAsGroup]",
    OF_SERVER: "spec[containers][index][securityContext][capabilities]",
    "spec.containers.server.securityContext": "spec[containers][index][securityContext]",
    "spec[containers][server][securityContext]": "spec[containers][index][securityContext]",
    "spec.containers[server].securityContext.capabilities.drop[ALL]": (
        "spec[containers][index][securityContext][capabilities][drop][ALL]"
    ),
    "spec.containers[server].imagePullPolicy": "spec[containers][index][imagePullPolicy]",
    # Fields that a Job sets itself, and fields of the server only.
    "spec.containers": None,
    "spec.containers[server]": None,
    "spec.containers[server].startupProbe": None,
    "spec.containers[server].resources.limits.memory": None,
    "spec.containers[server].args[--access_log=json]": None,
    "spec.containers[server].volumeMounts[/tmp]": None,
    "spec.containers[sidecar].securityContext": None,
    "spec.volumes[tmp]": None,
    "spec.affinity": None,
    "spec.terminationGracePeriodSeconds": None,
    "spec.automountServiceAccountToken": None,
}


@pytest.mark.parametrize(("path", "taken"), REMOVALS.items())
def test_taken_removals(path, taken):
    assert inherited_removals([path], identity=True) == ([] if taken is None else [taken])


def test_taken_removals_keep_their_order():
    assert inherited_removals(REMOVALS, identity=False) == [taken for taken in REMOVALS.values() if taken is not None]


@pytest.mark.parametrize(
    "field", sorted(INHERITED.keys() - {"affinity", "containers", "serviceAccountName", "volumes"})
)
def test_taken_removals_of_each_field_that_is_taken_over(field):
    assert inherited_removals([f"spec.{field}"], identity=False) == [f"spec.{field}"]


@pytest.mark.parametrize("field", NOT_INHERITED)
def test_taken_removals_of_each_field_that_is_not(field):
    assert inherited_removals([f"spec.{field}", f"spec.{field}.part"], identity=True) == []


@pytest.mark.parametrize("identity", [True, False])
def test_taken_removals_of_the_account_go_with_the_identity(identity):
    path = "spec.serviceAccountName"
    assert inherited_removals([path], identity=identity) == ([path] if identity else [])


@pytest.mark.parametrize(
    "path", [OF_SERVER, OF_SERVER.replace("[server]", ".server"), "spec[containers][server][securityContext]"]
)
def test_a_job_loses_what_its_server_loses_however_the_path_is_spelt(path):
    (before,), (after,) = job({})["containers"], job({}, removals=[path])["containers"]
    assert before["name"] == CONTAINER
    assert "capabilities" in before["securityContext"]
    assert "capabilities" not in after.get("securityContext", {})


def test_a_removal_of_what_a_job_lacks_is_no_fault():
    assert job({}, removals=["spec.containers[server].startupProbe"]) == job({})
