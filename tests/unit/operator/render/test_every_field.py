"""Every field of a spec has an effect: a change of it changes the rendered objects or the findings.

A new field must be given a change in support/operator/spec_changes.py.
"""

import copy
import json
import re

import msgspec
import pytest

from pywharf.config.object_stores import AzureSpec, GcsSpec, S3Spec
from pywharf.config.repo_config import FileSystemSpec, GithubSpec
from pywharf.core.access.identity_document import Cluster
from pywharf_operator.codegen.schema import schema_of
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import PackagePolicy, PackageRepo, PackageServer
from support.operator.manifest_text import parsed_each
from support.operator.spec_changes import (
    ACCOUNTS,
    CLAIMS,
    FILES,
    POLICY_CHANGES,
    REPO_CHANGES,
    S3,
    SERVER_CHANGES,
)
from support.operator.store_keys import AZURE_KEY, GCS_ACCOUNT, S3_KEYS

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
CLUSTER = ClusterKeys(Cluster(issuer="https://cluster.example", jwks={"keys": [{"kty": "EC", "kid": "a"}]}))
LABEL = {"pywharf.dev/credentials": "true"}


def manifest(kind, name, namespace, spec):
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    return {"apiVersion": "pywharf.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def secret(name, namespace):
    values = {"read": f"{name}-r", "write": f"{name}-w", "username": f"{name}-user", "password": f"{name}-pass"}
    for key in ("backend", "other"):
        values[key] = S3_KEYS.replace("s3-secret-value", f"{name}-{key}")
        values[f"{key}-azure"] = AZURE_KEY
        values[f"{key}-gcs"] = GCS_ACCOUNT
    metadata = {"name": name, "namespace": namespace, "labels": LABEL}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def made_of(*manifests):
    """Return the results for the manifests, without messages, which may repeat a field that has no effect."""
    found = parsed_each(*(json.dumps(one) for one in manifests))
    assert (found.problems, found.notes) == ((), ())
    resolution = resolve(msgspec.structs.replace(snapshot_of(found), cluster=CLUSTER), ENVIRONMENT)
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


SPEC_OF_SERVER = {
    "storage": {"size": "1Gi"},
    "cache": {"fileSystem": {"size": "1Gi"}},
    "allowedEndpoints": ["a.example", "b.example"],
}


@pytest.mark.parametrize("path", REPO_CHANGES)
def test_fields_of_a_repo(path):
    spec, value = REPO_CHANGES[path]

    def made(spec):
        of_server = manifest("PackageServer", "pywharf", "ml", SPEC_OF_SERVER)
        return made_of(of_server, secret("one", "ml"), secret("two", "ml"), manifest("PackageRepo", "a", "ml", spec))

    before = made(spec)
    assert before[0][0] == ("Accepted", "Resolved")
    assert made(changed(spec, path, value)) != before


@pytest.mark.parametrize("path", SERVER_CHANGES)
def test_fields_of_a_server(path):
    spec, value = SERVER_CHANGES[path]

    def made(spec):
        of_server = {"serverRef": {"name": "pywharf", "namespace": "ml"}}
        lent = {"backend": S3["backend"], "credentials": {"anonymousRead": True, "readOnly": True}}
        labels = {"stage": "live", "team": "x"}
        access = [*ACCOUNTS["access"], CLAIMS["access"][0] | {"name": "b"}]
        long_names, each_quarter = [f"{'c' * 150}{number}" for number in range(9)], {"schedule": "*/15 * * * *"}
        return made_of(
            manifest("PackageServer", "pywharf", "ml", spec),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": labels}},
            secret("one", "ml"),
            manifest("PackageRepo", "a", "ml", {**FILES, "upstream": {}} if "storage" in spec else S3),
            manifest("PackageRepo", "b", "other", {**lent, **of_server}),
            manifest("PackageRepo", "c", "ml", {**FILES, "repoName": "c", "upstream": {"reserved": long_names}}),
            manifest("PackageRepo", "d", "ml", {**FILES, "repoName": "d", "upstream": {}, "index": each_quarter}),
            manifest("PackageRepo", "e", "ml", {**FILES, "repoName": "e", "upstream": {}, "access": access}),
        )

    before = made(spec)
    assert before[0][0] == ("Accepted", "Resolved")
    assert made(changed(spec, path, value)) != before


@pytest.mark.parametrize("path", POLICY_CHANGES)
def test_fields_of_a_policy(path):
    spec, value = POLICY_CHANGES[path]

    def made(spec):
        return made_of(
            manifest("PackageServer", "pywharf", "ml", SPEC_OF_SERVER),
            secret("one", "ml"),
            secret("two", "ml"),
            manifest("PackageRepo", "a", "ml", {**FILES, "repoName": "a"}),
            manifest("PackageRepo", "c", "ml", {**FILES, "repoName": "c"}),
            manifest("PackagePolicy", "p", "ml", spec),
        )

    assert made(changed(spec, path, value)) != made(spec)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(PackageRepo, REPO_CHANGES), (PackageServer, SERVER_CHANGES), (PackagePolicy, POLICY_CHANGES)],
)
def test_no_field_is_left_out(kind, changes):
    found = set(leaves(schema_of(kind)["properties"]["spec"]))
    assert found == set(changes)
    assert all(re.fullmatch(r"[A-Za-z0-9.\[\]]+", path) for path in found)
