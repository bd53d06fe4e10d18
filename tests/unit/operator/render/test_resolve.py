"""Which server serves which repo: every reason is covered, and the fault of one repo does not affect another."""

import itertools
import json

import pytest

from pywharf.config.object_stores import S3Spec
from pywharf.config.repo_config import BackendSpec, FileSystemSpec, GithubSpec
from pywharf_operator.local.folder import faults_of, snapshot_of
from pywharf_operator.render import Environment, Snapshot, render_server, resolve
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.spec import ObjectKey
from support.operator.manifest_text import parsed_each
from support.operator.store_keys import AZURE_KEY, GCS_ACCOUNT, S3_KEYS


class PickyGcsSpec(BackendSpec, frozen=True, kw_only=True, tag="gcs"):
    """The spec of an installed backend in another version, which knows none of the fields."""


ENVIRONMENT = Environment(
    specs={"file_system": FileSystemSpec, "s3": S3Spec, "github": GithubSpec, "gcs": PickyGcsSpec}
)

SERVER = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: NAME, namespace: NAMESPACE}
spec: SPEC
---
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: NAMESPACE, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: a-read, write: a-write, backend: KEYS, azure: AZURE, gcs: GCS,
  empty: "", lines: "\\r\\n", long: LONG}
data: {binary: /w==}
---
"""
REPO = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: NAME, namespace: NAMESPACE META}
spec:
  repoName: REPO
  backend: BACKEND
  credentials: {CREDENTIALS}
  EXTRA
---
"""
REFS = "readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}"
BACKEND_REF = "backendSecretRef: {name: keys, key: backend}"


def server(name="pywharf", namespace="ml", spec="{storage: {size: 1Gi}}"):
    return SERVER.replace("NAMESPACE", namespace).replace("NAME", name).replace("SPEC", spec)


def secret(namespace="ml"):
    text = SECRET.replace("NAMESPACE", namespace).replace("LONG", "x" * 16385)
    for name, value in (("KEYS", S3_KEYS), ("AZURE", AZURE_KEY), ("GCS", GCS_ACCOUNT)):
        text = text.replace(name, json.dumps(value))
    return text


def repo(name="a", namespace="ml", *, repo_name=None, backend="{fileSystem: {}}", credentials=REFS, extra="", meta=""):
    text = REPO.replace("REPO", repo_name or name).replace("BACKEND", backend).replace("CREDENTIALS", credentials)
    return text.replace("EXTRA", extra).replace("META", meta).replace("NAMESPACE", namespace).replace("NAME", name)


def snapshot(*texts):
    found = parsed_each(*texts)
    assert found.problems == ()
    return snapshot_of(found)


def reasons(*texts, environment=ENVIRONMENT):
    """Return the reasons of each repo: Accepted, SecretsResolved."""
    found = resolve(snapshot(*texts), environment)
    return {str(v.repo.key): (v.accepted.reason, v.secrets_resolved.reason) for v in found.repos}


S3 = "{s3: {bucket: abc}}"
GITHUB = "{github: {owner: acme, repo: wheels}}"
IN_OTHER = "serverRef: {namespace: ml}"

