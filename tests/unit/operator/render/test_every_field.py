"""Every field of a spec has an effect: a change of it changes the rendered objects or the findings.

A new field must be given a change here.
"""

import copy
import json
import re

import pytest

from pywharf.config.repo_config import BackendSpec, FileSystemSpec, GithubSpec
from pywharf_operator.codegen.schema import schema_of
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.local.manifests import parse_file
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.spec import PackageRepo, PackageServer
from support.backend_specs import S3Spec


class GcsSpec(BackendSpec, frozen=True, kw_only=True, tag="gcs"):
    bucket: str
    prefix: str = ""
    endpoint: str = ""
    allow_http: bool = False


class AzureSpec(BackendSpec, frozen=True, kw_only=True, tag="azure"):
    account: str
    container: str
    prefix: str = ""
    endpoint: str = ""
    allow_http: bool = False


ENVIRONMENT = Environment(
    specs={
        "file_system": FileSystemSpec,
        "github": GithubSpec,
        "s3": S3Spec,
        "gcs": GcsSpec,
        "azure": AzureSpec,
    },
    image="pywharf:1",
    apis=frozenset({"HTTPRoute", "ServiceMonitor"}),
    session_key=b"k",
)
LABEL = {"pywharf.dev/credentials": "true"}


def manifest(kind, name, namespace, spec):
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    return {"apiVersion": "pywharf.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def secret(name, namespace):
    values = {"read": f"{name}-r", "write": f"{name}-w", "backend": f"{name}-b", "other": f"{name}-o"}
    metadata = {"name": name, "namespace": namespace, "labels": LABEL}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def made_of(*manifests):
    """Return the results for the manifests, without messages, which may repeat a field that has no effect."""
    found = parse_file(
        "a.yaml", json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}).encode(), "default"
    )
    assert (found.problems, found.notes) == ((), ())
    resolution = resolve(snapshot_of(found), ENVIRONMENT)
    verdicts = [(one.accepted.reason, one.secrets_resolved.reason) for one in resolution.repos]
    verdicts += [(one.accepted.reason, "") for one in resolution.servers]
    return verdicts, [render_server(one, ENVIRONMENT).objects for one in resolution.servers]


def leaves(schema, path=""):
    """Yield the paths of the fields without subfields, as `a.b[].c`."""
    for name, field in schema["properties"].items():
        inner, suffix = (field["items"], "[]") if "items" in field else (field, "")
        if "properties" in inner:
            yield from leaves(inner, f"{path}{name}{suffix}.")
        else:
            yield f"{path}{name}"


def changed(spec, path, value):
    """Return the spec with another value at the path. The path enters the first item of a list."""
    made = copy.deepcopy(spec)
    *steps, last = path.replace("[]", ".0").split(".")
    part = made
    for step in steps:
        part = part[int(step)] if step.isdigit() else part[step]
    assert part[last] != value
    part[last] = value
    return made


FILES = {
    "serverRef": {"name": "pywharf", "namespace": "ml"},
    "repoName": "files",
    "backend": {"fileSystem": {"maxFileBytes": 7, "indexFilename": "a.json"}},
    "credentials": {
        "readSecretRef": {"name": "one", "key": "read"},
        "writeSecretRef": {"name": "one", "key": "write"},
        "anonymousRead": False,
    },
    "index": {"schedule": "1 * * * *", "timeZone": "Etc/UTC", "suspend": False, "syncIntervalSeconds": 5},
    "upstream": {"url": "https://a.example/", "mode": "Pages", "reserved": ["a"], "allowShadowing": ["b"]},
}
NO_CLIENTS = {"anonymousRead": True, "readOnly": True, "backendSecretRef": {"name": "one", "key": "backend"}}


def stored(**backend):
    return {"backend": backend, "credentials": NO_CLIENTS}


COMMON = {"prefix": "a/", "endpoint": "https://a.example", "allowHTTP": False}
FILE = {"indexFilename": "a.json", "maxFileBytes": 7}
S3 = stored(s3={"bucket": "abc", "region": "a", **COMMON, **FILE})
GCS = stored(gcs={"bucket": "abc", **COMMON, **FILE})
AZURE = stored(azure={"account": "abc", "container": "abc", **COMMON, **FILE})
HUB = {"owner": "a", "repo": "a", "branch": "a", "apiURL": "https://a.example", "download": "redirect", **FILE}
GITHUB = {"backend": {"github": HUB}, "credentials": {"backendSecretRef": {"name": "one", "key": "backend"}}}
OF_FILES = {"indexFilename": "b.json", "maxFileBytes": 8}
OF_COMMON = {"prefix": "b/", "endpoint": "https://b.example", "allowHTTP": True, **OF_FILES}


