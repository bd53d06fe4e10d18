"""User-defined labels, annotations and user ids: they reach every object and pod, and override no key of pywharf.

A newly rendered kind must be added to `EVERYTHING`.
"""

import json
from typing import Any

import pytest

from pywharf.config.object_stores import S3Spec
from pywharf.config.repo_config import BackendSpec, FileSystemSpec
from pywharf_operator.cluster.live import metadata_change
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.reconciling.session_key import _manifest
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.render.labels import labels
from pywharf_operator.render.objects.job import update_job
from pywharf_operator.spec.kinds import JOB, OWNED, kind_of
from pywharf_operator.spec.names import RENDERED_ANNOTATION
from pywharf_operator.spec.own_metadata import RESERVED_KEYS, RESERVED_PREFIXES
from support.operator.manifest_text import parsed, parsed_each

SPECS: dict[str, type[BackendSpec]] = {"file_system": FileSystemSpec, "s3": S3Spec}
ENVIRONMENT = Environment(specs=SPECS, image="p:1", apis=frozenset({"HTTPRoute", "ServiceMonitor"}))
RWX = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
EVERYTHING = {
    "autoscaling": {"maxReplicas": 3},
    "storage": RWX,
    "ingress": {"host": "a.example", "annotations": {"of": "ingress"}},
    "httpRoute": {"parentRefs": [{"name": "a"}]},
    "serviceMonitor": {"labels": {"of": "monitor"}},
    "service": {"annotations": {"of": "service"}},
}
OWN = {"labels": {"cost-center": "42", "of": "all"}, "annotations": {"example.com/owner": "team", "of": "all"}}
IDS = ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups")


def objects(**spec):
    """Return a server with two repos and every object rendered for it."""
    server = {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageServer",
        "metadata": {"name": "pywharf", "namespace": "ml", "uid": "u"},
        "spec": {**EVERYTHING, "ambientIdentity": {"namespaces": ["ml"]}, **spec},
    }
    credentials = {"anonymousRead": True, "readOnly": True}
    repos = [
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageRepo",
            "metadata": {"name": f"repo-{number}", "namespace": "ml"},
            "spec": {"backend": backend, "credentials": credentials},
        }
        for number, backend in enumerate(({"fileSystem": {}}, {"s3": {"bucket": "abc"}}))
    ]
    found = parsed_each(*(json.dumps(one) for one in (server, *repos)), namespace="ml")
    assert found.problems == ()
    (verdict,) = resolve(snapshot_of(found), ENVIRONMENT).servers
    assert verdict.accepted.status, verdict.accepted
    rendered = render_server(verdict, ENVIRONMENT)
    jobs = [update_job(cron_job, "now") for cron_job in rendered.cron_jobs]
    return verdict.server, [*rendered.objects, _manifest(verdict.server), *jobs]


def templates(made, path=""):
    """Yield every template with metadata inside an object, by its path."""
    if isinstance(made, dict):
        for key, value in made.items():
            if key in {"template", "jobTemplate"}:
                yield f"{path}.{key}", value
            yield from templates(value, f"{path}.{key}")


def pods(made):
    """Return the spec of every pod inside an object."""
    return [template["spec"] for _, template in templates(made) if "containers" in template["spec"]]


def everything(**spec):
    """Return the server, and the metadata by object and path."""
    server, made = objects(**spec)
    found: dict[str, Any] = {}
    for one in made:
        name = f"{one['kind']}/{one['metadata']['name']}"
        found |= {name + path: part["metadata"] for path, part in [("", one), *templates(one)]}
    return server, found


def test_every_kind_is_here():
    _, made = objects()
    assert {kind_of(one) for one in made} == {*OWNED, JOB}
    assert sum(len(pods(one)) for one in made) == 1 + 2 + 2


def test_every_object_and_template_has_them():
    server, found = everything(**OWN)
    for name, metadata in found.items():
        own = {"of": "monitor"} if name == "ServiceMonitor/pywharf" else {}
        assert (OWN["labels"] | own).items() <= metadata["labels"].items(), name
        own = {"of": {"Ingress": "ingress", "Service": "service"}.get(name.removesuffix("/pywharf"), "all")}
        assert (OWN["annotations"] | own).items() <= metadata["annotations"].items(), name
        ours = labels(server, "index" if "index" in name else "server")
        assert ours.items() <= metadata["labels"].items(), name


