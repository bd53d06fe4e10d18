"""The Job that updates a repo's index immediately."""

import hashlib
from typing import Final

import msgspec

from pywharf_operator.render.labels import Manifest

INSTANTIATE: Final = "cronjob.kubernetes.io/instantiate"
"""Annotation that `kubectl create job --from` writes, too."""
TEMPLATE_ANNOTATION: Final = "pywharf.dev/template"
"""Annotation of a Job: the digest of the pod template that it was created with, before the API server filled in
defaults."""
_HASH_LENGTH = 10
_TEMPLATE_HASH_LENGTH = 32


def with_template_hash(metadata: Manifest, template: Manifest) -> Manifest:
    """Return the metadata of Jobs with this pod template. Its digest reveals that a Job has another template."""
    encoded = msgspec.json.encode(template, order="deterministic")
    digest = hashlib.sha256(encoded).hexdigest()[:_TEMPLATE_HASH_LENGTH]
    return {**metadata, "annotations": {**metadata.get("annotations", {}), TEMPLATE_ANNOTATION: digest}}


def update_job(cron_job: Manifest, trigger: str) -> Manifest:
    """Render a Job of the CronJob's template.

    Equal repos and triggers have equal names, so that no trigger runs it twice.
    """
    template = cron_job["spec"]["jobTemplate"]
    of_cron_job = cron_job["metadata"]
    digest = hashlib.sha256(trigger.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    made: Manifest = {
        # The digest differs in length from the minutes that end the names of a CronJob's own Jobs.
        "name": f"{of_cron_job['name']}-{digest}",
        "namespace": of_cron_job["namespace"],
        "labels": dict(template["metadata"]["labels"]),
        "annotations": {**template["metadata"].get("annotations", {}), INSTANTIATE: "manual"},
    }
    if "ownerReferences" in of_cron_job:
        made["ownerReferences"] = of_cron_job["ownerReferences"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": made, "spec": template["spec"]}