def under(path, spec, values):
    return {f"{path}.{field}": (spec, value) for field, value in values.items()}


REPO_CHANGES = {
    "serverRef.name": (FILES, "other"),
    "serverRef.namespace": (FILES, "other"),
    "repoName": (FILES, "other"),
    **under("backend.fileSystem", FILES, OF_FILES),
    **under("backend.github", GITHUB, {"owner": "b", "repo": "b", "branch": "b", "apiURL": "https://b.example"}),
    **under("backend.github", GITHUB, {"download": "stream", **OF_FILES}),
    **under("backend.s3", S3, {"bucket": "xyz", "region": "b", **OF_COMMON}),
    **under("backend.gcs", GCS, {"bucket": "xyz", **OF_COMMON}),
    **under("backend.azure", AZURE, {"account": "xyz", "container": "xyz", **OF_COMMON}),
    **under("credentials.readSecretRef", FILES, {"name": "two", "key": "other"}),
    **under("credentials.writeSecretRef", FILES, {"name": "two", "key": "other"}),
    **under("credentials.backendSecretRef", S3, {"name": "two", "key": "other"}),
    "credentials.anonymousRead": (FILES, True),
    "credentials.readOnly": (S3, False),
    "index.schedule": (FILES, "2 * * * *"),
    "index.timeZone": (FILES, "Europe/Paris"),
    "index.suspend": (FILES, True),
    "index.syncIntervalSeconds": (FILES, 6),
    "upstream.url": (FILES, "https://b.example/"),
    "upstream.mode": (FILES, "None"),
    "upstream.reserved": (FILES, ["c"]),
    "upstream.allowShadowing": (FILES, ["c"]),
}
SPEC_OF_SERVER = {"storage": {"size": "1Gi"}, "allowedEndpoints": ["a.example", "b.example"]}


@pytest.mark.parametrize("path", REPO_CHANGES)
def test_fields_of_a_repo(path):
    spec, value = REPO_CHANGES[path]

    def made(spec):
        of_server = manifest("PackageServer", "pywharf", "ml", SPEC_OF_SERVER)
        return made_of(of_server, secret("one", "ml"), secret("two", "ml"), manifest("PackageRepo", "a", "ml", spec))

    before = made(spec)
    assert before[0][0] == ("Accepted", "Resolved")
    assert made(changed(spec, path, value)) != before


