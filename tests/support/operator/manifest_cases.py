"""Manifests with one fault each and part of its error message, and manifests without a fault."""

REPO = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: demo}
spec:
"""
GOOD = "  backend: {fileSystem: {}}\n"
SERVER = REPO.replace("PackageRepo", "PackageServer")
POLICY = REPO.replace("PackageRepo", "PackagePolicy") + "  targetRefs: [{kind: PackageServer, name: pywharf}]\n"
COOLDOWN = "  cooldown: {minimumAge: 7d}\n"


def excepting(**changed: str) -> str:
    """Return a policy with one exception; `changed` replaces its fields, "" leaves one out."""
    fields = {"project": "a", "of": "[Cooldown]", "until": "'2027-01-31T00:00:00Z'", "reason": "why"} | changed
    listed = ", ".join(f"{name}: {value}" for name, value in fields.items() if value)
    return f"{POLICY}{COOLDOWN}  exceptions: [{{{listed}}}]"


SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: demo, labels: {pywharf.dev/credentials: "true"}}
"""

DIGEST = "'sha256:" + "a" * 64 + "'"
LONG = f"permission: Read, tokenDigests: [{DIGEST}], projects: {[f'p{n}' for n in range(251)]}"

STARS = "permission: Read, oidc: {issuer: corp, claims: {a: '*', b: 'b*', c: '*c'}}"


def access(entry: str) -> str:
    """Return a repo with one access entry of these fields."""
    return REPO + GOOD + f"  access: [{{name: a, {entry}}}]"


