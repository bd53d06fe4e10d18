"""The pod template of a server: a restricted pod that holds only its configuration and its volume."""

from collections.abc import Mapping
from math import ceil
from typing import Final

from pywharf_operator.render.labels import Manifest, labels, object_name, pod_metadata, selector
from pywharf_operator.render.objects.cache import (
    CACHE_KEY,
    CACHE_MOUNT,
    CACHE_SECRET_FOLDER,
    CACHE_SECRET_KEY,
    CACHE_SPOOL_FOLDER,
    CACHE_SPOOL_SIZE,
    cache_digest,
    share_of_node_disk,
    spools_on_node,
)
from pywharf_operator.render.objects.config_map import ADMIN_SECRET_KEY, CONFIG_KEY
from pywharf_operator.render.objects.credentials import MAX_SHARDS, shard_name
from pywharf_operator.render.pod.container_text import container_args
from pywharf_operator.render.pod.removals import without
from pywharf_operator.render.pod.security import container_security, pod_security
from pywharf_operator.render.pod.server_flags import flags_of
from pywharf_operator.render.pod.strategic_merge import InvalidPodTemplateError, merged_pod_template
from pywharf_operator.render.resolve.snapshot import CREDENTIALS_FOLDER, Environment
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.cache import CacheSecretRef
from pywharf_operator.spec.names import CACHE_ANNOTATION, CONFIG_SUFFIX, POLICIES_SUFFIX
from pywharf_operator.spec.quantities import quantity
from pywharf_operator.spec.resources import Resources
from pywharf_operator.spec.staging import DEFAULT_STAGING_SIZE

CONTAINER: Final = "server"
ROOT: Final = "/var/lib/pywharf"
SESSION_FOLDER: Final = "/etc/pywharf-session"
SESSION_KEY: Final = "key"
TLS_FOLDER: Final = "/etc/pywharf-tls"
API_FOLDER: Final = "/etc/pywharf-api"
"""Where pods find what they ask the API server with. It is no path that a cloud's library looks at by itself."""
HTTP_PORT: Final = 8888
INTERNAL_PORT: Final = 9090
DATA_VOLUME: Final = "data"
TMP_VOLUME: Final = "tmp"

_CONFIG_VOLUME, _SESSION_VOLUME, _TLS_VOLUME, _API_VOLUME = "config", "session", "tls", "api"
_CACHE_VOLUME, _CACHE_SECRET_VOLUME = "cache", "cache-secret"
_TOKEN, _AUTHORITY = "token", "ca.crt"
_TOKEN_S: Final = 600
"""Seconds for which a pod's own token lasts, the fewest that the API server takes. The kubelet renews it."""
TMP: Final = "/tmp"  # noqa: S108 - the container's own
OWN_VOLUMES: Final = frozenset(
    {
        DATA_VOLUME,
        _CONFIG_VOLUME,
        _SESSION_VOLUME,
        _TLS_VOLUME,
        _API_VOLUME,
        _CACHE_VOLUME,
        _CACHE_SECRET_VOLUME,
        TMP_VOLUME,
    }
)
_OWN_FOLDERS = frozenset(
    {
        ROOT,
        TMP,
        CREDENTIALS_FOLDER,
        SESSION_FOLDER,
        TLS_FOLDER,
        API_FOLDER,
        CACHE_MOUNT,
        CACHE_SECRET_FOLDER,
        CACHE_SPOOL_FOLDER,
    }
)
_OF_ANY_POD = frozenset({"configMap", "projected", "secret"})
"""Types of volumes that are the same in each pod of the namespace, on any node."""
FILE_MODE: Final = 0o440
_DELAY_S = 5
"""Seconds after SIGTERM in which connections are still accepted. Proxies and gateways learn of a pod's end later than
the pod."""
_TRANSFERS_S = 60
"""Seconds that running transfers have after that."""
_SPARE_S = 10

_RESOURCES: Final = {
    # An autoscaler measures usage relative to the requests. No CPU limit: docs/decisions/0009-resources-and-images.md.
    # Memory: 83 MB were measured with 100,000 files; rendered pages take up to 128 MiB more, the extra index some.
    "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "256Mi"},
    "limits": {"memory": "1Gi"},
}
_OTHER_DISK_GI: Final = 4
"""GiB that a container may take on its node's disk besides uploads in progress: for its log and its temporary files."""
_GI: Final = 1024**3


def claim_name(server: PackageServer) -> str | None:
    """Return the name of the ROOT's PersistentVolumeClaim; None if the server has none."""
    storage = server.spec.storage
    if storage is None:
        return None
    return storage.existing_claim or object_name(server, "data")