CASES = [
    # texts, reasons of the repo `a`, words of the message
    ([server(), secret(), repo()], ("Accepted", "Resolved"), ""),
    (
        [secret(), repo()],
        ("ServerNotFound", "Resolved"),
        "no PackageServer ml/pywharf; create it, or correct spec.serverRef",
    ),
    ([server("other"), secret(), repo()], ("ServerNotFound", "Resolved"), "ml/pywharf"),
    ([server(), secret("b"), repo(namespace="b", extra=IN_OTHER)], ("NamespaceNotAllowed", "Resolved"), "namespace b"),
    ([secret("b"), repo(namespace="b", extra=IN_OTHER)], ("NamespaceNotAllowed", "Resolved"), "namespace b"),
    ([server(spec="{}"), secret(), repo()], ("StorageMissing", "Resolved"), "has no spec.storage"),
    (
        [
            server(),
            secret(),
            repo(
                backend="{azure: {account: abc, container: abc}}",
                credentials=f"{REFS}, {BACKEND_REF.replace('backend}', 'azure}')}",
            ),
        ],
        ("BackendNotInstalled", "Resolved"),
        "spec.backend.azure: this backend is not installed (installed: file_system, gcs",
    ),
    (
        [
            server(),
            secret(),
            repo(backend="{gcs: {bucket: abc}}", credentials=f"{REFS}, {BACKEND_REF.replace('backend}', 'gcs}')}"),
        ],
        ("InvalidBackend", "Resolved"),
        "spec.backend.gcs: the field 'allow_http' is unknown",
    ),
    (
        [
            server(),
            secret(),
            repo(
                backend="{s3: {bucket: abc, endpoint: 'https://169.254.169.254'}}", credentials=f"{REFS}, {BACKEND_REF}"
            ),
        ],
        ("EndpointNotAllowed", "Resolved"),
        "spec.backend.s3.endpoint is 'https://169.254.169.254', whose host is not among",
    ),
    (
        [
            server(),
            secret(),
            repo(
                backend="{github: {owner: a, repo: b, apiURL: 'https://ghe.acme.example/api/v3'}}",
                credentials=BACKEND_REF,
            ),
        ],
        ("EndpointNotAllowed", "Resolved"),
        "spec.backend.github.apiURL is",
    ),
    (
        [server(), secret(), repo(extra="upstream: {url: 'http://localhost:3141/simple/'}")],
        ("EndpointNotAllowed", "Resolved"),
        "spec.upstream.url is 'http://localhost:3141/simple/'",
    ),
    (
        [
            server(),
            secret(),
            repo(extra="upstream: {sources: [{url: 'https://pypi.org/simple/'}, {url: 'https://b.c/'}]}"),
        ],
        ("EndpointNotAllowed", "Resolved"),
        "spec.upstream.sources[1].url is 'https://b.c/', whose host is not among",
    ),
    ([server(), secret(), repo(extra="upstream: {mode: Cached}")], ("CacheMissing", "Resolved"), "has no spec.cache"),
    (
        [server(spec="{storage: {size: 1Gi}, upstream: {mode: Cached}}"), secret(), repo()],
        ("CacheMissing", "Resolved"),
        "or set spec.upstream.mode to Pages",
    ),
    (
        [
            server(spec="{storage: {size: 1Gi}, cache: {fileSystem: {size: 1Gi}}}"),
            secret(),
            repo(extra="upstream: {mode: Cached}"),
        ],
        ("Accepted", "Resolved"),
        "",
    ),
    # credentials
    (
        [server(), repo()],
        ("Accepted", "SecretNotFound"),
        'there is no Secret ml/keys with the label pywharf.dev/credentials: "true"; create it with that label',
    ),
    ([server(), secret("other"), repo()], ("Accepted", "SecretNotFound"), "in this namespace, the only one"),
    ([server(), secret().replace('"true"', '"True"'), repo()], ("Accepted", "SecretNotLabelled"), "lacks the label"),
    (
        [server(), secret().replace("labels", "annotations"), repo()],
        ("Accepted", "SecretNotLabelled"),
        "lacks the label",
    ),
    (
        [server(), secret(), repo(credentials=REFS.replace("key: read", "key: gone"))],
        ("Accepted", "SecretKeyMissing"),
        "spec.credentials.readSecretRef: Secret ml/keys has no key 'gone'; add it, or correct the reference.",
    ),
    (
        [server(), secret(), repo(credentials=REFS.replace("key: read", "key: empty"))],
        ("Accepted", "SecretInvalid"),
        "the value of 'empty' in Secret ml/keys is empty",
    ),
    (
        [server(), secret(), repo(credentials=REFS.replace("key: read", "key: lines"))],
        ("Accepted", "SecretInvalid"),
        "is empty; give it one",
    ),
    (
        [server(), secret(), repo(credentials=REFS.replace("key: read", "key: binary"))],
        ("Accepted", "SecretInvalid"),
        "is not UTF-8 text",
    ),
    (
        [server(), secret(), repo(credentials=REFS.replace("key: read", "key: long"))],
        ("Accepted", "SecretInvalid"),
        "has more than 16384 bytes; give it one of at most 16384",
    ),
    (
        [server(), secret(), repo(credentials="")],
        ("Accepted", "NoCredentials"),
        "spec.credentials.readSecretRef is missing",
    ),
    (
        [server(), secret(), repo(credentials="")],
        ("Accepted", "NoCredentials"),
        "spec.credentials.writeSecretRef is missing",
    ),
    (
        [server(), secret(), repo(credentials="anonymousRead: true")],
        ("Accepted", "NoCredentials"),
        "or say readOnly: true",
    ),
    (
        [server(), secret(), repo(credentials="readOnly: true")],
        ("Accepted", "NoCredentials"),
        "or say anonymousRead: true",
    ),
    ([server(), secret(), repo(credentials="readOnly: true, anonymousRead: true")], ("Accepted", "Resolved"), ""),
    (
        [server(), secret(), repo(credentials=REFS.split(", write", maxsplit=1)[0] + ", readOnly: true")],
        ("Accepted", "Resolved"),
        "",
    ),
    (
        [server(), secret(), repo(backend=S3)],
        ("Accepted", "AmbientIdentityNotAllowed"),
        "server's pods, have spec.ambientIdentity.namespaces of PackageServer ml/pywharf list ml, which it does not.",
    ),
    (
        [server(), secret(), repo(backend=S3, credentials="")],
        ("Accepted", "NoCredentials"),
        "ambientIdentity.namespaces",
    ),
    ([server(), secret(), repo(backend=S3, credentials=f"{REFS}, {BACKEND_REF}")], ("Accepted", "Resolved"), ""),
    ([server(spec="{ambientIdentity: {namespaces: [ml]}}"), secret(), repo(backend=S3)], ("Accepted", "Resolved"), ""),
    (
        [server(spec="{ambientIdentity: {namespaces: [other]}}"), secret(), repo(backend=S3)],
        ("Accepted", "AmbientIdentityNotAllowed"),
        "",
    ),
    (
        [secret(), repo(backend=S3)],
        ("ServerNotFound", "AmbientIdentityNotAllowed"),
        "have spec.ambientIdentity.namespaces of PackageServer ml/pywharf list ml",
    ),
    (
        [
            server(spec="{ambientIdentity: {namespaces: [ml]}}"),
            repo(backend=S3, credentials=f"readOnly: true, anonymousRead: true, {BACKEND_REF}"),
        ],
        ("Accepted", "SecretNotFound"),
        "spec.credentials.backendSecretRef: there is no Secret ml/keys",
    ),
    (
        [server(), secret(), repo(backend=GITHUB, credentials="")],
        ("Accepted", "NoCredentials"),
        "name the GitHub token or App",
    ),
    (
        [server(spec="{ambientIdentity: {namespaces: [ml]}}"), secret(), repo(backend=GITHUB, credentials="")],
        ("Accepted", "NoCredentials"),
        "name the GitHub token",
    ),
    ([server(), secret(), repo(backend=GITHUB, credentials=BACKEND_REF)], ("Accepted", "Resolved"), ""),
]