MALFORMED = [
    (
        SERVER + "  storage: {size: 1Gi, storageClassName: Fast}",
        "storageClassName is 'Fast': it must be empty, or",
    ),
    (SERVER + "  podTemplateRemovals: [startupProbe]", "is 'startupProbe': it must be a path in a pod template's spec"),
    (
        REPO + "  backend: {fileSystem: {}}\n  clientConfig: {configMap: pkg-config}",
        "names that end in -config or -policies are for the ConfigMaps of PackageServers; choose another one",
    ),
    # access and identity
    (access("permission: Read"), "an entry must have exactly one of tokenDigests, serviceAccounts, github, gitlab"),
    (access(f"permission: Read, tokenDigests: [{DIGEST}], proxyGroups: [a]"), "exactly one of tokenDigests"),
    (access("permission: Read, tokenDigests: []"), "exactly one of tokenDigests"),
    (access(f"tokenDigests: [{DIGEST}]"), "spec.access[0].permission is missing; add it."),
    (access(f"permission: Write, tokenDigests: [{DIGEST}]"), "permission is 'Write'; it must be one of Publish, Read."),
    (access("permission: Read, tokenDigests: ['sha256:AA']"), "it must be sha256: and 64 hexadecimal digits"),
    (access("permission: Read, tokenDigests: [pywharf_abc]"), "it must be sha256: and 64 hexadecimal digits"),
    (access("permission: Read, serviceAccounts: [{namespace: a, name: 'a*'}]"), "or * for every one of the namespace"),
    (
        access("permission: Read, serviceAccounts: [{name: a}]"),
        "serviceAccounts[0].namespace is missing; add it.",
    ),
    (
        access("permission: Read, serviceAccounts: [{namespace: '*', name: a}]"),
        "namespace is '*': it must be lower-case",
    ),
    (access(f"permission: Read, projects: [], tokenDigests: [{DIGEST}]"), "projects"),
    (access(f"permission: Read, expires: '2027-01-31', tokenDigests: [{DIGEST}]"), "expires"),
    (
        access(f"permission: Read, expires: '9999-06-01T00:00:00Z', tokenDigests: [{DIGEST}]"),
        "expires must be before the year 9999",
    ),
    (access("permission: Read, github: {repository: a/b, workflow: a.yml}"), "github.ownerID is missing; add it."),
    (access("permission: Read, github: {repository: a, workflow: a.yml, ownerID: 1}"), "repository of GitHub as OWNER"),
    (
        access("permission: Read, github: {repository: a/b, workflow: c/a.yml, ownerID: 1}"),
        "it must be the name of a file in .github/workflows",
    ),
    (access("permission: Read, gitlab: {project: a, namespaceID: 1}"), "path of a GitLab project as GROUP/NAME"),
    (
        access("permission: Read, gitlab: {project: a/b, namespaceID: 1, refType: commit}"),
        "refType is 'commit'; it must be one of branch, tag.",
    ),
    (access("permission: Read, oidc: {issuer: a, claims: {}}"), "claims"),
    (access("permission: Read, oidc: {issuer: a, claims: {'a b': c}}"), "it must be a claim's name"),
    (
        access("permission: Read, oidc: {issuer: a, claims: {a: '*********'}}"),
        "claims is '*********': it must be a text in",
    ),
    (
        access(f"permission: Read, oidc: {{issuer: a, claims: {{{', '.join(f'c{n}: 1' for n in range(17))}}}}}"),
        "expected `object` of length <= 16",
    ),
    (
        access("permission: Read, gitlab: {project: a/b, namespaceID: 1, ref: '*********'}"),
        "ref is '*********': it must be a text in which up to 8 * stand for any characters but /",
    ),
    (
        REPO + GOOD + "  access:" + "".join(f"\n  - {{name: e{n}, {LONG}}}" for n in range(4)),
        "access: all entries together may have 1000 projects",
    ),
    (
        REPO + GOOD + "  access:" + "".join(f"\n  - {{name: e{n}, {STARS}}}" for n in range(65)),
        "expected `array` of length <= 64",
    ),
    (
        REPO + GOOD + "  access:" + "".join(f"\n  - {{name: e{n}, {STARS}}}" for n in range(43)),
        "the access entries have 129 claims with a *; at most 128 are allowed",
    ),
    (
        access(f"permission: Read, tokenDigests: [{DIGEST}], projects: {[f'*-{n}' for n in range(65)]}"),
        "have 65 patterns with a * elsewhere than at their end; at most 64 are allowed",
    ),
    (access("permission: Read, oidc: {issuer: a, claims: {a: [b]}}"), "expected `bool | int | str`, got `array`"),
    (
        REPO + GOOD + f"  access: [{{name: a, permission: Publish, tokenDigests: [{DIGEST}]}}]\n"
        "  credentials: {readOnly: true}",
        "credentials.readOnly is true, so nobody publishes; give each entry",
    ),
    (
        REPO + GOOD + "  access:" + f"\n  - {{name: a, permission: Read, tokenDigests: [{DIGEST}]}}" * 2,
        "access: two entries have the name a; give each its own",
    ),
    (
        REPO + GOOD + f"  access: [{{name: a, permission: Read, expires: '0001-01-01T00:00:00+10:00', "
        f"tokenDigests: [{DIGEST}]}}]",
        "expires must be before the year 9999, and not before 1970",
    ),
    (SERVER + "  identity: {audience: ''}", "it must be a text without spaces such as pywharf"),
    (SERVER + "  identity: {serviceAccounts: Off}", "expected `str`, got `bool`; put the value in quotes."),
    (SERVER + "  identity: {serviceAccounts: Online}", "it must be one of Off, Offline, TokenReview."),
    (SERVER + "  identity: {issuers: [{name: user, url: https://sso.example}]}", "system, token and user are no names"),
    (SERVER + "  identity: {issuers: [{name: corp}]}", "url is missing; only those of github and gitlab are known"),
    (SERVER + "  identity: {issuers: [{name: a, url: 'http://a.example'}]}", "url is plain http, where anybody could"),
    (SERVER + "  identity: {issuers: [{name: github}, {name: github}]}", "issuers: two have the name github"),
    (SERVER + "  identity: {proxyHeaders: true}", "proxyHeaders are believed from trustedProxies alone"),
    (SERVER + "  identity: {trustedProxies: [proxy.example]}", "it must be an address or a network such as"),
    (SERVER + "  identity: {trustedProxies: ['::/0']}", "never of every address"),
    (SERVER + "  identity: {trustedProxies: [010.0.0.1]}", "it must be an address or a network such as"),
    (SERVER + "  identity: {trustedProxies: ['::ffff:10.0.0.1']}", "it must be an address or a network such as"),
    (SERVER + "  identity: {trustedProxies: [10.0.0.0/33]}", "it must be an address or a network such as"),
    # the object
    (REPO.replace("v1alpha1", "v1") + GOOD, "apiVersion is 'pywharf.dev/v1'; write apiVersion: pywharf.dev/v1alpha1."),
    (REPO.replace("apiVersion: pywharf.dev/v1alpha1", ""), "apiVersion is missing; write"),
    (
        REPO.replace("Repo", "Repos"),
        "kind is 'PackageRepos'; pywharf.dev/v1alpha1 has PackagePolicy, PackageRepo, PackageServer.",
    ),
    (REPO.replace("kind: PackageRepo", ""), "kind is missing; pywharf.dev/v1alpha1 has"),
    (REPO.replace("{name: demo}", "{}") + GOOD, "metadata.name is missing; add it."),
    (REPO.replace("metadata: {name: demo}", "") + GOOD, "metadata is missing; add it."),
    (REPO.replace("demo", "Demo") + GOOD, "metadata.name is 'Demo': it must be lower-case letters"),
    (REPO.replace("demo}", "demo, namespace: a.b}") + GOOD, "metadata.namespace is 'a.b': it must be lower-case"),
    (REPO.replace("demo}", "demo, labels: {a: true}}") + GOOD, "a must be a text; put its value in quotes"),
    (REPO.replace("demo", "d" * 64) + GOOD, "metadata.name is longer than 63 characters"),
    (REPO, "spec is missing; add it."),
    (REPO.strip() + " []", "spec: expected `object`, got `array`."),
    # spec
    (REPO + "  {}", "spec.backend is missing; add it."),
    (REPO + GOOD + "  repoNmae: x", "the field spec.repoNmae is unknown; did you mean repoName?"),
    (REPO + GOOD + "  zzz: x", "the field spec.zzz is unknown; known there: serverRef, repoName, backend"),
    (REPO + GOOD + "  repoName: Team A", "spec.repoName is 'Team A': it must be lower-case letters"),
    (REPO + GOOD + '  repoName: "a\\n"', "spec.repoName is 'a\\n': it must be"),
    (REPO + GOOD + "  repoName: credentials_revision", "none of the server's own keys credentials_revision"),
    (REPO + GOOD + "  repoName: " + "a" * 64, "at most 63 characters are allowed, not 64"),
    (REPO + GOOD + "  repoName: 5", "spec.repoName is 5: expected `str`, got `int`; put the value in quotes."),
    # backend
    (REPO + "  backend: {}", "spec.backend must hold exactly one of fileSystem, github, s3, gcs and azure"),
    (REPO + "  backend: {fileSystem: }", "spec.backend must hold exactly one of"),
    (REPO + "  backend: {fileSystem: {}, gcs: {bucket: abc}}", "spec.backend must hold exactly one of"),
    (REPO + "  backend: {filesystem: {}}", "the field spec.backend.filesystem is unknown; did you mean fileSystem?"),
    (
        REPO + "  backend: {fileSystem: {maxFileBytes: 0}}",
        "spec.backend.fileSystem.maxFileBytes is 0: expected `int` >= 1.",
    ),
    (REPO + "  backend: {fileSystem: {indexFilename: a.txt}}", "indexFilename is 'a.txt': it must be a file name that"),
    (
        REPO + "  backend: {fileSystem: {indexFilename: ../a.toml}}",
        "indexFilename is '../a.toml': it must be a file name",
    ),
    (REPO + "  backend: {github: {owner: acme}}", "spec.backend.github.repo is missing; add it."),
    (REPO + "  backend: {github: {owner: -a, repo: b}}", "spec.backend.github.owner is '-a': it must be a GitHub user"),
    (REPO + "  backend: {github: {owner: a, repo: ..}}", "spec.backend.github.repo is '..': it must be a GitHub"),
    (
        REPO + "  backend: {github: {owner: a, repo: b, apiURL: ftp://x}}",
        "apiURL is 'ftp://x': it must be an http or https",
    ),
    (REPO + "  backend: {github: {owner: a, repo: b, apiUrl: x}}", "unknown; did you mean apiURL?"),
    (REPO + "  backend: {s3: {bucket: B}}", "spec.backend.s3.bucket is 'B': it must be a bucket's name"),
    (
        REPO + "  backend: {s3: {bucket: abc, prefix: /a}}",
        "prefix is '/a': it must be empty, or folders each ended by '/'",
    ),
    (REPO + "  backend: {s3: {bucket: abc, prefix: ../}}", "prefix is '../': it must be empty, or folders"),
    (
        REPO + "  backend: {s3: {bucket: abc, endpoint: 'http://s3'}}",
        "endpoint is plain http; use https, or say allowHTTP: true",
    ),
    (REPO + "  backend: {s3: {bucket: abc, endpoint: 'https://s3:99999'}}", "endpoint is 'https://s3:99999': it is"),
    (
        REPO + "  backend: {azure: {account: a, container: abc}}",
        "account is 'a': it must be 3 to 24 lower-case letters",
    ),
    (REPO + "  backend: {s3: {bucket: abc, region: 'eu west'}}", "region is 'eu west': it must be empty, or a region"),
    (
        REPO + "  backend: {s3: {bucket: abc, download: link}}",
        "download is 'link'; it must be one of redirect",
    ),
    (
        REPO + "  backend: {gcs: {bucket: abc, pollIntervalSeconds: 0}}",
        "IntervalSeconds is 0: expected `int` >= 1.",
    ),
    (REPO + "  backend: {gcs: {bucket: abc, caBundle: a}}", "caBundle is 'a': it must hold certificates in PEM form"),
    (
        REPO + f"  backend: {{gcs: {{bucket: abc, caBundle: {'a' * 65537}}}}}",
        "at most 65536 characters are allowed, not 65537",
    ),
    (
        REPO + "  backend: {azure: {account: abc, container: abc, endpoint: 'http://a.example'}}",
        "endpoint is plain http; use https, or say allowHTTP: true",
    ),
    (REPO + "  backend: {s3: {bucket: abc}, azure: {account: abc, container: abc}}", "spec.backend must hold exactly"),
    # credentials
    (
        REPO + GOOD + "  credentials: {readSecretRef: demo}",
        "spec.credentials.readSecretRef: expected `object`, got `str`.",
    ),
    (
        REPO + GOOD + "  credentials: {readSecretRef: {name: a}}",
        "spec.credentials.readSecretRef.key is missing; add it.",
    ),
    (
        REPO + GOOD + "  credentials: {readSecretRef: {name: a, key: b, namespace: other}}",
        "the field spec.credentials.readSecretRef.namespace is unknown",
    ),
    (REPO + GOOD + "  credentials: {readSecretRef: {name: a, key: a/b}}", "key is 'a/b': it must be letters, digits"),
    (
        REPO + GOOD + "  credentials: {readOnly: true, writeSecretRef: {name: a, key: b}}",
        "spec.credentials: readOnly is true, so nobody publishes; leave writeSecretRef out, or readOnly.",
    ),
    (REPO + GOOD + "  credentials: {backendSecretRef: {name: a, key: b}}", "a fileSystem backend has no credentials"),
    (REPO + "  backend: {github: {owner: a, repo: b}}\n  credentials: {readOnly: true}", "with github, GitHub says"),
    # index
    (REPO + GOOD + "  index: {schedule: H * * * *}", "spec.index.schedule is 'H * * * *': it must be five cron fields"),
    (REPO + GOOD + "  index: {schedule: 'TZ=UTC 0 * * * *'}", "it must be five cron fields"),
    (REPO + GOOD + "  index: {schedule: '@hourly'}", "it must be five cron fields"),
    (REPO + GOOD + "  index: {schedule: '0 0 30 2 *'}", "no month that it names has a day 30, so it would never come."),
    (REPO + GOOD + "  index: {schedule: '30-10 * * * *'}", "its minute has the range 30-10, which runs backwards."),
    (REPO + GOOD + "  index: {timeZone: Mars/Olympus}", "the IANA time zone database has no such name; write for"),
    (REPO + GOOD + "  index: {timeZone: Local}", "spec.index.timeZone is 'Local': it must be a name of the IANA"),
    (REPO + GOOD + "  index: {timeZone: ../../etc/passwd}", "it must be a name of the IANA time zone database"),
    (REPO + GOOD + "  index: {suspend: 'yes'}", "spec.index.suspend is 'yes': expected `bool`, got `str`."),
    (REPO + GOOD + "  index: {syncIntervalSeconds: 0}", "spec.index.syncIntervalSeconds is 0: expected `int` >= 1."),
    # upstream
    (REPO + GOOD + "  upstream: {mode: Page}", "spec.upstream.mode is 'Page'; it must be one of Cached, None, Pages."),
    (
        REPO + GOOD + "  upstream: {url: example.com}",
        "spec.upstream.url is 'example.com': it must be an http or https URL",
    ),
    (
        REPO + GOOD + "  upstream: {reserved: acme-*}",
        "spec.upstream.reserved is 'acme-*': expected `array`, got `str`.",
    ),
    (
        REPO + GOOD + "  upstream: {reserved: ['acme-[ab]']}",
        "reserved is 'acme-[ab]': it must be a project's name, in which",
    ),
    # PackageServer
    (SERVER.replace("demo", "1demo"), "metadata.name also names the server's Service; use at most 50"),
    (SERVER.replace("demo", "a.b"), "metadata.name also names the server's Service; use at most 50"),
    (SERVER + "  replicas: -1", "spec.replicas is -1: expected `int` >= 0."),
    (
        SERVER + "  replicas: 2\n  autoscaling: {maxReplicas: 3}",
        "replicas and autoscaling exclude each other; leave one out",
    ),
    (SERVER + "  autoscaling: {minReplicas: 3, maxReplicas: 2}", "spec.autoscaling: minReplicas is above maxReplicas"),
    (SERVER + "  storage: {}", "spec.storage must hold exactly one of size and existingClaim."),
    (SERVER + "  storage: {size: 1 GB}", "spec.storage.size is '1 GB': it must be a Kubernetes quantity such as 10Gi"),
    (SERVER + "  storage: {size: 1, accessModes: [RWO]}", "accessModes[0] is 'RWO'; it must be one of ReadWriteMany"),
    (SERVER + "  storage: {existingClaim: a, storageClassName: b}", "storageClassName has no effect on existingClaim"),
    (SERVER + "  allowedNamespaces: {from: Selector}", "give a selector with from: Selector, and only with it"),
    (
        SERVER + "  allowedNamespaces: {selector: {matchLabels: {a: b}}}",
        "give a selector with from: Selector, and only",
    ),
    (
        SERVER + "  allowedNamespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: In}]}}",
        "In and NotIn need values; Exists and DoesNotExist have none",
    ),
    (
        SERVER + "  allowedEndpoints: ['https://a.example']",
        "allowedEndpoints is 'https://a.example': it must be a host such",
    ),
    (SERVER + "  staging: {sizeLimit: much}", "staging.sizeLimit is 'much': it must be a Kubernetes quantity such as"),
    (
        SERVER + "  serviceAccount: {name: a, annotations: {b: c}}",
        "serviceAccount: annotations are for the one that is made; leave them out, or the name",
    ),
    (
        SERVER + "  serviceAccount: {annotations: {pywharf.dev/a: b}}",
        "annotations: keys that begin with pywharf.dev/",
    ),
    (SERVER + "  ambientIdentity: {namespaces: [A]}", "namespaces is 'A': it must be lower-case letters"),
    (SERVER + "  image: 'a b'", "spec.image is 'a b': it must be a container image's reference."),
    (SERVER + "  tls: {secretRef: {}}", "spec.tls.secretRef.name is missing; add it."),
    # Secret
    (SECRET + "stringData: {read: 12345}", "stringData.read must be a text; put its value in quotes."),
    (SECRET + "data: {read: '%%%'}", "data.read is not base64; encode it, or write it as plain text under stringData."),
    (SECRET + "stringdata: {read: a}", "the field stringdata is unknown; did you mean stringData?"),
    (SECRET + "stringData: a", "stringData: expected `object`, got `str`."),
    # policies
    (POLICY, "spec has no rule; give it cooldown, allowOnly, deny"),
    (POLICY + "  deny: []", "spec has no rule"),
    (excepting(until=""), "spec.exceptions[0].until is missing; add it."),
    (excepting(reason=""), "spec.exceptions[0].reason is missing; add it."),
    (excepting(reason="''"), "spec.exceptions[0].reason is ''"),
    (excepting(until="'2027-01-31'"), "spec.exceptions[0].until is '2027-01-31'"),
    (excepting(until="'2027-01-31T00:00:00'"), "spec.exceptions[0].until is '2027-01-31T00:00:00'"),
    (excepting(of="[]"), "spec.exceptions[0].of: expected `array` of length >= 1."),
    (excepting(of="[Hold]"), "spec.exceptions[0].of[0] is 'Hold'; it must be one of"),
    (excepting(versions="'latest'"), "versions is 'latest': it must be version specifiers of PEP 440"),
    (POLICY + "  cooldown: {minimumAge: 7}", "spec.cooldown.minimumAge is 7"),
    (POLICY + "  cooldown: {minimumAge: 1w}", "spec.cooldown.minimumAge is '1w': it must be a number of days"),
    (POLICY + "  cooldown: {minimumAge: 0d}", "spec.cooldown.minimumAge is '0d': it must be"),
    (POLICY + "  cooldown: {minimumAge: 1000d}", "spec.cooldown.minimumAge is '1000d'"),
    (POLICY + "  cooldown: {minimumAge: 7d, projects: []}", "spec.cooldown.projects: expected `array` of length >= 1."),
    (POLICY + "  deny: [{project: a b}]", "spec.deny[0].project is 'a b': it must be a project's name"),
    (POLICY + "  deny: [{project: a, versions: '1.0'}]", "spec.deny[0].versions is '1.0': it must be version spec"),
    (POLICY + "  deny: [{project: a, versions: '==1,'}]", "spec.deny[0].versions is '==1,': it must be version spec"),
    (POLICY + "  deny: [{project: a, versions: '~=2'}]", "'~=2' is no version specifier of PEP 440"),
    (POLICY + f"  deny: [{{project: a, sha256: {'A' * 64}}}]", "it must be 64 hexadecimal digits"),
    (POLICY + "  status: [{project: a, status: gone}]", "spec.status[0].status is 'gone'; it must be one of"),
    (POLICY + "  advisories: {}", "spec.advisories.mode is missing; add it."),
    (POLICY.replace("PackageServer", "Pod") + COOLDOWN, "spec.targetRefs[0].kind is 'Pod'; it must be one of"),
    (POLICY.replace(", name: pywharf", "") + COOLDOWN, "spec.targetRefs[0].name is missing; add it."),
    (
        POLICY.replace("name: pywharf", "name: pywharf, namespace: other") + COOLDOWN,
        "namespace is unknown; did you mean name?",
    ),
    (POLICY.replace("[{kind: PackageServer, name: pywharf}]", "[]") + COOLDOWN, "spec.targetRefs: expected `array`"),
    # sources and the cache
    (
        REPO + GOOD + "  upstream: {url: 'https://a.example/', sources: [{url: 'https://b.example/'}]}",
        "spec.upstream: url and sources exclude each other; make the url the last of the sources.",
    ),
    (REPO + GOOD + "  upstream: {sources: [{projects: [a]}]}", "spec.upstream.sources[0].url is missing; add it."),
    (
        REPO + GOOD + "  upstream: {sources: [{url: 'https://me:secret@b.example/'}]}",
        "spec.upstream.sources[0].url: it must be an http or https URL without user info",
    ),
    (
        REPO + GOOD + "  upstream: {sources: [{url: 'https://b.example/', projects: ['-a']}]}",
        "sources[0].projects is '-a': it must be a project's name, in which * stands for any characters",
    ),
    (
        REPO + GOOD + f"  upstream: {{sources: {[{'url': f'https://h{n}.example/'} for n in range(17)]}}}",
        "spec.upstream.sources",
    ),
    (
        REPO + GOOD + "  upstream: {sources: [{url: 'https://b.example/', credentialsSecretRef: {}}]}",
        "credentialsSecretRef.name is missing; add it.",
    ),
    (SERVER + "  cache: {}", "cache must hold exactly one of fileSystem, s3, gcs and azure"),
    (SERVER + "  cache: {fileSystem: {size: 1Gi}, s3: {bucket: abc}}", "exactly one of fileSystem, s3, gcs and azure"),
    (SERVER + "  cache: {fileSystem: {}}", "cache.fileSystem must hold exactly one of size and existingClaim"),
    (
        SERVER + "  cache: {fileSystem: {size: 1Gi}, credentialsSecretRef: {name: a, key: b}}",
        "cache.credentialsSecretRef: a volume has no credentials; leave it out",
    ),
    (
        SERVER + "  cache: {s3: {bucket: abc, endpoint: 'https://minio.example'}}",
        "cache: endpoint needs a credentialsSecretRef",
    ),
    (
        SERVER + "  cache: {s3: {bucket: abc, endpoint: 'http://minio'}, credentialsSecretRef: {name: a, key: b}}",
        "endpoint is plain http; use https, or say allowHTTP: true",
    ),
    (SERVER + "  cache: {fileSystem: {size: 1Gi}, maxBytes: 0}", "spec.cache.maxBytes is 0"),
    (SERVER + "  cache: {fileSystem: {size: 1Gi}, keepPages: 0d}", "spec.cache.keepPages is '0d'"),
    (SERVER + "  cache: {s3: {bucket: abc, download: stream}}", "download"),
    # advisories
    (SERVER + "  advisories: {interval: 1h}", "advisories must have exactly one of url and path"),
    (SERVER + "  advisories: {url: 'https://a.example/a.zip', path: /a.zip}", "exactly one of url and path"),
    (SERVER + "  advisories: {path: a.zip}", "spec.advisories.path is 'a.zip': it must be an absolute path"),
]

