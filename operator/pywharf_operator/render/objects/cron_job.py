"""The CronJobs `<server>-index-<repo>`, which update the index of one repo each."""

import hashlib
import re
from typing import Final

import msgspec

from pywharf.config.object_stores import ObjectStoreSpec
from pywharf.config.repo_config import BackendSpec, FileSystemSpec, type_of
from pywharf.core.names import RepoName
from pywharf_operator.render.labels import Manifest, metadata, object_name, selector
from pywharf_operator.render.objects.config_map import plain
from pywharf_operator.render.objects.credentials import (
    secret_key,
    secret_path,
    shard_name,
    shard_of,
)
from pywharf_operator.render.objects.job import with_template_hash
from pywharf_operator.render.pod.container_text import container_args
from pywharf_operator.render.pod.job_pod import CONTAINER, job_metadata, job_template
from pywharf_operator.render.pod.pod_template import (
    DATA_VOLUME,
    FILE_MODE,
    OWN_VOLUMES,
    ROOT,
    TMP,
    TMP_VOLUME,
    account_name,
    claim_name,
    surroundings,
    with_defaults,
)
from pywharf_operator.render.pod.security import container_security, pod_security
from pywharf_operator.render.pod.server_flags import flags_of
from pywharf_operator.render.resolve.resolution import RepoVerdict, ServerVerdict
from pywharf_operator.render.resolve.schedule import schedule_of
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.names import REPO_LABEL

REPORT: Final = "/dev/termination-log"
"""Path of a file whose content becomes the container's termination message."""
MAX_NAME_LENGTH: Final = 52
"""Most characters of a CronJob's name. A Job's name, of at most 63 characters, appends the time to it."""

_HASH_LENGTH = 16
_INFIX = "-index-"
_HASHED = re.compile(rf"-[0-9a-f]{{{_HASH_LENGTH}}}\Z")
_CREDENTIALS_VOLUME = "config"
assert {_CREDENTIALS_VOLUME, TMP_VOLUME, DATA_VOLUME} <= OWN_VOLUMES  # noqa: S101 - `podTemplate` cannot add these
_LATEST_START_S = 600
_DEADLINE_S = 3 * 3600
"""Seconds that a Job may take: enough for a full scan, even of a large GitHub repository within its rate limits."""
_RETRIES = 2
_KEPT_S = 24 * 3600
"""Seconds that a finished Job is kept. No history limit covers the Jobs that the operator itself starts."""
_RESOURCES: Final = {
    "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
    "limits": {"memory": "1Gi", "ephemeral-storage": "10Gi"},
}
_OF_CLIENTS: Final = {
    "access",
    "anonymous_read",
    "download",
    "poll_interval",
    "read_secret",
    "sync_index_interval",
    "upstream",
    "write_secret",
}
"""Settings that do not affect an index."""


class _Shared(msgspec.Struct, frozen=True):
    """The values that all CronJobs of a server share."""

    server: PackageServer
    shard_count: int
    around: Manifest
    """The result of `surroundings`."""
    environment: Environment


def cron_jobs(verdict: ServerVerdict, environment: Environment, *, shard_count: int) -> tuple[Manifest, ...]:
    """Render a CronJob for each served repo. `shard_count` is the number of the credentials' Secrets."""
    shared = _Shared(verdict.server, shard_count, surroundings(verdict.pod), environment)
    return tuple(_cron_job(shared, repo, repo.spec) for repo in verdict.repos if repo.spec is not None)


def cron_job_name(server: PackageServer, repo: RepoName) -> str:
    """Return `<server>-index-<repo>` if that is short and unambiguous; otherwise shorten it and append a hash."""
    full = object_name(server, f"index-{repo}")
    readable = re.sub("[^a-z0-9-]", "-", full)
    # Another server and another repo could yield the same text, or another repo a text that looks hashed.
    ambiguous = readable.count(_INFIX) + readable.count("-index-index-") > 1 or _HASHED.search(readable)
    if readable == full and len(full) <= MAX_NAME_LENGTH and not ambiguous:
        return full
    digest = hashlib.sha256(f"{object_name(server)}/{repo}".encode()).hexdigest()[:_HASH_LENGTH]
    return f"{readable[: MAX_NAME_LENGTH - _HASH_LENGTH - 1].rstrip('-')}-{digest}"