@pytest.mark.parametrize(("texts", "expected", "words"), CASES, ids=range(len(CASES)))
def test_reasons(texts, expected, words):
    found = resolve(snapshot(*texts), ENVIRONMENT)
    (verdict,) = found.repos
    assert (verdict.accepted.reason, verdict.secrets_resolved.reason) == expected
    assert verdict.accepted.status == (expected[0] == "Accepted")
    assert verdict.secrets_resolved.status == (expected[1] == "Resolved")
    assert verdict.served == (expected == ("Accepted", "Resolved"))
    assert words in f"{verdict.accepted.message} {verdict.secrets_resolved.message}"
    assert (len(faults_of(found, ())) == 0) == verdict.served
    served = [repo for server in found.servers for repo in server.repos]
    assert served == ([verdict] if verdict.served else [])


SERVER_CASES = [
    ("{}", "Accepted"),
    ("{replicas: 3}", "Accepted"),
    ("{storage: {size: 1Gi}}", "Accepted"),
    ("{storage: {size: 1Gi}, replicas: 0}", "Accepted"),
    ("{storage: {size: 1Gi}, replicas: 2}", "StorageNotShared"),
    ("{storage: {existingClaim: a}, autoscaling: {maxReplicas: 2}}", "StorageNotShared"),
    ("{storage: {size: 1Gi, accessModes: [ReadWriteMany]}, replicas: 2}", "Accepted"),
    ("{cache: {fileSystem: {size: 1Gi}}}", "Accepted"),
    ("{cache: {fileSystem: {size: 1Gi}}, replicas: 2}", "StorageNotShared"),
    ("{cache: {fileSystem: {size: 1Gi, accessModes: [ReadWriteMany]}}, replicas: 2}", "Accepted"),
    ("{cache: {s3: {bucket: abc}}, replicas: 2}", "Accepted"),
    ("{cache: {fileSystem: {size: 1Gi}, maxBytes: 1073741825}}", "CacheVolumeTooSmall"),
    ("{cache: {fileSystem: {size: 1Gi}, maxBytes: 1073741824}}", "Accepted"),
    ("{allowedNamespaces: {from: Selector, selector: {matchLabels: {a: b}}}}", "NamespacesNotWatched"),
    ("{allowedNamespaces: {from: All}}", "Accepted"),
    ("{podTemplate: {spec: {nodeSelector: {a: b}}}}", "Accepted"),
    ("{podTemplate: {spec: {containers: {name: server}}}}", "InvalidPodTemplate"),
]


