"""A server's Deployment and its companions: security, volumes, flags that the server knows, and users' changes."""

from typing import Any

import msgspec
import pytest

from pywharf.cli.server import server as command
from pywharf.config.repo_config import FileSystemSpec
from pywharf.config.settings import DEFAULT_EXTRA_INDEX_URL, ServerSettings
from pywharf.core.endpoints import PUBLIC_ENDPOINTS
from pywharf.core.struct_errors import convert
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, Snapshot, resolve
from pywharf_operator.render.labels import labels, metadata, selector
from pywharf_operator.render.objects.autoscaler import autoscaler
from pywharf_operator.render.objects.credentials import MAX_SHARDS, shard_name
from pywharf_operator.render.objects.deployment import deployment
from pywharf_operator.render.objects.disruption_budget import disruption_budget
from pywharf_operator.render.objects.service_accounts import index_account, server_account
from pywharf_operator.render.objects.volume_claim import volume_claim
from pywharf_operator.render.pod.pod_template import pod_template
from pywharf_operator.render.pod.strategic_merge import InvalidPodTemplateError
from support.operator.manifest_text import parsed

ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec}, image="pywharf:1")
RENDERERS = [deployment, disruption_budget, autoscaler, server_account, index_account, volume_claim]
RWX = "storage: {size: 1Gi, accessModes: [ReadWriteMany]}"
IMAGE = "registry.example/p@sha256:" + "0" * 64


def verdict(spec="{}", uid=None):
    text = f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {{name: wharf, namespace: ml{f", uid: {uid}" if uid else ""}}}