def cache_claim_name(server: PackageServer) -> str | None:
    """Return the name of the cache's PersistentVolumeClaim; None if the server has none."""
    volume = None if server.spec.cache is None else server.spec.cache.file_system
    return None if volume is None else volume.existing_claim or object_name(server, "cache")


def account_name(server: PackageServer) -> str:
    """Return the name of the ServiceAccount that a cloud's identity is bound to."""
    return server.spec.service_account.name or object_name(server)


def pod_template(server: PackageServer, environment: Environment) -> Manifest:
    """Return the template without `spec.podTemplateRemovals` and with `spec.podTemplate` merged in.

    Raises InvalidPodTemplateError.
    """
    patch = checked_patch(server.spec.pod_template, "podTemplate")
    ours = labels(server)
    made = merged_pod_template(without(_template(server, environment), server.spec.pod_template_removals), patch)
    check_container(made, CONTAINER, "podTemplate")
    # The Deployment, the Service and the operator find the pods by these labels.
    made["metadata"]["labels"] = {**made["metadata"].get("labels", {}), **ours}
    if server.spec.cache is not None:
        # By this one it knows which pods have the cache.
        annotations = made["metadata"].get("annotations", {})
        made["metadata"]["annotations"] = {**annotations, CACHE_ANNOTATION: cache_digest(server)}
    return made


def surroundings(template: Manifest) -> Manifest:
    """Return what `spec.podTemplate` added to the server's container and its Jobs need too: `container`, `volumes`.

    The additions are variables, such as a proxy's address, and folders of ConfigMaps and Secrets, such as a certificate
    authority's. A server without such additions yields nothing.
    """
    spec = template["spec"]
    container = next(one for one in spec["containers"] if one["name"] == CONTAINER)
    there = {volume["name"]: volume for volume in spec.get("volumes", ()) if _OF_ANY_POD & volume.keys()}
    mounts = [
        mount
        for mount in container.get("volumeMounts", ())
        if mount["mountPath"] not in _OWN_FOLDERS and str(mount.get("name")) in there.keys() - OWN_VOLUMES
    ]
    # A variable that is computed from the container's resources names that container.
    env = [one for one in container.get("env", ()) if "resourceFieldRef" not in str(one.get("valueFrom"))]
    made = {"env": env, "envFrom": container.get("envFrom", []), "volumeMounts": mounts}
    return {
        "container": {field: value for field, value in made.items() if value},
        "volumes": [there[name] for name in dict.fromkeys(str(mount["name"]) for mount in mounts)],
    }


def checked_patch(given: Manifest, path: str) -> Manifest:
    """Return the parts of a pod template's patch that are not null. `path` is its field, for messages.

    Only the top levels of the patch are checked: the rest is merged as it is, and the API server validates it. Raises
    InvalidPodTemplateError.
    """
    patch = {part: value for part, value in given.items() if value is not None}
    _check_part(path, patch, {"metadata", "spec"})
    metadata = patch.get("metadata", {})
    _check_part(f"{path}.metadata", metadata, {"labels", "annotations"})
    _check_part(f"{path}.spec", patch.get("spec", {}), None)
    for field, texts in metadata.items():
        _check_part(f"{path}.metadata.{field}", {} if texts is None else texts, None)
        for key, value in (texts or {}).items():
            if value is not None and not isinstance(value, str):
                raise InvalidPodTemplateError(
                    f"{path}.metadata.{field}: {str(key)[:80]} must be a text; put its value in quotes."
                )
    return patch


def check_container(template: Manifest, name: str, path: str) -> None:
    """Raise InvalidPodTemplateError if the patch in the field `path` left no container of that name."""
    if not any(container["name"] == name for container in template["spec"].get("containers", ())):
        raise InvalidPodTemplateError(
            f"{path}.spec.containers leaves out the container {name!r}; patch it, but keep it."
        )


def _check_part(path: str, part: object, known: set[str] | None) -> None:
    if not isinstance(part, dict):
        raise InvalidPodTemplateError(f"{path} must be a map.")
    if "$patch" in part:
        raise InvalidPodTemplateError(f"{path}.$patch: this part can only be merged; remove the field.")
    # The output of kubectl contains `creationTimestamp: null`.
    unknown = sorted(
        str(field)[:80] for field, value in part.items() if value is not None and field not in (known or part)
    )
    if unknown:
        raise InvalidPodTemplateError(
            f"{path} holds {', '.join(unknown)}; here there may be {' and '.join(sorted(known or ()))}."
        )