@pytest.mark.parametrize(("spec", "reason"), SERVER_CASES, ids=range(len(SERVER_CASES)))
def test_servers(spec, reason):
    found = resolve(Snapshot(servers=snapshot(server(spec=spec)).servers), ENVIRONMENT)
    (verdict,) = found.servers
    assert (verdict.accepted.reason, verdict.accepted.status) == (reason, reason == "Accepted")
    assert verdict.accepted.message.endswith(".")


def test_every_reason_is_listed_and_met():
    listed = {(name, reason) for name, reasons in REASONS.items() for reason in reasons}
    met = {("PackageRepo Accepted", accepted) for _, (accepted, _), _ in CASES}
    met |= {("PackageRepo SecretsResolved", resolved) for _, (_, resolved), _ in CASES}
    met |= {("PackageServer Accepted", reason) for _, reason in SERVER_CASES}
    met.add(("PackageRepo Accepted", "NameConflict"))  # tested below
    met.add(("PackageRepo Accepted", "StorageTaken"))  # test_object_stores.py
    bounds = ("TableTooLarge", "TooManyRepos", "ServerFull", "ScheduleTooFrequent")  # test_bounds.py
    met |= {("PackageRepo Accepted", reason) for reason in bounds}
    # These come from parsing and reading, before anything is resolved.
    met |= {("PackageRepo Accepted", "InvalidSpec"), ("PackageServer Accepted", "InvalidSpec")}
    met.add(("PackageRepo Accepted", "ServerUnreadable"))
    decided_here = {"PackageRepo Accepted", "PackageRepo SecretsResolved", "PackageServer Accepted"}
    assert met == {(name, reason) for name, reason in listed if name in decided_here}


def conflicting(first, second):
    texts = [server(spec="{storage: {size: 1Gi}, allowedNamespaces: {from: All}}"), secret("b"), secret("c")]
    one = repo("one", "b", repo_name="x", extra=IN_OTHER, meta=first)
    two = repo("two", "c", repo_name="x", extra=IN_OTHER, meta=second)
    return {key: accepted for key, (accepted, _) in reasons(*texts, one, two).items()}


