"""A spec and another value for every field of both custom resources.

A new field must be given a change here: tests/unit/operator/render/test_every_field.py asks for it.
"""

from support.cluster.kube_client import Json

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
    "clientConfig": {"configMap": "a"},
}


def stored(key: str = "backend", **backend: Json) -> Json:
    """Return a spec of a repo on the backend, without clients' secrets. `key` is that of the backend's secret."""
    ref = {"name": "one", "key": key}
    return {"backend": backend, "credentials": {"anonymousRead": True, "readOnly": True, "backendSecretRef": ref}}


COMMON = {
    "prefix": "a/",
    "endpoint": "https://a.example",
    "allowHTTP": False,
    "caBundle": "",
    "download": "redirect",
    "pollIntervalSeconds": 1,
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
FILE = {"indexFilename": "a.json", "maxFileBytes": 7}
S3 = stored(s3={"bucket": "abc", "region": "a", **COMMON, **FILE})
GCS = stored("backend-gcs", gcs={"bucket": "abc", **COMMON, **FILE})
AZURE = stored("backend-azure", azure={"account": "abc", "container": "abc", **COMMON, **FILE})
HUB = {"owner": "a", "repo": "a", "branch": "a", "apiURL": "https://a.example", "download": "redirect", **FILE}
GITHUB = {"backend": {"github": HUB}, "credentials": {"backendSecretRef": {"name": "one", "key": "backend"}}}
OF_FILES = {"indexFilename": "b.json", "maxFileBytes": 8}
OF_COMMON = {
    "prefix": "b/",
    "endpoint": "https://b.example",
    "allowHTTP": True,
    "caBundle": CERTIFICATE,
    "download": "stream",
    "pollIntervalSeconds": 2,
    **OF_FILES,
}


def under(path: str, spec: Json, values: Json) -> dict[str, tuple[Json, object]]:
    """Return a change of the spec for each field below the path."""
    return {f"{path}.{field}": (spec, value) for field, value in values.items()}


ACCESS: Json = {
    "name": "a",
    "permission": "Read",
    "projects": ["a"],
    "expires": "2027-01-31T00:00:00Z",
}


def entry(**subject: object) -> Json:
    """Return a spec of a repo with one access entry about the subject."""
    return FILES | {"access": [ACCESS | subject]}


DIGESTS = entry(tokenDigests=["sha256:" + "a" * 64])
ACCOUNTS = entry(serviceAccounts=[{"namespace": "a", "name": "a"}])
WORKFLOW = entry(github={"repository": "a/a", "workflow": "a.yml", "environment": "a", "ownerID": 1})
PIPELINE = entry(
    gitlab={
        "project": "a/a",
        "pipeline": "a.yml",
        "environment": "a",
        "ref": "a",
        "refType": "tag",
        "namespaceID": 1,
        "issuer": "a",
    }
)
CLAIMS = entry(oidc={"issuer": "a", "claims": {"sub": "a"}})

SOURCED = FILES | {
    "upstream": {
        "mode": "Cached",
        "sources": [
            {"url": "https://a.example/", "projects": ["a"], "credentialsSecretRef": {"name": "one"}},
            {"url": "https://b.example/"},
        ],
    }
}

REPO_CHANGES: dict[str, tuple[Json, object]] = {
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
    **under("access[]", DIGESTS, {"name": "b", "permission": "Publish", "projects": ["b"]}),
    "access[].expires": (DIGESTS, "2028-01-31T00:00:00Z"),
    "access[].tokenDigests": (DIGESTS, ["sha256:" + "b" * 64]),
    **under("access[].serviceAccounts[]", ACCOUNTS, {"namespace": "b", "name": "*"}),
    **under("access[].github", WORKFLOW, {"repository": "b/b", "workflow": "b.yml", "environment": "b", "ownerID": 2}),
    **under("access[].gitlab", PIPELINE, {"project": "b/b", "pipeline": "b.yml", "environment": "b", "ref": "b"}),
    **under("access[].gitlab", PIPELINE, {"namespaceID": 2, "refType": "branch", "issuer": "b"}),
    **under("access[].oidc", CLAIMS, {"issuer": "b", "claims": {"sub": 1, "tests": True}}),
    "access[].proxyGroups": (entry(proxyGroups=["a"]), ["b"]),
    "index.schedule": (FILES, "2 * * * *"),
    "index.timeZone": (FILES, "Europe/Paris"),
    "index.suspend": (FILES, True),
    "index.syncIntervalSeconds": (FILES, 6),
    "upstream.url": (FILES, "https://b.example/"),
    "upstream.mode": (FILES, "None"),
    **under("upstream.sources[]", SOURCED, {"url": "https://b.example/a/", "projects": ["b"]}),
    "upstream.sources[].credentialsSecretRef.name": (SOURCED, "two"),
    "upstream.reserved": (FILES, ["c"]),
    "upstream.allowShadowing": (FILES, ["c"]),
    "clientConfig.configMap": (FILES, "b"),
}

# The public key of RFC 7517, appendix A.1.
JWKS = (
    '{"keys": [{"kty": "EC", "kid": "a", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", '
    '"y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}'
)
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
    "serviceAccount": {"annotations": {"a": "a"}},
    "ambientIdentity": {"namespaces": ["other"]},
    "upstream": {"url": "https://a.example/", "mode": "Pages", "reserved": ["a"]},
    "identity": {
        "audience": "a",
        "serviceAccounts": "Offline",
        "issuers": [{"name": "a", "url": "https://a.example", "audience": "a", "jwks": JWKS}],
        "trustedProxies": ["10.1.0.0/16"],
        "proxyHeaders": False,
    },
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
POLICY = {
    "targetRefs": [{"kind": "PackageRepo", "name": "a"}],
    "cooldown": {"minimumAge": "7d", "missingTime": "Deny", "projects": ["a"]},
    "allowOnly": ["a"],
    "deny": [{"project": "a", "versions": "==1", "sha256": "a" * 64, "reason": "a"}],
    "yank": [{"project": "a", "versions": "==1", "sha256": "a" * 64, "reason": "a"}],
    "status": [{"project": "a", "status": "archived", "reason": "a"}],
    "advisories": {"mode": "Block"},
    "exceptions": [
        {
            "project": "a",
            "versions": "==1",
            "sha256": "a" * 64,
            "of": ["Deny"],
            "until": "2027-01-31T00:00:00Z",
            "reason": "a",
        }
    ],
}
BY_PORTS = FIXED | {"service": {"type": "NodePort"}}
STATELESS = {"staging": {"sizeLimit": "1Gi"}, "allowedEndpoints": ["a.example"]}
NAMED = {"serviceAccount": {"name": "a"}}
SCALED = {
    "autoscaling": {"minReplicas": 2, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
    "storage": {"existingClaim": "a", "accessModes": ["ReadWriteMany"]},
}
ADDRESS = {"prefix": "a/", "endpoint": "https://a.example", "allowHTTP": False, "caBundle": ""}
OF_ADDRESS = {"prefix": "b/", "endpoint": "https://b.example", "allowHTTP": True, "caBundle": CERTIFICATE}


def cached(**cache: Json) -> Json:
    """Return a spec of a server with a cache in a bucket."""
    return STATELESS | {"cache": {**cache, "credentialsSecretRef": {"name": "a", "key": "a"}}}


CACHE_VOLUME = FIXED | {
    "cache": {
        "fileSystem": {"size": "1Gi", "storageClassName": "a", "accessModes": ["ReadWriteOnce"]},
        "maxBytes": 1_000_000,
        "keepPages": "7d",
    }
}
CACHE_CLAIM = FIXED | {"cache": {"fileSystem": {"existingClaim": "a"}}}
CACHE_S3 = cached(s3={"bucket": "abc", "region": "a", **ADDRESS})
CACHE_GCS = cached(gcs={"bucket": "abc", **ADDRESS})
CACHE_AZURE = cached(azure={"account": "abc", "container": "abc", **ADDRESS})

SERVER_CHANGES: dict[str, tuple[Json, object]] = {
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
    "staging.sizeLimit": (STATELESS, "2Gi"),
    "serviceAccount.annotations": (FIXED, {"a": "b"}),
    "serviceAccount.name": (FIXED | NAMED, "b"),
    "ambientIdentity.namespaces": (FIXED, ["third"]),
    **under("identity", FIXED, {"audience": "b", "serviceAccounts": "Off", "trustedProxies": ["10.2.0.0/16"]}),
    "identity.proxyHeaders": (FIXED, True),
    **under("identity.issuers[]", FIXED, {"name": "b", "url": "https://b.example", "audience": "b"}),
    "identity.issuers[].jwks": (FIXED, JWKS.replace('"a"', '"b"')),
    **under("upstream", FIXED, {"url": "https://b.example/", "mode": "None", "reserved": ["b"]}),
    **under("cache.fileSystem", CACHE_VOLUME, {"size": "2Gi", "storageClassName": "b"}),
    "cache.fileSystem.accessModes": (CACHE_VOLUME, ["ReadWriteMany"]),
    "cache.fileSystem.existingClaim": (CACHE_CLAIM, "b"),
    **under("cache", CACHE_VOLUME, {"maxBytes": 2_000_000, "keepPages": "8d"}),
    **under("cache.credentialsSecretRef", CACHE_S3, {"name": "b", "key": "b"}),
    **under("cache.s3", CACHE_S3, {"bucket": "xyz", "region": "b", **OF_ADDRESS}),
    **under("cache.gcs", CACHE_GCS, {"bucket": "xyz", **OF_ADDRESS}),
    **under("cache.azure", CACHE_AZURE, {"account": "xyz", "container": "xyz", **OF_ADDRESS}),
    "advisories.url": (FIXED | {"advisories": {"url": "https://a.example/a.zip"}}, "https://b.example/b.zip"),
    "advisories.path": (FIXED | {"advisories": {"path": "/a.zip"}}, "/b.zip"),
    "advisories.interval": (FIXED | {"advisories": {"path": "/a.zip", "interval": "1h"}}, "2h"),
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

_SELECTED: Json = {"project": "b", "versions": "==2", "sha256": "b" * 64, "reason": "b"}
POLICY_CHANGES: dict[str, tuple[Json, object]] = {
    **under("targetRefs[]", POLICY, {"kind": "PackageServer", "name": "c"}),
    **under("cooldown", POLICY, {"minimumAge": "8d", "missingTime": "Allow", "projects": ["b"]}),
    "allowOnly": (POLICY, ["b"]),
    **under("deny[]", POLICY, _SELECTED),
    **under("yank[]", POLICY, _SELECTED),
    **under("status[]", POLICY, {"project": "b", "status": "quarantined", "reason": "b"}),
    "advisories.mode": (POLICY, "Report"),
    **under("exceptions[]", POLICY, {**_SELECTED, "of": ["Yank"], "until": "2027-02-01T00:00:00Z"}),
}