def test_without_them_nothing_is_left_of_them():
    _, before = everything()
    _, with_them = everything(**OWN)
    assert before.keys() == with_them.keys()
    for name, metadata in before.items():
        assert "cost-center" not in metadata["labels"], name
        assert "example.com/owner" not in metadata.get("annotations", {}), name


@pytest.mark.parametrize("ids", ["Fixed", "FromCluster"])
def test_every_pod_has_the_ids_or_none(ids):
    _, made = objects(security={"userIDs": ids})
    for one in made:
        for spec in pods(one):
            texts = json.dumps(spec)
            assert ("65532" in texts) == (ids == "Fixed"), one["metadata"]["name"]
            assert any(f'"{field}"' in texts for field in IDS) == (ids == "Fixed")
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"]:
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_every_container_has_requests_and_a_limit_of_memory_and_storage():
    _, made = objects()
    for one in made:
        for spec in pods(one):
            for container in spec["containers"]:
                resources = container["resources"]
                assert set(resources["requests"]) == {"cpu", "memory", "ephemeral-storage"}
                assert set(resources["limits"]) == {"memory", "ephemeral-storage"}


def live(server, **changes):
    """Return the session Secret as the API server has it after the operator's POST and changes by others."""
    made = _manifest(server)
    fields: dict[str, Any] = {
        part: {f"f:{key}": {} for key in made["metadata"][part]} for part in ("labels", "annotations")
    }
    entry: dict[str, Any] = {"manager": "pywharf-operator", "operation": "Update", "fieldsV1": {"f:metadata": {}}}
    entry["fieldsV1"]["f:metadata"] = {f"f:{part}": keys for part, keys in fields.items()}
    for part, values in changes.items():
        made["metadata"][part] |= values
    return made | {"metadata": made["metadata"] | {"managedFields": [entry]}}


def test_the_session_secret_gets_and_loses_them():
    """The Secret is created once. Afterwards only its metadata is merged."""
    plain, _ = objects()
    wanted, _ = objects(**OWN)
    assert metadata_change(live(plain), _manifest(plain)["metadata"]) == {}
    change = metadata_change(live(plain), _manifest(wanted)["metadata"])
    assert change["labels"] == OWN["labels"]
    assert OWN["annotations"].items() <= change["annotations"].items()
    others = live(wanted, labels={"another": "x"}, annotations={"theirs": "y"})
    change = metadata_change(others, _manifest(plain)["metadata"])
    assert change["labels"] == dict.fromkeys(OWN["labels"])
    assert {key: value for key, value in change["annotations"].items() if key != RENDERED_ANNOTATION} == dict.fromkeys(
        OWN["annotations"]
    )


WRONG_KEYS = [*RESERVED_KEYS, *(f"{prefix}x" for prefix in RESERVED_PREFIXES), "", "a b", "/a", "A.example/a", "-a"]
WRONG_KEYS += ["a" * 64, "a.example/" + "a" * 64, "a" * 254 + "/a", "a/b/c", "a\n"]


@pytest.mark.parametrize("field", ["labels", "annotations", "jobs.labels", "jobs.annotations", "service.annotations"])
@pytest.mark.parametrize("key", WRONG_KEYS)
def test_keys_that_are_refused(field, key):
    outer, _, inner = field.rpartition(".")
    spec = {outer: {inner: {key: "x"}}} if outer else {inner: {key: "x"}}
    text = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageServer", "metadata": {"name": "a"}, "spec": spec}
    (problem,) = parsed(json.dumps(text), "ml").problems
    assert f"spec.{field}: " in str(problem)


@pytest.mark.parametrize("key", ["a", "A_b.c-1", "example.com/a", "app.kubernetes.io/version", "a" * 63, "kueue.x/y"])
def test_keys_that_are_taken(key):
    _, found = everything(labels={key: "x"}, annotations={key: "x"})
    assert all(metadata["labels"][key] == "x" for metadata in found.values())