def _template(server: PackageServer, environment: Environment) -> Manifest:
    spec: Manifest = {
        "serviceAccountName": account_name(server),
        "automountServiceAccountToken": False,
        # Otherwise variables derived from Services' names, such as PYWHARF_COMMAND_…, would be read as flags.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DELAY_S + _TRANSFERS_S + _SPARE_S,
        "securityContext": pod_security(server),
        "containers": [_container(server, environment)],
        "volumes": _volumes(server),
    }
    if server.most_replicas > 1:
        spec["topologySpreadConstraints"] = [
            _spread(server, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ]
    return {"metadata": pod_metadata(server, {}), "spec": spec}


def _container(server: PackageServer, environment: Environment) -> Manifest:
    return {
        "name": CONTAINER,
        "image": server.spec.image or environment.image,
        "imagePullPolicy": "IfNotPresent",
        "args": container_args(_arguments(server)),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "internal", "containerPort": INTERNAL_PORT, "protocol": "TCP"},
        ],
        "resources": with_defaults(server.spec.resources, _resources(server)),
        "securityContext": container_security(),
        # A pod has 2 minutes to start, without other probes. Then it leaves the Service after 4 seconds without an
        # answer, as another replica may answer. It is killed only after 2 minutes, as a restart is no faster than
        # a recovery.
        "startupProbe": _probe("/healthz", period_s=1, timeout_s=1, failures=120),
        "readinessProbe": _probe("/readyz", period_s=2, timeout_s=2, failures=2),
        "livenessProbe": _probe("/healthz", period_s=20, timeout_s=10, failures=6),
        # All are read-only except the ROOT, the cache and /tmp.
        "volumeMounts": _mounts(server),
    }


def _resources(server: PackageServer) -> Mapping[str, Mapping[str, str]]:
    """Return what a replica asks for and may use, if its server does not say."""
    limit = server.spec.staging.size_limit if claim_name(server) is None else DEFAULT_STAGING_SIZE
    spool = quantity(CACHE_SPOOL_SIZE) if spools_on_node(server) else None
    size = ceil(((quantity(limit) or 0) + (spool or 0)) / _GI) + _OTHER_DISK_GI
    return {**_RESOURCES, "limits": {**_RESOURCES["limits"], "ephemeral-storage": f"{size}Gi"}}


def _max_staged_bytes(server: PackageServer) -> int:
    """Return how many bytes uploads may take on a server without a volume, before a kubelet evicts the pod."""
    return share_of_node_disk(server, server.spec.staging.size_limit)


def _arguments(server: PackageServer) -> list[str]:
    made = [
        "server",
        ROOT,
        f"--config={CREDENTIALS_FOLDER}/{CONFIG_KEY}",
        f"--admin_secret={CREDENTIALS_FOLDER}/{ADMIN_SECRET_KEY}",
        f"--session_secret={SESSION_FOLDER}/{SESSION_KEY}",
        f"--port={HTTP_PORT}",
        f"--internal_port={INTERNAL_PORT}",
        *_flags(server),
        f"--shutdown_delay={_DELAY_S}",
        f"--shutdown_timeout={_TRANSFERS_S}",
        "--access_log=json",
    ]
    if claim_name(server) is None:
        made.append(f"--max_staged_bytes={_max_staged_bytes(server)}")
    if asks_api_server(server):
        made += [
            f"--token_review_token_file={API_FOLDER}/{_TOKEN}",
            f"--token_review_ca_file={API_FOLDER}/{_AUTHORITY}",
        ]
    if server.spec.cache is not None:
        made.append(f"--cache_config={CREDENTIALS_FOLDER}/{CACHE_KEY}")
    if server.spec.tls is not None:
        made += [f"--tls_cert={TLS_FOLDER}/tls.crt", f"--tls_key={TLS_FOLDER}/tls.key"]
    return made


def _flags(server: PackageServer) -> list[str]:
    """Return the flags that the server has wherever it runs; one that means nothing is left out."""
    flags = flags_of(server)
    unset = {"advisories", "advisories_interval"} if flags.advisories is None else set[str]()
    given = {name: getattr(flags, name) for name in flags.__struct_fields__ if name not in unset}
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in given.items()
        if value is not None and value is not False
    ]


def asks_api_server(server: PackageServer) -> bool:
    """Return whether the server asks the API server about tokens, for which its pods need a token of their own."""
    return server.spec.identity.service_accounts == "TokenReview"


def with_defaults(own: Resources | None, defaults: Mapping[str, Mapping[str, str]]) -> Manifest:
    """Return `own`, and the defaults of each resource that it does not name.

    A resource's defaults are not mixed with `own`: the limit of the one might not fit the request of the other.
    """
    given = {"requests": (own and own.requests) or {}, "limits": (own and own.limits) or {}}
    named = {name for amounts in given.values() for name in amounts}
    return {
        kind: {name: amount for name, amount in amounts.items() if name not in named}
        | {name: str(amount) for name, amount in given[kind].items()}
        for kind, amounts in defaults.items()
    }