OLD, NEW = ", creationTimestamp: 2026-01-01T00:00:00Z", ", creationTimestamp: 2026-01-01T00:00:01Z"

EARLIEST = ", creationTimestamp: 0001-01-01T00:00:00"
"""Without a zone, as only `up` may find it."""


@pytest.mark.parametrize(
    ("first", "second", "loser"),
    [(OLD, NEW, "c/two"), (NEW, OLD, "b/one"), (OLD, OLD, "c/two"), ("", "", "c/two"), (NEW, EARLIEST, "b/one")],
    ids=["older", "younger", "equal", "absent", "earliest"],
)
def test_the_older_keeps_the_name(first, second, loser):
    found = conflicting(first, second)
    assert found.pop(loser) == "NameConflict"
    assert set(found.values()) == {"Accepted"}


def test_the_message_names_the_holder_and_the_way_out():
    both = [repo("one", repo_name="x"), repo("two", repo_name="x")]
    found = resolve(snapshot(server(), secret(), *both), ENVIRONMENT)
    assert found.repos[1].accepted.message == (
        "The older PackageRepo ml/one has the name 'x' on PackageServer ml/pywharf; make a new PackageRepo with "
        "another spec.repoName."
    )


def test_order_of_arrival_does_not_matter():
    texts = [server(), secret(), repo("one", repo_name="x"), repo("two", repo_name="x"), repo("three")]
    outcomes = set()
    for order in itertools.permutations(texts):
        (found,) = resolve(snapshot(*order), ENVIRONMENT).servers
        outcomes.add(str(reasons(*order)) + str(render_server(found, ENVIRONMENT).config_map))
    assert len(outcomes) == 1


def test_a_repo_that_the_server_does_not_take_holds_no_name():
    texts = [server(), secret(), secret("a"), repo("one", "a", repo_name="x", extra=IN_OTHER, meta=OLD)]
    found = reasons(*texts, repo("two", repo_name="x", meta=NEW))
    assert found == {"a/one": ("NamespaceNotAllowed", "Resolved"), "ml/two": ("Accepted", "Resolved")}


def test_a_broken_repo_keeps_its_name():
    older = repo("one", repo_name="x", credentials=REFS.replace("keys", "gone"), meta=OLD)
    found = reasons(server(), secret(), older, repo("two", repo_name="x", meta=NEW))
    assert found == {"ml/one": ("Accepted", "SecretNotFound"), "ml/two": ("NameConflict", "Resolved")}


def test_one_name_on_two_servers():
    other = repo("two", repo_name="x", extra="serverRef: {name: other}")
    found = resolve(snapshot(server(), server("other"), secret(), repo("one", repo_name="x"), other), ENVIRONMENT)
    assert {str(s.server.key): [str(r.repo.key) for r in s.repos] for s in found.servers} == {
        "ml/pywharf": ["ml/one"],
        "ml/other": ["ml/two"],
    }


def test_broken_repos_change_nothing_for_another():
    def configuration(*more):
        found = resolve(snapshot(server(), secret(), repo("good"), *more), ENVIRONMENT)
        rendered = render_server(found.servers[0], ENVIRONMENT)
        return rendered.config_map, rendered.credentials

    broken = [
        repo("no-secret", credentials=REFS.replace("keys", "gone")),
        repo("empty-secret", credentials=REFS.replace("key: write", "key: empty")),
        repo("no-backend", backend="{azure: {account: abc, container: abc}}"),
        repo("same-name", repo_name="good", meta=NEW),
        repo("far", extra="serverRef: {name: nowhere}"),
    ]
    assert configuration() == configuration(*broken)


