"""The Job that updates a repo's index at once."""

import hashlib
from typing import Final

import msgspec

from pywharf_operator.render.labels import Manifest

INSTANTIATE: Final = "cronjob.kubernetes.io/instantiate"
"""What `kubectl create job --from` writes, too."""
TEMPLATE_ANNOTATION: Final = "pywharf.dev/template"
"""On a Job: the digest of the pod template that it was made with, before the API server filled in defaults."""
_HASH_LENGTH = 10
_TEMPLATE_HASH_LENGTH = 32


def with_template_hash(metadata: Manifest, template: Manifest) -> Manifest:
    """Return the metadata of Jobs of this pod template, by which it is noticed that a Job has another one."""
    encoded = msgspec.json.encode(template, order="deterministic")
    digest = hashlib.sha256(encoded).hexdigest()[:_TEMPLATE_HASH_LENGTH]
    return {**metadata, "annotations": {**metadata.get("annotations", {}), TEMPLATE_ANNOTATION: digest}}


def update_job(cron_job: Manifest, trigger: str) -> Manifest:
    """A Job of the CronJob's template. Equal repos and triggers have equal names, so that no trigger runs it twice."""
    template = cron_job["spec"]["jobTemplate"]
    of_cron_job = cron_job["metadata"]
    digest = hashlib.sha256(trigger.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    made: Manifest = {
        # Of another length than the minutes that a CronJob's own Jobs end with.
        "name": f"{of_cron_job['name']}-{digest}",
        "namespace": of_cron_job["namespace"],
        "labels": dict(template["metadata"]["labels"]),
        "annotations": {**template["metadata"].get("annotations", {}), INSTANTIATE: "manual"},
    }
    if "ownerReferences" in of_cron_job:
        made["ownerReferences"] = of_cron_job["ownerReferences"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": made, "spec": template["spec"]}