def _probe(path: str, *, period_s: int, timeout_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "internal"},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def _mounts(server: PackageServer) -> list[Manifest]:
    made: list[Manifest] = [
        {"name": DATA_VOLUME, "mountPath": ROOT},
        {"name": TMP_VOLUME, "mountPath": TMP},
        {"name": _CONFIG_VOLUME, "mountPath": CREDENTIALS_FOLDER, "readOnly": True},
        {"name": _SESSION_VOLUME, "mountPath": SESSION_FOLDER, "readOnly": True},
    ]
    if cache_claim_name(server) is not None:
        made.append({"name": _CACHE_VOLUME, "mountPath": CACHE_MOUNT})
    if spools_on_node(server):
        made.append({"name": _CACHE_VOLUME, "mountPath": CACHE_SPOOL_FOLDER})
    if _cache_secret(server) is not None:
        made.append({"name": _CACHE_SECRET_VOLUME, "mountPath": CACHE_SECRET_FOLDER, "readOnly": True})
    if server.spec.tls is not None:
        made.append({"name": _TLS_VOLUME, "mountPath": TLS_FOLDER, "readOnly": True})
    if asks_api_server(server):
        made.append({"name": _API_VOLUME, "mountPath": API_FOLDER, "readOnly": True})
    return made


def _volumes(server: PackageServer) -> list[Manifest]:
    claim = claim_name(server)
    made: list[Manifest] = [
        {"name": DATA_VOLUME}
        | (
            {"emptyDir": {"sizeLimit": str(server.spec.staging.size_limit)}}
            if claim is None
            else {"persistentVolumeClaim": {"claimName": claim}}
        ),
        {"name": TMP_VOLUME, "emptyDir": {}},
        {"name": _CONFIG_VOLUME, "projected": {"defaultMode": FILE_MODE, "sources": _sources(server)}},
        {
            "name": _SESSION_VOLUME,
            "secret": {"secretName": object_name(server, "session"), "defaultMode": FILE_MODE},
        },
    ]
    if (cache := cache_claim_name(server)) is not None:
        made.append({"name": _CACHE_VOLUME, "persistentVolumeClaim": {"claimName": cache}})
    if spools_on_node(server):
        made.append({"name": _CACHE_VOLUME, "emptyDir": {"sizeLimit": CACHE_SPOOL_SIZE}})
    if (ref := _cache_secret(server)) is not None:
        items = [{"key": ref.key, "path": CACHE_SECRET_KEY}]
        source = {"secretName": ref.name, "defaultMode": FILE_MODE, "items": items}
        made.append({"name": _CACHE_SECRET_VOLUME, "secret": source})
    if server.spec.tls is not None:
        secret = server.spec.tls.secret_ref.name
        made.append({"name": _TLS_VOLUME, "secret": {"secretName": secret, "defaultMode": FILE_MODE}})
    if asks_api_server(server):
        made.append({"name": _API_VOLUME, "projected": {"defaultMode": FILE_MODE, "sources": _api_sources()}})
    return made


def _cache_secret(server: PackageServer) -> CacheSecretRef | None:
    return None if server.spec.cache is None else server.spec.cache.credentials_secret_ref


def _sources(server: PackageServer) -> list[Manifest]:
    """Return the configuration, the policies if there are any, and every shard that the credentials may have.

    They share no key. The source of the policies is always there, so that the first one restarts no pod.

    If two shards hold the same key, the later source wins: the lowest shard, which therefore stands last.
    """
    shards = (shard_name(server, number) for number in range(MAX_SHARDS - 1, 0, -1))
    return [
        {"configMap": {"name": object_name(server, CONFIG_SUFFIX)}},
        {"configMap": {"name": object_name(server, POLICIES_SUFFIX), "optional": True}},
        *({"secret": {"name": name, "optional": True}} for name in shards),
        {"secret": {"name": shard_name(server, 0)}},
    ]


def _api_sources() -> list[Manifest]:
    """Return a token for the API server, and the authority that Kubernetes puts into each namespace."""
    return [
        {"serviceAccountToken": {"path": _TOKEN, "expirationSeconds": _TOKEN_S}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": _AUTHORITY}]}},
    ]


def _spread(server: PackageServer, topology_key: str) -> Manifest:
    """Return a constraint that spreads pods as evenly as possible. A cluster of one node still runs all of them."""
    return {
        "maxSkew": 1,
        "topologyKey": topology_key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(server)},
        "matchLabelKeys": ["pod-template-hash"],
    }