WELL_FORMED = [
    access(f"permission: Read, tokenDigests: [{DIGEST}], expires: '2027-01-31T00:00:00+02:00', projects: ['a-*']"),
    access("permission: Publish, serviceAccounts: [{namespace: ml, name: '*'}, {namespace: ml, name: a.b}]"),
    access("permission: Publish, github: {repository: a/b.c, workflow: a.yaml, environment: pypi, ownerID: 4711}"),
    access("permission: Publish, gitlab: {project: a/b/c, namespaceID: 1, ref: 'v*', refType: tag, pipeline: a.yml}"),
    access("permission: Publish, oidc: {issuer: corp, claims: {sub: 'build-*', run: 7, 'a.b/c:d': true}}"),
    access("permission: Read, proxyGroups: ['people of ops']"),
    SERVER + "  identity: {serviceAccounts: 'Off', issuers: [{name: github}, {name: a, url: 'https://a.example/b'}]}",
    SERVER + "  identity: {trustedProxies: [10.0.0.0/8, '::1', 'fd00::/8'], proxyHeaders: true, audience: 'https://a'}",
    excepting(),
    excepting(until="'2020-01-31T00:00:00+02:00'", versions="'>=2, <2.3'", of="[Deny, Status]"),
    POLICY + "  allowOnly: []",
    POLICY + "  allowOnly: [numpy, 'torch*', '*']",
    POLICY
    + "  deny: [{project: a}, {project: 'a*', versions: '==1.*,!=1.2rc1'}, {project: B_c, versions: '===v1.0-1'}]",
    POLICY + "  deny: [{project: a, versions: '~=2.0.dev3'}, {project: a, versions: '>1!2.post1,==3+local.1'}]",
    POLICY + "  yank: [{project: a, reason: ''}]",
    POLICY + "  status: [{project: a, status: quarantined}]\n  advisories: {mode: Report}",
    POLICY + "  cooldown: {minimumAge: 90m, missingTime: FirstSeen, projects: [a, 'b*']}",
    POLICY.replace("PackageServer", "PackageRepo") + "  cooldown: {minimumAge: 12h}",
    SERVER + "  advisories: {url: 'https://a.example/a.zip'}",
    SERVER + "  advisories: {path: /feed/pypi, interval: 5m}",
    SERVER + "  cache: {fileSystem: {existingClaim: a}, maxBytes: 1, keepPages: 7d}",
    SERVER + "  cache: {azure: {account: abc, container: abc}}",
    SERVER + "  cache: {s3: {bucket: abc, endpoint: 'https://a.example'}, credentialsSecretRef: {name: a, key: b}}",
    SERVER + "  upstream: {mode: Cached}",
    REPO + GOOD + "  upstream: {mode: Cached, url: 'https://a.example/', sources: []}",
    REPO + GOOD + "  upstream: {sources: [{url: 'https://a.example/', projects: ['torch*', a.b]}]}",
    SERVER + "  storage: {size: 1Gi, storageClassName: ''}",
    SERVER + "  podTemplateRemovals: ['spec.volumes[tmp]']",
    REPO + GOOD,
    REPO + "  backend: {fileSystem: {}}\n  index:\n  upstream:\n  credentials:\n",
    REPO.replace("demo}", "demo, creationTimestamp: null, finalizers: [a], managedFields: []}") + GOOD,
    REPO.replace("demo}", "demo, creationTimestamp: 2026-01-01T00:00:00Z}") + GOOD,
    REPO + GOOD + "status: {conditions: [], later: x}\n",
    REPO + GOOD + "  index: {schedule: '*/15 0-6,22 1 jan-MAR MON-FRI', timeZone: Europe/Paris}",
    REPO + GOOD + "  index: {schedule: '0 0 30 2 MON'}",
    REPO + "  backend: {s3: {bucket: abc, endpoint: 'http://s3:9000', allowHTTP: true, prefix: a/b/}}",
    REPO + "  backend: {gcs: {bucket: abc, download: stream, pollIntervalSeconds: 3600, caBundle: ''}}",
    SERVER + "  serviceAccount: {name: cloud}\n  ambientIdentity: {namespaces: [ml]}\n  staging: {sizeLimit: 1Gi}",
    SERVER + "  serviceAccount: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::1:role/a'}}",
    SERVER + "  serviceAccount: {name: cloud, annotations: {}}",
    REPO + GOOD + "  upstream: {url: 'https://[2001:db8::1]:8443/simple/', mode: None}",
    SERVER,
    SERVER + "  replicas: 2\n  podTemplate: {spec: {nodeSelector: {a: b}}}",
    SERVER + "  resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: 2}}",
    SERVER + "  allowedEndpoints: ['*.example.com', 'a.example:8443', '[::1]:80', '*']",
    SECRET + 'stringData: {read: "12345"}\ntype: Opaque\nimmutable: true',
    SECRET + "data:\n  read: |\n    YWJj\n    ZGVm\n",
]

REFUSED_AT_ADMISSION = [
    (SERVER + "  identity: {trustedProxies: [10.0.0.1/8]}", "has bits past its length"),
    (SERVER + "  identity: {trustedProxies: ['::ffff:a00:1']}", "is an IPv4 address in IPv6's form"),
    (SERVER + "  identity: {issuers: [{name: github, jwks: '{}'}]}", "jwks has no list of keys"),
]
"""Manifests that the API server refuses, with a part of its sentence. One that is stored all the same, because it is
older than the rule, is read: the bad part is left out alone."""