@pytest.mark.parametrize(
    ("rule", "labels", "taken"),
    [
        ("{from: Same}", "{}", False),
        ("{from: All}", "{}", True),
        ("{from: Selector, selector: {matchLabels: {team: ml}}}", "{team: ml}", True),
        ("{from: Selector, selector: {matchLabels: {team: ml}}}", "{team: web}", False),
        ("{from: Selector, selector: {}}", "{}", True),
        ("{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: b}}}", "{}", True),
        ("{from: Selector, selector: {matchExpressions: [{key: team, operator: Exists}]}}", "{team: x}", True),
        ("{from: Selector, selector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}", "{team: x}", False),
        ("{from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [x]}]}}", "{team: x}", True),
        ("{from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}", "{}", True),
        (
            "{from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}",
            "{team: x}",
            False,
        ),
    ],
)
def test_namespaces(rule, labels, taken):
    spec = f"{{storage: {{size: 1Gi}}, allowedNamespaces: {rule}}}"
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: b, labels: {labels}}}\n---\n"
    found = reasons(server(spec=spec), secret("b"), namespace, repo(namespace="b", extra=IN_OTHER))
    assert (found["b/a"][0] == "Accepted") == taken


@pytest.mark.parametrize(
    ("listed", "url", "taken"),
    [
        ("", "https://pypi.org", True),
        ("", "https://uploads.github.com", True),
        ("", "https://s3.eu-west-1.amazonaws.com", False),
        ("", "https://evil.blob.core.windows.net", False),
        ("", "https://storage.googleapis.com", False),
        ("", "https://amazonaws.com.evil.example", False),
        ("", "https://s3.eu-west-1.amazonaws.com:8443", False),
        ("", "https://localhost", False),
        ("", "https://127.0.0.1", False),
        ("", "https://[::1]", False),
        (", allowedEndpoints: []", "https://s3.eu-west-1.amazonaws.com", False),
        (", allowedEndpoints: [s3.acme.example]", "https://s3.acme.example", True),
        (", allowedEndpoints: [S3.acme.example]", "https://s3.ACME.example/", True),
        (", allowedEndpoints: [s3.acme.example]", "https://x.s3.acme.example", False),
        (", allowedEndpoints: ['*.acme.example']", "https://x.acme.example", True),
        (", allowedEndpoints: ['*.acme.example']", "https://acme.example", False),
        (", allowedEndpoints: ['*.acme.example']", "https://xacme.example", False),
        (", allowedEndpoints: ['acme.example:9000']", "https://acme.example:9000", True),
        (", allowedEndpoints: ['acme.example:9000']", "https://acme.example", False),
        (", allowedEndpoints: ['127.0.0.1:9000']", "https://127.0.0.1:9000", True),
        (", allowedEndpoints: ['[::1]:9000']", "https://[::1]:9000", True),
        (", allowedEndpoints: ['[::1]']", "https://[::1]", True),
        (", allowedEndpoints: ['*']", "https://10.0.0.1:1234", False),
        (", allowedEndpoints: ['*']", "https://8.8.8.8:1234", True),
        (", allowedEndpoints: ['*']", "https://2852039166", False),
        (", allowedEndpoints: ['*']", "https://[fd00:ec2::254]", False),
        (", allowedEndpoints: ['*', '10.0.0.1:1234']", "https://10.0.0.1:1234", True),
        (", allowedEndpoints: ['*']", "https://127.0.0.1", False),
        (", allowedEndpoints: ['*']", "https://169.254.169.254", False),
        (", allowedEndpoints: ['*']", "https://[fe80::1]", False),
        (", allowedEndpoints: ['*']", "https://[::ffff:127.0.0.1]", False),
        (", allowedEndpoints: ['*']", "https://localhost:8443", False),
        (", allowedEndpoints: ['*', '169.254.169.254']", "https://169.254.169.254", True),
    ],
)
def test_endpoints(listed, url, taken):
    texts = [server(spec=f"{{storage: {{size: 1Gi}}{listed}}}"), secret()]
    backend = f"{{s3: {{bucket: abc, endpoint: '{url}'}}}}"
    found = reasons(*texts, repo(backend=backend, credentials=f"{REFS}, {BACKEND_REF}"))
    assert found["ml/a"][0] == ("Accepted" if taken else "EndpointNotAllowed")