def _cron_job(shared: _Shared, repo: RepoVerdict, spec: BackendSpec) -> Manifest:
    server = shared.server
    index = repo.repo.spec.index
    of_repo = {REPO_LABEL: repo.name}
    template = _pod_template(shared, repo, spec)
    made = metadata(server, component="index", extra_labels=of_repo) | {"name": cron_job_name(server, repo.name)}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": made,
        "spec": {
            "schedule": schedule_of(repo.repo),
            "timeZone": index.time_zone,
            "suspend": index.suspend,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _LATEST_START_S,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": with_template_hash(job_metadata(server, of_repo), template),
                "spec": {
                    "activeDeadlineSeconds": _DEADLINE_S,
                    "backoffLimit": _RETRIES,
                    "ttlSecondsAfterFinished": _KEPT_S,
                    "template": template,
                },
            },
        },
    }


def _pod_template(shared: _Shared, repo: RepoVerdict, spec: BackendSpec) -> Manifest:
    server = shared.server
    uses_lent_identity = _uses_lent_identity(spec)
    pod: Manifest = {
        "serviceAccountName": account_name(server) if uses_lent_identity else object_name(server, "index"),
        "automountServiceAccountToken": False,
        # Otherwise variables derived from Services' names, such as PYWHARF_COMMAND_…, would be read as flags.
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": pod_security(server),
        "containers": [_container(server, repo, spec, shared.environment)],
        "volumes": _volumes(server, repo, spec, shared.shard_count),
    }
    storage = server.spec.storage
    if isinstance(spec, FileSystemSpec) and storage is not None and not storage.shared and server.most_replicas > 0:
        pod["affinity"] = _beside_the_server(server)
    return job_template(server, pod, shared.around, {REPO_LABEL: repo.name}, uses_lent_identity=uses_lent_identity)


def _uses_lent_identity(spec: BackendSpec) -> bool:
    """Return whether the Job reads its storage with the identity of the server's pods."""
    return isinstance(spec, ObjectStoreSpec) and spec.ambient_identity


def _container(server: PackageServer, repo: RepoVerdict, spec: BackendSpec, environment: Environment) -> Manifest:
    return {
        "name": CONTAINER,
        "image": server.spec.image or environment.image,
        "imagePullPolicy": "IfNotPresent",
        "args": container_args(_arguments(server, repo, spec, environment)),
        "resources": with_defaults(server.spec.jobs.resources, _RESOURCES),
        "securityContext": container_security(),
        "terminationMessagePath": REPORT,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(repo, spec, environment),
    }


def _arguments(server: PackageServer, repo: RepoVerdict, spec: BackendSpec, environment: Environment) -> list[str]:
    fields = {name: value for name, value in plain(spec).items() if name not in {"type", *_OF_CLIENTS}}
    made = [
        "update_index",
        type_of(spec),
        repo.name,
        # Only file_system stores anything there; the other backends have no such folder.
        f"--root={ROOT if isinstance(spec, FileSystemSpec) else TMP}",
        *(f"--{name}={_text(value)}" for name, value in fields.items() if not isinstance(value, list | dict)),
        f"--report={REPORT}",
    ]
    if not isinstance(spec, FileSystemSpec):
        made.append(f"--allowed_endpoints={flags_of(server).allowed_endpoints}")
    if repo.secrets.backend is not None:
        made.append(f"--secret_file={secret_path(environment.credentials_folder, repo.name, 'backend')}")
    return made


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mounts(repo: RepoVerdict, spec: BackendSpec, environment: Environment) -> list[Manifest]:
    made: list[Manifest] = [{"name": TMP_VOLUME, "mountPath": TMP}]
    if isinstance(spec, FileSystemSpec):
        folder = f"cache/{repo.name}"
        made.append({"name": DATA_VOLUME, "mountPath": f"{ROOT}/{folder}", "subPath": folder})
    if repo.secrets.backend is not None:
        made.append({"name": _CREDENTIALS_VOLUME, "mountPath": environment.credentials_folder, "readOnly": True})
    return made


def _volumes(server: PackageServer, repo: RepoVerdict, spec: BackendSpec, shard_count: int) -> list[Manifest]:
    made: list[Manifest] = [{"name": TMP_VOLUME, "emptyDir": {}}]
    if isinstance(spec, FileSystemSpec):
        made.append({"name": DATA_VOLUME, "persistentVolumeClaim": {"claimName": claim_name(server)}})
    if repo.secrets.backend is not None:
        key = secret_key(repo.name, "backend")
        secret = {
            "secretName": shard_name(server, shard_of(repo.name, shard_count)),
            "defaultMode": FILE_MODE,
            "items": [{"key": key, "path": key}],
        }
        made.append({"name": _CREDENTIALS_VOLUME, "secret": secret})
    return made


def _beside_the_server(server: PackageServer) -> Manifest:
    """Return an affinity to the server's pod: a volume that is not shared is on that pod's node."""
    term = {"labelSelector": {"matchLabels": selector(server)}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