spec: {spec}
"""
    found = parsed(text)
    assert found.problems == ()
    (server,) = snapshot_of(found).servers
    (made,) = resolve(Snapshot(servers=(server,)), ENVIRONMENT).servers
    return made


def made(spec="{}"):
    return deployment(verdict(spec), ENVIRONMENT)["spec"]


def pod(spec="{}"):
    return made(spec)["template"]["spec"]


def container(spec="{}"):
    return next(item for item in pod(spec)["containers"] if item["name"] == "server")


def settings(spec):
    """Return the settings that the server itself parses from its arguments."""
    name, *arguments = container(spec)["args"]
    assert name == "server"
    return convert(command.make_context(name, arguments).params, ServerSettings, "args")


def volumes(spec):
    return {volume.pop("name"): volume for volume in pod(spec)["volumes"]}


def test_a_restricted_pod():
    for spec in ("{}", "{tls: {secretRef: {name: a}}, storage: {size: 1Gi}}"):
        made = pod(spec)
        security = made["securityContext"]
        assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert {security[who] for who in ("runAsUser", "runAsGroup", "fsGroup")} == {65532}
        assert (made["automountServiceAccountToken"], made["enableServiceLinks"]) == (False, False)
        own = made["containers"][0]["securityContext"]
        assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"], own["privileged"]) == (
            False,
            True,
            False,
        )
        assert own["capabilities"] == {"drop": ["ALL"]}
        writable = {m["mountPath"] for m in made["containers"][0]["volumeMounts"] if not m.get("readOnly")}
        assert writable == {"/var/lib/pywharf", "/tmp"}


def test_every_mount_has_its_volume():
    for spec in ("{}", "{tls: {secretRef: {name: a}}, storage: {size: 1Gi}}"):
        assert {mount["name"] for mount in container(spec)["volumeMounts"]} == set(volumes(spec))


FLAGS: dict[str, dict[str, Any]] = {
    "{}": {"extra_index_url": DEFAULT_EXTRA_INDEX_URL, "auth_read_expires": 3600, "auth_write_expires": 300},
    "{upstream: {mode: None}, authReadExpires: 1, authWriteExpires: 0}": {
        "extra_index_url": "",
        "auth_read_expires": 1,
        "auth_write_expires": 0,
    },
    '{upstream: {url: "https://index.example:8443/simple/"}}': {
        "extra_index_url": "https://index.example:8443/simple/",
        "allowed_endpoints": ",".join((*PUBLIC_ENDPOINTS, "index.example:8443")),
    },
    '{allowedEndpoints: ["*.corp.example", "a.example:8443"], upstream: {mode: None}}': {
        "extra_index_url": "",
        "allowed_endpoints": "*.corp.example,a.example:8443",
    },
    "{allowedEndpoints: []}": {"allowed_endpoints": "pypi.org"},
    "{tls: {secretRef: {name: a}}}": {
        "tls_cert": "/etc/pywharf-tls/tls.crt",
        "tls_key": "/etc/pywharf-tls/tls.key",
    },
}


@pytest.mark.parametrize("spec", FLAGS)
def test_flags(spec):
    given = {
        "root": "/var/lib/pywharf",
        "config": "/etc/pywharf/config.toml",
        "admin_secret": "/etc/pywharf/admin_secret.toml",
        "session_secret": "/etc/pywharf-session/key",
        "port": 8888,
        "internal_port": 9090,
        "access_log": "json",
        "shutdown_delay": 5,
        "shutdown_timeout": 60,
        "allowed_endpoints": ",".join(PUBLIC_ENDPOINTS),
        "max_staged_bytes": 9 * 16 * 1024**3 // 10,
    }
    found = msgspec.structs.asdict(settings(spec))
    default = msgspec.structs.asdict(ServerSettings(root="/var/lib/pywharf"))
    assert found == default | given | FLAGS[spec]


def test_a_pod_has_time_for_what_its_flags_promise():
    found = settings("{}")
    assert pod()["terminationGracePeriodSeconds"] > found.shutdown_delay + found.shutdown_timeout


def test_the_configuration_is_one_volume():
    server = verdict().server
    config, policies, *shards = volumes("{}")["config"]["projected"]["sources"]
    assert config == {"configMap": {"name": "wharf-config"}}
    # Always there, so that the first policy restarts no pod.
    assert policies == {"configMap": {"name": "wharf-policies", "optional": True}}
    # The last of equal keys wins. Only the first shard always exists.
    names = [source["secret"]["name"] for source in shards]
    assert names == [shard_name(server, number) for number in reversed(range(MAX_SHARDS))]
    assert [source["secret"].get("optional", False) for source in shards] == [True] * (MAX_SHARDS - 1) + [False]


STAGING = {
    "{}": ("16Gi", 9 * 16 * 1024**3 // 10, "20Gi"),
    "{staging: {sizeLimit: 1G}}": ("1G", 900_000_000, "5Gi"),
    "{staging: {sizeLimit: 2000000000}}": ("2000000000", 1_800_000_000, "6Gi"),
    # The kubelet counts every file of the container.
    "{staging: {sizeLimit: 8Gi}, resources: {limits: {ephemeral-storage: 1G}}}": ("8Gi", 900_000_000, "1G"),
    "{staging: {sizeLimit: 100m}}": ("100m", 1, "5Gi"),
    "{staging: {sizeLimit: 9E}}": ("9E", 9 * 2**53 // 10, f"{9 * 10**18 // 1024**3 + 5}Gi"),
    "{storage: {size: 1Gi}, staging: {sizeLimit: 1Gi}}": (None, None, "20Gi"),
}


@pytest.mark.parametrize("spec", STAGING)
def test_uploads_fit_into_their_folder(spec):
    """The server refuses an upload before the kubelet evicts the pod for it."""
    found = volumes(spec)["data"].get("emptyDir", {}).get("sizeLimit")
    limits = container(spec)["resources"]["limits"]
    assert (found, settings(spec).max_staged_bytes, limits["ephemeral-storage"]) == STAGING[spec]


DATA = {
    "{}": {"emptyDir": {"sizeLimit": "16Gi"}},
    "{storage: {size: 1Gi}}": {"persistentVolumeClaim": {"claimName": "wharf-data"}},
    "{storage: {existingClaim: old}}": {"persistentVolumeClaim": {"claimName": "old"}},
}


@pytest.mark.parametrize("spec", DATA)
def test_the_root(spec):
    assert volumes(spec)["data"] == DATA[spec]


def test_secrets():
    found = volumes("{tls: {secretRef: {name: pair}}}")
    assert found["session"]["secret"]["secretName"] == "wharf-session"
    assert found["tls"]["secret"]["secretName"] == "pair"
    assert "tls" not in volumes("{}")


ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
REPLICAS = {
    "{}": (1, ROLLING),
    "{replicas: 0}": (0, ROLLING),
    "{replicas: 3}": (3, ROLLING),
    "{storage: {size: 1Gi}}": (1, {"type": "Recreate"}),
    "{storage: {existingClaim: a}, replicas: 1}": (1, {"type": "Recreate"}),
    f"{{{RWX}, replicas: 2}}": (2, ROLLING),
    f"{{{RWX}, autoscaling: {{maxReplicas: 4}}}}": (None, ROLLING),
}


@pytest.mark.parametrize("spec", REPLICAS)
def test_replicas_and_strategy(spec):
    found = made(spec)
    assert (found.get("replicas"), found["strategy"]) == REPLICAS[spec]
    several = (REPLICAS[spec][0] or 0) > 1 or "autoscaling" in spec
    assert ("topologySpreadConstraints" in pod(spec)) == several
    assert (disruption_budget(verdict(spec), ENVIRONMENT) is not None) == several
    assert (autoscaler(verdict(spec), ENVIRONMENT) is not None) == ("autoscaling" in spec)


STORAGE = {"ephemeral-storage": "256Mi"}, {"ephemeral-storage": "20Gi"}
RESOURCES = {
    "{}": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    "{resources: {}}": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    # pywharf's request could exceed the user's limit.
    "{resources: {limits: {memory: 64Mi}}}": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
    "{resources: {requests: {memory: 2Gi}}}": {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {}},
    "{resources: {requests: {cpu: 2}, limits: {cpu: 4, gpu: 1}}}": {
        "requests": {"cpu": "2", "memory": "256Mi"},
        "limits": {"cpu": "4", "gpu": "1", "memory": "1Gi"},
    },
    "{resources: {limits: {cpu: 1}}, autoscaling: {maxReplicas: 2}}": {
        "requests": {"memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    },
}


@pytest.mark.parametrize("spec", RESOURCES)
def test_resources(spec):
    requests, limits = STORAGE
    expected = RESOURCES[spec]
    found = container(spec)["resources"]
    assert found == {"requests": expected["requests"] | requests, "limits": expected["limits"] | limits}


def test_probes_ask_the_internal_port():
    found = container()
    names = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert names == {"http": 8888, "internal": 9090}
    probes = {kind: found[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    paths = {kind: probe["httpGet"]["path"] for kind, probe in probes.items()}
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"internal"}

    def timeouts(kind):
        return probes[kind]["periodSeconds"] * probes[kind]["failureThreshold"]

    assert timeouts("readiness") < 10
    assert timeouts("liveness") >= 60
    assert timeouts("startup") >= 60


@pytest.mark.parametrize(("spec", "image"), [("{}", "pywharf:1"), (f"{{image: {IMAGE}}}", IMAGE)])
def test_image(spec, image):
    assert (container(spec)["image"], container(spec)["imagePullPolicy"]) == (image, "IfNotPresent")


POD_TEMPLATES = {
    "a field of the pod": ("{spec: {priorityClassName: high}}", lambda pod: pod["spec"]["priorityClassName"], "high"),
    "an annotation": ("{metadata: {annotations: {a: b}}}", lambda pod: pod["metadata"]["annotations"], {"a": "b"}),
    "a label": ("{metadata: {labels: {a: b}}}", lambda pod: pod["metadata"]["labels"]["a"], "b"),
    "a label of ours": (
        "{metadata: {labels: {app.kubernetes.io/name: x, pywharf.dev/server: null}}}",
        lambda pod: pod["metadata"]["labels"],
        labels(verdict().server),
    ),
    "all labels": ("{metadata: {labels: null}}", lambda pod: pod["metadata"]["labels"], labels(verdict().server)),
    "nothing": (
        "{spec: null, metadata: {creationTimestamp: null}}",
        lambda pod: pod["metadata"],
        {"labels": labels(verdict().server)},
    ),
    "a field of ours removed": (
        "{spec: {containers: [{name: server, livenessProbe: null}]}}",
        lambda pod: "livenessProbe" in pod["spec"]["containers"][0],
        False,
    ),
    "a sidecar": (
        "{spec: {containers: [{name: x, image: y}]}}",
        lambda pod: [item["name"] for item in pod["spec"]["containers"]],
        ["server", "x"],
    ),
    "a variable": (
        "{spec: {containers: [{name: server, env: [{name: A, value: b}]}]}}",
        lambda pod: (pod["spec"]["containers"][0]["env"], pod["spec"]["containers"][0]["image"]),
        ([{"name": "A", "value": "b"}], "pywharf:1"),
    ),
    "another /tmp": (
        "{spec: {volumes: [{name: tmp, emptyDir: {medium: Memory}}]}}",
        lambda pod: next(v for v in pod["spec"]["volumes"] if v["name"] == "tmp"),
        {"name": "tmp", "emptyDir": {"medium": "Memory"}},
    ),
}


@pytest.mark.parametrize("name", POD_TEMPLATES)
def test_pod_template(name):
    patch, at, expected = POD_TEMPLATES[name]
    found = verdict(f"{{podTemplate: {patch}}}")
    assert found.accepted.status
    assert at(deployment(found, ENVIRONMENT)["spec"]["template"]) == expected


BAD_POD_TEMPLATES = {
    "{spec: []}": "spec.podTemplate.spec must be a map.",
    "{metadata: a}": "spec.podTemplate.metadata must be a map.",
    "{status: {}, kind: Pod}": "spec.podTemplate holds kind, status; here there may be metadata and spec.",
    "{metadata: {name: a}}": "spec.podTemplate.metadata holds name; here there may be annotations and labels.",
    "{metadata: {labels: {a: 1}}}": "spec.podTemplate.metadata.labels: a must be a text; put its value in quotes.",
    "{metadata: {labels: [a]}}": "spec.podTemplate.metadata.labels must be a map.",
    "{spec: {$patch: replace}}": "spec.podTemplate.spec.$patch: this part can only be merged; remove the field.",
    "{$patch: delete}": "spec.podTemplate.$patch: this part can only be merged; remove the field.",
    "{metadata: {annotations: [a]}}": "spec.podTemplate.metadata.annotations must be a map.",
    "{metadata: {labels: {$patch: replace}}}": (
        "spec.podTemplate.metadata.labels.$patch: this part can only be merged; remove the field."
    ),
    "{spec: {containers: null}}": (
        "spec.podTemplate.spec.containers leaves out the container 'server'; patch it, but keep it."
    ),
    "{spec: {containers: [{name: server, $patch: delete}]}}": (
        "spec.podTemplate.spec.containers leaves out the container 'server'; patch it, but keep it."
    ),
    "{spec: {containers: [{image: a}]}}": (
        "spec.podTemplate.spec.containers[0].name is missing; items of this list are told apart by it."
    ),
}


@pytest.mark.parametrize("patch", BAD_POD_TEMPLATES)
def test_a_pod_template_that_does_not_fit(patch):
    found = verdict(f"{{podTemplate: {patch}}}")
    assert (found.accepted.status, found.accepted.reason) == (False, "InvalidPodTemplate")
    assert found.accepted.message == BAD_POD_TEMPLATES[patch]
    with pytest.raises(InvalidPodTemplateError):
        pod_template(found.server, ENVIRONMENT)


CLAIMS = {
    "{}": None,
    "{storage: {existingClaim: a}}": None,
    "{storage: {size: 1Gi}}": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    "{storage: {size: 5, storageClassName: fast, accessModes: [ReadWriteMany]}}": {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "5"}},
        "storageClassName": "fast",
    },
    "{storage: {size: 5, storageClassName: ''}}": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "5"}},
        "storageClassName": "",
    },
}


@pytest.mark.parametrize("spec", CLAIMS)
def test_claims(spec):
    claim = volume_claim(verdict(spec, uid="u"), ENVIRONMENT)
    assert (None if claim is None else claim["spec"]) == CLAIMS[spec]
    if claim is not None:
        assert claim["metadata"]["name"] == "wharf-data"


def test_the_autoscaler():
    found = autoscaler(
        verdict("{autoscaling: {minReplicas: 2, maxReplicas: 5, targetCPUUtilizationPercentage: 70}}"), ENVIRONMENT
    )
    assert found is not None
    spec = found["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "wharf"}


def test_accounts_give_no_token():
    found = verdict()
    accounts = [made for made in (server_account(found, ENVIRONMENT), index_account(found, ENVIRONMENT)) if made]
    assert [account["metadata"]["name"] for account in accounts] == ["wharf", "wharf-index"]
    assert [account["automountServiceAccountToken"] for account in accounts] == [False, False]
    components = [account["metadata"]["labels"]["app.kubernetes.io/component"] for account in accounts]
    assert components == ["server", "index"]


EVERYTHING = f"{{{RWX}, autoscaling: {{maxReplicas: 2}}, tls: {{secretRef: {{name: a}}}}}}"


@pytest.mark.parametrize("render", RENDERERS, ids=lambda render: render.__name__)
def test_owners(render):
    """The claim has no owner, so that deleting a server deletes no packages."""
    assert "ownerReferences" not in render(verdict(EVERYTHING), ENVIRONMENT)["metadata"]
    found = render(verdict(EVERYTHING, uid="a-b"), ENVIRONMENT)["metadata"].get("ownerReferences")
    owner = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageServer", "name": "wharf", "uid": "a-b"}
    assert found == (None if render is volume_claim else [{**owner, "controller": True}])


def test_selectors_find_the_pods():
    found = verdict(EVERYTHING)
    pod_labels = deployment(found, ENVIRONMENT)["spec"]["template"]["metadata"]["labels"]
    budget = disruption_budget(found, ENVIRONMENT)
    assert budget is not None
    for chosen in (
        deployment(found, ENVIRONMENT)["spec"]["selector"],
        budget["spec"]["selector"],
        *(item["labelSelector"] for item in pod(EVERYTHING)["topologySpreadConstraints"]),
    ):
        assert chosen["matchLabels"] == selector(found.server)
        assert chosen["matchLabels"].items() <= pod_labels.items()


def test_labels_of_ours_stand():
    server = verdict().server
    found = metadata(server, "x", extra_labels={"pywharf.dev/server": "y", "a": "b"}, annotations={"c": "d"})
    assert found["labels"] == {**labels(server), "a": "b"}
    assert (found["name"], found["annotations"]) == ("wharf-x", {"c": "d"})
    assert "annotations" not in metadata(server, "x")