def test_the_server_s_own_upstream_needs_no_permission():
    spec = "{storage: {size: 1Gi}, upstream: {url: 'https://mirror.acme.example/simple/'}}"
    found = resolve(snapshot(server(spec=spec), secret(), repo()), ENVIRONMENT)
    (verdict,) = found.repos
    assert verdict.spec is not None
    assert verdict.spec.upstream.url == "https://mirror.acme.example/simple/"


@pytest.mark.parametrize(
    ("of_server", "of_repo", "mode", "url", "reserved"),
    [
        ("{}", "{}", "Pages", None, ()),
        ("{mode: None, reserved: [a]}", "{}", "None", None, ("a",)),
        ("{mode: None}", "{mode: Pages}", "Pages", None, ()),
        ("{url: 'https://a.example/'}", "{mode: None}", "None", "https://a.example/", ()),
        ("{url: 'https://a.example/'}", "{url: 'https://api.github.com/'}", "Pages", "https://api.github.com/", ()),
        ("{reserved: [a, b]}", "{reserved: [b, c]}", "Pages", None, ("a", "b", "c")),
    ],
)
def test_upstream_defaults(of_server, of_repo, mode, url, reserved):
    texts = [server(spec=f"{{storage: {{size: 1Gi}}, upstream: {of_server}}}"), secret()]
    (verdict,) = resolve(snapshot(*texts, repo(extra=f"upstream: {of_repo}")), ENVIRONMENT).repos
    assert verdict.spec is not None
    upstream = verdict.spec.upstream
    assert (upstream.mode, upstream.url, upstream.reserved) == (mode, url, reserved)


def test_keys_sort_by_namespace_first():
    assert sorted([ObjectKey("b", "a"), ObjectKey("a", "z")]) == [ObjectKey("a", "z"), ObjectKey("b", "a")]


def conditions_of(*texts):
    """Return the conditions that the only repo receives."""
    (verdict,) = resolve(snapshot(*texts), ENVIRONMENT).repos
    return verdict.accepted, verdict.secrets_resolved


@pytest.mark.parametrize("backend", ["{fileSystem: {}}", S3, GITHUB, "{gcs: {bucket: abc}}"])
def test_whether_another_namespace_has_a_server_is_not_revealed(backend):
    """A PackageServer that does not admit the repo and a missing PackageServer yield exactly the same texts."""
    texts = [secret("b"), repo(namespace="b", backend=backend, extra=IN_OTHER)]
    servers = [
        "{storage: {size: 1Gi}}",
        "{}",
        "{replicas: 3, storage: {size: 1Gi}}",
        "{ambientIdentity: {namespaces: [b]}}",
        "{allowedEndpoints: []}",
        "{podTemplate: {wrong: true}}",
        "{allowedNamespaces: {from: Selector, selector: {matchLabels: {team: a}}}}",
    ]
    without = conditions_of(*texts)
    for spec in servers:
        assert conditions_of(*texts, server(spec=spec)) == without, spec
    assert without[0].reason == "NamespaceNotAllowed"


def test_the_holder_of_a_name_in_another_namespace_is_not_named():
    texts = [server(spec="{storage: {size: 1Gi}, allowedNamespaces: {from: All}}"), secret("b"), secret("victim")]
    older = repo("secret-project", "victim", repo_name="x", extra=IN_OTHER, meta=OLD)
    younger = repo("two", "b", repo_name="x", extra=IN_OTHER, meta=NEW)
    found = {str(one.repo.key): one.accepted for one in resolve(snapshot(*texts, older, younger), ENVIRONMENT).repos}
    refused = found["b/two"]
    assert refused.reason == "NameConflict"
    assert not [word for word in ("victim", "secret-project") if word in refused.message]
