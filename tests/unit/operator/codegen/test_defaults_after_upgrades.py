"""New fields have no default in the CustomResourceDefinitions.

These are upgraded before the operator and stay when it is rolled back. A default that the API server fills in would
appear in every object, and the operator of the release before refuses an object with a field that it does not know.
"""

from collections.abc import Iterator

import pytest

from pywharf_operator.codegen.crds import crds
from pywharf_operator.codegen.schema import Schema

KNOWN = {
    "PackageRepo": """
        .spec.serverRef .spec.serverRef.name
        .spec.backend.github.branch .spec.backend.github.indexFilename .spec.backend.github.maxFileBytes
        .spec.backend.github.apiURL .spec.backend.github.download
        .spec.backend.s3.prefix .spec.backend.s3.endpoint .spec.backend.s3.allowHTTP .spec.backend.s3.caBundle
        .spec.backend.s3.download .spec.backend.s3.pollIntervalSeconds .spec.backend.s3.indexFilename
        .spec.backend.s3.maxFileBytes .spec.backend.s3.region
        .spec.backend.gcs.prefix .spec.backend.gcs.endpoint .spec.backend.gcs.allowHTTP .spec.backend.gcs.caBundle
        .spec.backend.gcs.download .spec.backend.gcs.pollIntervalSeconds .spec.backend.gcs.indexFilename
        .spec.backend.gcs.maxFileBytes
        .spec.backend.azure.prefix .spec.backend.azure.endpoint .spec.backend.azure.allowHTTP
        .spec.backend.azure.caBundle .spec.backend.azure.download .spec.backend.azure.pollIntervalSeconds
        .spec.backend.azure.indexFilename .spec.backend.azure.maxFileBytes
        .spec.credentials .spec.credentials.anonymousRead .spec.credentials.readOnly
        .spec.index .spec.index.timeZone .spec.index.suspend .spec.index.syncIntervalSeconds
        .spec.upstream
        .status.conditions[].observedGeneration
    """,
    "PackageServer": """
        .spec .spec.replicas .spec.autoscaling.minReplicas .spec.autoscaling.targetCPUUtilizationPercentage
        .spec.labels .spec.annotations .spec.security .spec.security.userIDs .spec.storage.accessModes
        .spec.staging .spec.staging.sizeLimit .spec.allowedNamespaces .spec.allowedNamespaces.from
        .spec.limits .spec.limits.reposPerNamespace .spec.limits.repoTableBytes
        .spec.limits.minScheduleIntervalSeconds .spec.serviceAccount .spec.serviceAccount.annotations
        .spec.ambientIdentity .spec.upstream .spec.upstream.mode .spec.advisories.interval
        .spec.authReadExpires .spec.authWriteExpires .spec.jobs .spec.jobs.labels .spec.jobs.annotations
        .spec.service .spec.service.type .spec.service.annotations .spec.ingress.annotations
        .spec.httpRoute.annotations
        .status.conditions[].observedGeneration
    """,
    "PackagePolicy": """
        .spec.cooldown.missingTime .spec.cooldown.projects
        .status.conditions[].observedGeneration
    """,
}
"""The fields that have had a default since before access entries. Add none."""
LATER = {
    "PackageRepo": (".spec.access[]",),
    "PackageServer": (".spec.cache",),
    "PackagePolicy": (),
}
"""Parts without a default of their own that came later. A default inside appears only in an object that names them."""


def defaults(schema: Schema, path: str = "") -> Iterator[tuple[str, object]]:
    if "default" in schema:
        yield path, schema["default"]
    for name, field in schema.get("properties", {}).items():
        yield from defaults(field, f"{path}.{name}")
    if "items" in schema:
        yield from defaults(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from defaults(schema["additionalProperties"], f"{path}{{}}")


def paths_in(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{path}.{name}"
            yield from paths_in(item, f"{path}.{name}")


@pytest.mark.parametrize("crd", crds().values(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_no_new_field_has_a_default(crd):
    kind = crd["spec"]["names"]["kind"]
    (version,) = crd["spec"]["versions"]
    found = dict(defaults(version["schema"]["openAPIV3Schema"]))
    inside = {path for path in found if path.startswith(tuple(f"{part}." for part in LATER[kind]))}
    known = set(KNOWN[kind].split())
    assert not set(LATER[kind]) & set(found)
    assert set(found) - inside == known
    # Nor does a default of a part that was there before fill one in.
    filled = {inner for path in known for inner in paths_in(found[path], path)}
    assert filled <= known