FIXED = {
    "image": "a:1",
    "replicas": 1,
    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
    "storage": {"size": "1Gi", "storageClassName": "a", "accessModes": ["ReadWriteOnce"]},
    "allowedNamespaces": {
        "from": "Selector",
        "selector": {
            "matchLabels": {"stage": "live"},
            "matchExpressions": [{"key": "team", "operator": "In", "values": ["x"]}],
        },
    },
    "allowedEndpoints": ["a.example"],
    "limits": {"reposPerNamespace": 5, "repoTableBytes": 4096, "minScheduleIntervalSeconds": 60},
    "ambientIdentity": {"namespaces": ["other"]},
    "upstream": {"url": "https://a.example/", "mode": "Pages", "reserved": ["a"]},
    "authReadExpires": 1,
    "authWriteExpires": 1,
    "tls": {"secretRef": {"name": "a"}},
    "ingress": {"className": "a", "host": "a.example", "tlsSecretName": "a", "annotations": {"a": "a"}},
    "httpRoute": {
        "parentRefs": [{"name": "a", "namespace": "a", "sectionName": "a"}],
        "hostnames": ["a.example"],
        "annotations": {"a": "a"},
    },
    "serviceMonitor": {"labels": {"a": "a"}, "interval": "30s"},
    "podTemplate": {"spec": {"nodeSelector": {"a": "a"}}},
    "podTemplateRemovals": ["spec.securityContext.runAsGroup"],
    "labels": {"a": "a"},
    "annotations": {"a": "a"},
    "security": {"userIDs": "Fixed"},
    "service": {
        "type": "LoadBalancer",
        "annotations": {"a": "a"},
        "loadBalancerClass": "a.example/a",
        "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "SingleStack",
    },
    "jobs": {
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "labels": {"a": "a"},
        "annotations": {"a": "a"},
        "podTemplate": {"spec": {"nodeSelector": {"a": "a"}}},
    },
}
BY_PORTS = FIXED | {"service": {"type": "NodePort"}}
SCALED = {
    "autoscaling": {"minReplicas": 2, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
    "storage": {"existingClaim": "a", "accessModes": ["ReadWriteMany"]},
}
SERVER_CHANGES = {
    "image": (FIXED, "a:2"),
    "replicas": (FIXED, 0),
    **under("autoscaling", SCALED, {"minReplicas": 1, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60}),
    **under("resources", FIXED, {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}),
    **under("storage", FIXED, {"size": "2Gi", "storageClassName": "b", "accessModes": ["ReadWriteMany"]}),
    "storage.existingClaim": (SCALED, "b"),
    "allowedNamespaces.from": (SCALED | {"allowedNamespaces": {"from": "Same"}}, "All"),
    "allowedNamespaces.selector.matchLabels": (FIXED, {"stage": "test"}),
    **under(
        "allowedNamespaces.selector.matchExpressions[]",
        FIXED,
        {"key": "stage", "operator": "NotIn", "values": ["y"]},
    ),
    "allowedEndpoints": (FIXED, ["b.example"]),
    # A second repo of the namespace, a table of about 1,500 bytes, and a schedule of every 15 minutes.
    **under("limits", FIXED, {"reposPerNamespace": 1, "repoTableBytes": 1024, "minScheduleIntervalSeconds": 1000}),
    "ambientIdentity.namespaces": (FIXED, ["third"]),
    **under("upstream", FIXED, {"url": "https://b.example/", "mode": "None", "reserved": ["b"]}),
    "authReadExpires": (FIXED, 2),
    "authWriteExpires": (FIXED, 2),
    "tls.secretRef.name": (FIXED, "b"),
    **under(
        "ingress",
        FIXED,
        {"className": "b", "host": "b.example", "tlsSecretName": "b", "annotations": {"a": "b"}},
    ),
    **under("httpRoute.parentRefs[]", FIXED, {"name": "b", "namespace": "b", "sectionName": "b"}),
    **under("httpRoute", FIXED, {"hostnames": ["b.example"], "annotations": {"a": "b"}}),
    **under("serviceMonitor", FIXED, {"labels": {"a": "b"}, "interval": "1m"}),
    "podTemplateRemovals": (FIXED, ["spec.securityContext.runAsUser"]),
    "podTemplate": (FIXED, {"spec": {"nodeSelector": {"b": "b"}}}),
    "labels": (FIXED, {"b": "a"}),
    "annotations": (FIXED, {"a": "b"}),
    "security.userIDs": (FIXED, "FromCluster"),
    "service.type": (BY_PORTS, "LoadBalancer"),
    **under("service", FIXED, {"annotations": {"a": "b"}, "loadBalancerClass": "a.example/b"}),
    **under("service", FIXED, {"externalTrafficPolicy": "Cluster", "ipFamilyPolicy": "PreferDualStack"}),
    **under("jobs.resources", FIXED, {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}),
    **under("jobs", FIXED, {"labels": {"a": "b"}, "annotations": {"b": "a"}}),
    "jobs.podTemplate": (FIXED, {"spec": {"nodeSelector": {"a": "b"}}}),
}


@pytest.mark.parametrize("path", SERVER_CHANGES)
def test_fields_of_a_server(path):
    spec, value = SERVER_CHANGES[path]

    def made(spec):
        of_server = {"serverRef": {"name": "pywharf", "namespace": "ml"}}
        lent = {"backend": S3["backend"], "credentials": {"anonymousRead": True, "readOnly": True}}
        labels = {"stage": "live", "team": "x"}
        long_names, each_quarter = [f"{'c' * 150}{number}" for number in range(9)], {"schedule": "*/15 * * * *"}
        return made_of(
            manifest("PackageServer", "pywharf", "ml", spec),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": labels}},
            secret("one", "ml"),
            manifest("PackageRepo", "a", "ml", {**FILES, "upstream": {}}),
            manifest("PackageRepo", "b", "other", {**lent, **of_server}),
            manifest("PackageRepo", "c", "ml", {**FILES, "repoName": "c", "upstream": {"reserved": long_names}}),
            manifest("PackageRepo", "d", "ml", {**FILES, "repoName": "d", "upstream": {}, "index": each_quarter}),
        )

    before = made(spec)
    assert before[0][0] == ("Accepted", "Resolved")
    assert made(changed(spec, path, value)) != before


@pytest.mark.parametrize(("kind", "changes"), [(PackageRepo, REPO_CHANGES), (PackageServer, SERVER_CHANGES)])
def test_no_field_is_left_out(kind, changes):
    found = set(leaves(schema_of(kind)["properties"]["spec"]))
    assert found == set(changes)
    assert all(re.fullmatch(r"[A-Za-z0-9.\[\]]+", path) for path in found)
