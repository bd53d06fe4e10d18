"""Access entries and identities: what a server is given, and what conditions say of entries without an effect."""

import hashlib
import json
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pywharf.config.repo_config import FileSystemSpec, parse_config
from pywharf.core.access.identity_document import Cluster, IdentityDocument, parse_document
from pywharf_operator.cluster.kube import Json
from pywharf_operator.local.folder import NO_CLUSTER, faults_of, notes_of, snapshot_of
from pywharf_operator.reconciling.kept_identity import kept_cluster, with_kept
from pywharf_operator.render import Environment, Finding, RenderedServer, Resolution, render_server, resolve
from pywharf_operator.render.objects.config_map import texts_of
from pywharf_operator.render.objects.identity import identity_applied
from pywharf_operator.render.resolve import access as access_condition
from pywharf_operator.render.resolve import repo_config
from pywharf_operator.render.resolve.fallback import fallback_credentials
from pywharf_operator.render.resolve.identity import asks_about_cluster
from pywharf_operator.render.resolve.kept import repos_applied
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import ObjectKey, PackageRepo
from pywharf_operator.spec.access import delivered
from support.operator.manifest_text import parsed_each
from support.operator.spec_changes import JWKS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SPECS: Any = {"file_system": FileSystemSpec}
ENVIRONMENT = Environment(specs=SPECS, image="pywharf:1", session_key=b"k", now=NOW)
FOUND = Cluster(issuer="https://cluster.example", jwks=json.loads(JWKS), audiences=("https://kubernetes.default.svc",))
KEYS = ClusterKeys(FOUND)
UNREADABLE = Finding(status=False, reason="ClusterKeysForbidden", message="The operator may not read them.")
ISSUER_ALONE = ClusterKeys(Cluster(issuer="https://cluster.example", jwks={}), UNREADABLE)
DIGEST = "sha256:" + "a" * 64
ACCOUNTS: Json = {"serviceAccounts": [{"namespace": "ml", "name": "trainer"}]}
GITHUB: Json = {"github": {"repository": "acme/tool", "workflow": "release.yml", "ownerID": 4711}}
CLAIMS: Json = {"oidc": {"issuer": "corp", "claims": {"sub": "build-*", "run": 7, "protected": True}}}
CORP = {"name": "corp", "url": "https://sso.corp.example", "jwks": JWKS}


def entry(name: str = "ci", **more: Any) -> Json:
    return {"name": name, "permission": "Read", **more}


def repo(*access: Json, name: str = "team-a", namespace: str = "packages", **spec: Any) -> Json:
    metadata = {"name": name, "namespace": namespace, "uid": name}
    spec = {"backend": {"fileSystem": {}}, "access": list(access), **spec}
    if not access and "credentials" not in spec:
        spec = spec | {"credentials": {"anonymousRead": True, "readOnly": True}}
    return {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageRepo", "metadata": metadata, "spec": spec}


def server(**identity: Any) -> Json:
    metadata = {"name": "pywharf", "namespace": "packages", "uid": "server"}
    spec = {"storage": {"size": "1Gi"}, **({"identity": identity} if identity else {})}
    return {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageServer", "metadata": metadata, "spec": spec}


def decided(*manifests: Json, cluster: ClusterKeys = KEYS) -> Resolution:
    found = parsed_each(*(json.dumps(one) for one in manifests))
    assert (found.problems, found.notes) == ((), ())
    return resolve(msgspec.structs.replace(snapshot_of(found), cluster=cluster), ENVIRONMENT)


def rendered(*manifests: Json, cluster: ClusterKeys = KEYS) -> RenderedServer:
    return render_server(decided(*manifests, cluster=cluster).servers[0], ENVIRONMENT)


def document(made: RenderedServer) -> IdentityDocument | None:
    return identity_applied(made.config_map)


def table(made: RenderedServer, name: str = "team-a") -> Json:
    found: Json = tomllib.loads(texts_of(made.config_map)["config.toml"])[name]
    return found


def test_the_server_reads_what_was_written():
    subjects: dict[str, Json] = {
        "digests": {"tokenDigests": [DIGEST]},
        "accounts": ACCOUNTS,
        "workflow": GITHUB,
        "pipeline": {"gitlab": {"project": "acme/tool", "namespaceID": 1, "ref": "v*"}},
        "claims": CLAIMS | {"projects": ["acme-*"], "expires": "2027-01-31T01:00:00+01:00", "permission": "Publish"},
        "people": {"proxyGroups": ["ops"]},
    }
    made = rendered(server(), repo(*(entry(name, **one) for name, one in subjects.items())))
    config = texts_of(made.config_map)["config.toml"]
    (spec,) = parse_config(config, "", specs=SPECS).repos.values()
    found = {one.name: one for one in spec.access}
    assert found.keys() == subjects.keys()
    assert found["digests"].token_digests == (DIGEST,)
    assert (found["accounts"].service_accounts[0].namespace, found["accounts"].projects) == ("ml", ("*",))
    assert found["workflow"].github is not None
    assert found["workflow"].github.owner_id == 4711
    assert found["pipeline"].gitlab is not None
    assert (found["pipeline"].gitlab.issuer, found["pipeline"].gitlab.ref) == ("gitlab", "v*")
    claims = found["claims"]
    assert claims.oidc is not None
    assert claims.oidc.claims == {"sub": "build-*", "run": 7, "protected": True}
    assert (claims.permission, claims.projects) == ("Publish", ("acme-*",))
    assert claims.expires == datetime(2027, 1, 31, tzinfo=UTC)
    assert found["people"].proxy_groups == ("ops",)


@pytest.mark.parametrize("access", [[], [entry(tokenDigests=[DIGEST])], [entry(proxyGroups=["ops"])]])
def test_without_need_nothing_is_added(access):
    identity = {"issuers": [CORP], "audience": "wharf"}
    without, made = rendered(server(), repo(*access)), rendered(server(**identity), repo(*access))
    assert made.objects == without.objects
    assert texts_of(made.config_map).keys() == {"config.toml", "admin_secret.toml", "repos.toml"}
    assert decided(server(**identity), repo(*access)).servers[0].identity_ready is None


def test_the_document_has_what_the_entries_need():
    identity = {"issuers": [{"name": "github"}, CORP, {"name": "other", "url": "https://o.example"}], "audience": "w"}
    made = rendered(server(**identity), repo(entry("a", **GITHUB), entry("b", **ACCOUNTS), entry("c", **CLAIMS)))
    text = texts_of(made.config_map)["identity.json"]
    found = parse_document(text.encode())
    assert found == document(made)
    assert (found.audience, found.cluster) == ("w", FOUND)
    assert [(one.name, one.issuer) for one in found.issuers] == [
        ("corp", "https://sso.corp.example"),
        ("github", "https://token.actions.githubusercontent.com"),
    ]
    config = tomllib.loads(texts_of(made.config_map)["config.toml"])
    assert config["identity_file"] == "/etc/pywharf/identity.json"
    assert config["identity_digest"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_rotated_key_changes_the_digest_and_no_pod():
    other = msgspec.structs.replace(FOUND, jwks=json.loads(JWKS.replace('"a"', '"b"')))
    before = rendered(server(), repo(entry(**ACCOUNTS)))
    after = rendered(server(), repo(entry(**ACCOUNTS)), cluster=ClusterKeys(other))
    assert before.digest != after.digest
    assert (before.workload, before.cron_jobs, before.contents) == (after.workload, after.cron_jobs, after.contents)


def test_kept_repos_keep_their_issuers():
    """A repo of a namespace that cannot be read stays as it was, and what verifies its clients stays, too."""
    before = rendered(server(), repo(entry(**ACCOUNTS)))
    kept = repos_applied(ObjectKey("packages", "pywharf"), before.config_map, before.credentials, ["packages"])
    snapshot = snapshot_of(parsed_each(json.dumps(server())))
    verdict = resolve(msgspec.structs.replace(snapshot, kept=kept, cluster=KEYS), ENVIRONMENT).servers[0]
    after = render_server(verdict, ENVIRONMENT)
    assert table(after) == table(before)
    assert document(after) == document(before)


def test_secrets_follow_although_entries_cannot():
    """The configuration that cannot be replaced names other access entries; its secrets are renewed all the same."""
    old = rendered(server(), repo(entry(tokenDigests=[DIGEST])))
    new = decided(server(), repo(entry(**ACCOUNTS))).servers[0]
    assert fallback_credentials(new, old.config_map, rendered(server(), repo(entry(**ACCOUNTS))).config_map, b"k")


def test_token_review_needs_no_keys():
    made = rendered(server(serviceAccounts="TokenReview"), repo(entry(**ACCOUNTS)))
    found = document(made)
    assert found is not None
    assert found.cluster is not None
    assert (found.cluster.issuer, found.cluster.jwks, found.cluster.token_review) == (FOUND.issuer, {}, True)
    pod = next(one for one in made.workload if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    (volume,) = (one for one in pod["volumes"] if one["name"] == "api")
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"path": "token", "expirationSeconds": 600}
    assert "--token_review_token_file=/etc/pywharf-api/token" in pod["containers"][0]["args"]
    # Index Jobs have none of it.
    assert "pywharf-api" not in json.dumps(made.cron_jobs)


def flags(made: RenderedServer) -> list[str]:
    (deployment,) = (one for one in made.workload if one["kind"] == "Deployment")
    given: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return given


def test_the_flags_of_proxies():
    made = rendered(server(trustedProxies=["10.0.0.0/8", "fd00::1"], proxyHeaders=True), repo())
    assert {"--trusted_proxies=10.0.0.0/8,fd00::1", "--proxy_headers"} <= set(flags(made))


def told(*manifests: Json, cluster: ClusterKeys = KEYS) -> tuple[Finding | None, Finding | None]:
    found = decided(*manifests, cluster=cluster)
    return found.repos[0].access_resolved, found.servers[0].identity_ready


def ends(**later: int) -> str:
    return (NOW + timedelta(**later)).isoformat()


@pytest.mark.parametrize(
    ("access", "identity", "reason", "part"),
    [
        (entry(tokenDigests=[DIGEST]), {}, "Resolved", "Every access entry has an effect."),
        (entry(**GITHUB), {}, "IssuerUnknown", "The access entry ci names the issuer github, which is not among"),
        (entry(**CLAIMS), {"issuers": [{"name": "github"}]}, "IssuerUnknown", "names the issuer corp"),
        (entry(**GITHUB), {"issuers": [{"name": "github"}]}, "Resolved", ""),
        (entry(**ACCOUNTS), {"serviceAccounts": "Off"}, "ServiceAccountsOff", "is Off; have it set to Offline"),
        (entry(**ACCOUNTS), {}, "Resolved", ""),
        (entry(proxyGroups=["ops"]), {}, "ProxyHeadersOff", "spec.identity.proxyHeaders of PackageServer"),
        (
            entry(proxyGroups=["ops"]),
            {"proxyHeaders": True, "trustedProxies": ["10.0.0.1"]},
            "Resolved",
            "",
        ),
        (entry(tokenDigests=[DIGEST], expires=ends(seconds=0)), {}, "EntryExpired", "Ended, and granting nothing: ci;"),
        (entry(tokenDigests=[DIGEST], expires=ends(seconds=1)), {}, "EntryEndsSoon", "ci at 2026-06-01T00:00:01"),
        (
            entry(tokenDigests=[DIGEST], expires=ends(days=7)),
            {},
            "EntryEndsSoon",
            "Within 7 days end: ci at 2026-06-08",
        ),
        (entry(tokenDigests=[DIGEST], expires=ends(days=8)), {}, "Resolved", ""),
    ],
)
def test_what_is_said_of_an_entry(access, identity, reason, part):
    found, _ = told(server(**identity), repo(access))
    assert found is not None
    assert found.reason == reason
    assert found.status is (reason in {"Resolved", "EntryEndsSoon"})
    assert part in found.message


def test_every_fault_is_named_once():
    found, _ = told(
        server(serviceAccounts="Off"),
        repo(
            entry("a", **ACCOUNTS),
            entry("b", **ACCOUNTS),
            entry("c", **GITHUB),
            entry("d", tokenDigests=[DIGEST]),
            entry("e", tokenDigests=[DIGEST], permission="Publish"),
        ),
    )
    assert found is not None
    assert (found.status, found.reason) == (False, "IssuerUnknown")
    assert "The access entries a, b name serviceAccounts" in found.message
    assert "d, e have a token's digest in common" in found.message
    assert DIGEST not in found.message


def test_a_digest_of_two_entries_is_no_fault():
    found, _ = told(server(), repo(entry("a", tokenDigests=[DIGEST]), entry("b", tokenDigests=[DIGEST])))
    assert found is not None
    assert (found.status, found.reason) == (True, "DigestRepeated")


@pytest.mark.parametrize(
    ("identity", "cluster", "status", "reason", "believed"),
    [
        ({}, KEYS, True, "Ready", True),
        ({}, ClusterKeys(FOUND, UNREADABLE), False, "ClusterKeysForbidden", True),
        ({}, ClusterKeys(None, UNREADABLE), False, "ClusterKeysForbidden", False),
        # The operator's own token names the issuer: enough to ask the API server, not to verify.
        (
            {},
            ClusterKeys(Cluster(issuer="https://c.example", jwks={}), UNREADABLE),
            False,
            "ClusterKeysForbidden",
            False,
        ),
        (
            {"serviceAccounts": "TokenReview"},
            ClusterKeys(Cluster(issuer="https://c.example", jwks={}), UNREADABLE),
            True,
            "Ready",
            True,
        ),
        ({"audience": "https://kubernetes.default.svc"}, KEYS, False, "AudienceOfApiServer", False),
        ({"audience": FOUND.issuer}, KEYS, False, "AudienceOfApiServer", False),
        ({"issuers": [CORP | {"url": FOUND.issuer}]}, KEYS, False, "IssuerIsCluster", True),
        ({"serviceAccounts": "Off"}, KEYS, None, None, False),
    ],
)
def test_whether_service_accounts_are_believed(identity, cluster, status, reason, believed):
    manifests = server(**identity), repo(entry(**ACCOUNTS))
    _, found = told(*manifests, cluster=cluster)
    assert (None if found is None else found.status, None if found is None else found.reason) == (status, reason)
    made = document(rendered(*manifests, cluster=cluster))
    assert (made is not None and made.cluster is not None) is believed
    if made is not None:
        parse_document(msgspec.json.encode(made))


@pytest.mark.parametrize("how", ["Offline", "TokenReview", "Off"])
@pytest.mark.parametrize("other", [(), (repo(entry(**ACCOUNTS), name="other"),)], ids=["alone", "beside accounts"])
def test_an_issuer_that_is_the_clusters_is_refused_whatever_others_ask_for(how, other):
    other_issuer = {"name": "fine", "url": "https://fine.example"}
    manifests = (
        server(issuers=[CORP | {"url": FOUND.issuer}, other_issuer], serviceAccounts=how),
        repo(entry("a", **CLAIMS), entry("b", oidc=CLAIMS["oidc"] | {"issuer": "fine"})),
    )
    found = decided(*manifests, *other)
    by_name = {one.repo.key.name: one for one in found.repos}
    of_repo, of_server = by_name["team-a"].access_resolved, found.servers[0].identity_ready
    assert of_repo is not None
    assert of_server is not None
    assert (of_repo.status, of_repo.reason) == (False, "IssuerIsCluster")
    assert "The access entry a names an issuer" in of_repo.message
    assert (of_server.status, of_server.reason) == (False, "IssuerIsCluster")
    made = document(rendered(*manifests, *other))
    assert made is not None
    assert [one.name for one in made.issuers] == ["fine"]


BROKEN_ISSUERS = {
    "a port": (
        {"url": "https://sso.corp.example:99999"},
        "cannot be used: its url is 'https://sso.corp.example:99999'",
    ),
    "no JSON": ({"jwks": "keys"}, "it must be JSON, as the issuer's jwks_uri answers"),
    "no keys": ({"jwks": "{}"}, "it has no list of keys; correct its jwks."),
    "a url of another": ({"url": "https://fine.example"}, "corp has the url of fine; list each url once."),
    "a url that is known": ({"url": "https://gitlab.com"}, "corp has the url of gitlab; list each url once."),
}


@pytest.mark.parametrize("fault", BROKEN_ISSUERS)
def test_an_issuer_with_a_fault_is_left_out_alone(fault):
    """An object that was stored before the schema refused it must not stop its server."""
    change, words = BROKEN_ISSUERS[fault]
    issuers = [{"name": "gitlab"}, {"name": "fine", "url": "https://fine.example"}, CORP | change]
    fine = repo(entry("b", oidc=CLAIMS["oidc"] | {"issuer": "fine"}), name="other")
    manifests = server(issuers=issuers), repo(entry("a", **CLAIMS)), fine
    found = decided(*manifests)
    by_name = {one.repo.key.name: one for one in found.repos}
    assert by_name["team-a"].served
    assert by_name["other"].access_resolved == Finding(
        status=True, reason="Resolved", message="Every access entry has an effect."
    )
    of_repo, of_server = by_name["team-a"].access_resolved, found.servers[0].identity_ready
    assert of_repo is not None
    assert of_server is not None
    assert (of_repo.status, of_repo.reason) == (False, "IssuerInvalid")
    assert "The access entry a names an issuer that PackageServer packages/pywharf leaves out" in of_repo.message
    assert (of_server.status, of_server.reason) == (False, "IssuerInvalid")
    assert "spec.identity.issuers: corp" in of_server.message
    assert words in of_server.message
    made = document(rendered(*manifests))
    assert made is not None
    assert [one.name for one in made.issuers] == ["fine"]
    parse_document(msgspec.json.encode(made))


def test_a_fault_is_said_although_no_entry_needs_the_part():
    _, found = told(server(issuers=[CORP | {"jwks": "{}"}], trustedProxies=["10.0.0.1/8"]), repo())
    assert found is not None
    assert (found.status, found.reason) == (False, "IssuerInvalid")
    assert "corp has no keys that a server could use" in found.message
    assert "'10.0.0.1/8' is no network (10.0.0.1/8 has host bits set)" in found.message


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("10.0.0.1/8", "'10.0.0.1/8' is no network (10.0.0.1/8 has host bits set)"),
        ("::ffff:a00:1", "write '::ffff:a00:1' in its IPv4 form"),
        ("fd00::1/8", "'fd00::1/8' is no network"),
        ("1:2", "'1:2' is no network"),
    ],
)
def test_a_proxy_with_a_fault_is_left_out_alone(network, words):
    people = repo(entry(proxyGroups=["ops"]))
    of_repo, of_server = told(server(trustedProxies=[network, "10.1.0.0/16"], proxyHeaders=True), people)
    assert of_repo is not None
    assert of_server is not None
    assert of_repo.status
    assert (of_server.status, of_server.reason) == (False, "ProxyInvalid")
    assert words in of_server.message
    made = rendered(server(trustedProxies=[network, "10.1.0.0/16"], proxyHeaders=True), people)
    assert {"--trusted_proxies=10.1.0.0/16", "--proxy_headers"} <= set(flags(made))
    # Without any proxy a server would refuse to start with --proxy_headers.
    of_repo, _ = told(server(trustedProxies=[network], proxyHeaders=True), people)
    assert of_repo is not None
    assert (of_repo.status, of_repo.reason) == (False, "ProxyInvalid")
    made = rendered(server(trustedProxies=[network], proxyHeaders=True), people)
    assert not [one for one in flags(made) if "prox" in one]


@pytest.mark.parametrize(
    ("identity", "access", "asks"),
    [
        ({}, [], False),
        ({}, [entry(**ACCOUNTS)], True),
        ({"serviceAccounts": "Off"}, [entry(**ACCOUNTS)], False),
        ({"issuers": [CORP]}, [entry(tokenDigests=[DIGEST])], False),
        ({"issuers": [CORP]}, [entry(**CLAIMS)], True),
        ({"issuers": [CORP], "serviceAccounts": "Off"}, [entry(**CLAIMS)], True),
        ({"issuers": [{"name": "github"}]}, [entry(**GITHUB)], False),
    ],
)
def test_the_cluster_is_asked_only_where_it_matters(identity, access, asks):
    snapshot = snapshot_of(parsed_each(json.dumps(server(**identity)), json.dumps(repo(*access))))
    assert asks_about_cluster(snapshot.servers[0], snapshot) is asks


def test_one_fault_of_an_identity_hides_no_other():
    identity = {"issuers": [CORP | {"url": FOUND.issuer}], "audience": FOUND.issuer}
    _, found = told(server(**identity), repo(entry("a", **ACCOUNTS)), cluster=ClusterKeys(FOUND, UNREADABLE))
    assert found is not None
    assert (found.status, found.reason) == (False, UNREADABLE.reason)
    assert found.message.startswith(f"{UNREADABLE.message} spec.identity.audience is")
    assert "spec.identity.issuers: corp has the URL of the cluster's own issuer" in found.message


def test_entries_say_that_the_api_server_takes_the_audience():
    found, _ = told(server(audience=FOUND.issuer), repo(entry("a", **ACCOUNTS)))
    assert found is not None
    assert (found.status, found.reason) == (False, "AudienceOfApiServer")
    assert "The access entry a names serviceAccounts; none is believed" in found.message


@pytest.mark.parametrize("owner", ["this", "none", "other", "no controller"])
@pytest.mark.parametrize("change", ["none", "document", "digest", "former_issuers"])
async def test_what_a_server_was_given_is_taken_from_its_own_config_map_alone(owner, change):
    made = rendered(server(), repo(entry(**ACCOUNTS))).config_map
    found: Json = json.loads(json.dumps(made))
    (reference,) = found["metadata"]["ownerReferences"]
    assert reference["controller"]
    if owner == "none":
        del found["metadata"]["ownerReferences"]
    elif owner == "other":
        reference["uid"] = "another"
    elif owner == "no controller":
        reference["controller"] = False
    texts = found["data"]
    if change == "document":
        texts["identity.json"] = texts["identity.json"].replace("cluster.example", "evil.example")
    elif change == "digest":
        texts["config.toml"] = texts["config.toml"].replace("identity_digest", "identity_digests")
    elif change == "former_issuers":
        texts["identity.json"] = texts["identity.json"].replace('"issuer"', '"former_issuers":["https://a"],"issuer"')

    class Api:
        async def get(self, *_: object) -> Json:
            return found

    api: Any = Api()
    (of,) = snapshot_of(parsed_each(json.dumps(server()))).servers
    kept = await kept_cluster(api, of)
    assert kept == (FOUND if (owner, change) == ("this", "none") else None)


@pytest.mark.parametrize(
    ("keys", "kept", "issuer", "audiences"),
    [
        (ClusterKeys(None, UNREADABLE), None, None, None),
        (ClusterKeys(None, UNREADABLE), FOUND, FOUND.issuer, FOUND.audiences),
        (ISSUER_ALONE, FOUND, FOUND.issuer, FOUND.audiences),
        # The operator's own token says what the API server takes now.
        (
            ClusterKeys(Cluster(issuer=FOUND.issuer, jwks={}, audiences=("a",)), UNREADABLE),
            FOUND,
            FOUND.issuer,
            ("a",),
        ),
        (ISSUER_ALONE, Cluster(issuer="https://old.example", jwks={}), "https://cluster.example", ()),
    ],
)
def test_what_a_server_was_given_stays_while_nothing_can_be_read(keys, kept, issuer, audiences):
    made = with_kept(keys, kept)
    assert made.fault == UNREADABLE
    assert (None if made.found is None else made.found.issuer) == issuer
    assert (None if made.found is None else made.found.audiences) == audiences


def test_no_secret_is_needed():
    made = decided(server(), repo(entry(**ACCOUNTS)))
    assert made.repos[0].served
    assert not made.repos[0].secrets.given()


def test_entries_and_keys_have_room_together():
    """A repo whose table is too large is refused alone, with the number."""
    digests = [f"sha256:{number:064x}" for number in range(64)]
    large = repo(*(entry(f"e{number}", tokenDigests=digests) for number in range(8)), name="large")
    found = decided(server(), large, repo(entry(**ACCOUNTS)))
    by_name = {one.repo.key.name: one for one in found.repos}
    assert by_name["large"].accepted.reason == "TableTooLarge"
    assert "and PackageServer packages/pywharf takes 16384 of one repo" in by_name["large"].accepted.message
    assert "spec.access" in by_name["large"].accepted.message
    assert by_name["team-a"].served


def test_up_says_that_it_has_no_cluster():
    made = decided(server(), repo(entry(**ACCOUNTS)), cluster=ClusterKeys(fault=NO_CLUSTER))
    (line,) = faults_of(made, ())
    assert line.startswith("PackageRepo packages/team-a: AccessResolved is False (NoCluster)")
    assert "`pywharf up` has no cluster" in line
    assert notes_of(made) == ()


def test_render_says_what_the_operator_adds():
    made = decided(server(), repo(entry(**ACCOUNTS)), cluster=ClusterKeys())
    assert faults_of(made, ()) == ()
    (line,) = notes_of(made)
    assert "the operator adds its issuer and public keys to identity.json" in line


def fault(spec: Json, kind: str = "PackageRepo") -> str:
    manifest = repo() if kind == "PackageRepo" else server()
    manifest["spec"] |= spec
    (problem,) = parsed_each(json.dumps(manifest)).problems
    return problem.sentence


@pytest.mark.parametrize(
    ("access", "part"),
    [
        ([entry()], "exactly one of tokenDigests, serviceAccounts, github, gitlab, oidc and proxyGroups"),
        ([entry(tokenDigests=[DIGEST], **ACCOUNTS)], "exactly one of tokenDigests"),
        ([entry(tokenDigests=[DIGEST]), entry(proxyGroups=["a"])], "access: two entries have the name ci"),
        ([entry(tokenDigests=["sha256:ABC"])], "as `pywharf token digest` prints them"),
        ([entry(tokenDigests=[DIGEST], expires="2027-01-31T00:00:00")], "timezone"),
        ([entry(tokenDigests=[DIGEST], expires="9999-12-31T00:00:00Z")], "expires must be before the year 9999"),
        ([entry(tokenDigests=[DIGEST], expires="0001-01-01T00:00:00+10:00")], "and not before 1970"),
        ([entry(tokenDigests=[DIGEST], expires="1970-01-01T00:30:00+01:00")], "and not before 1970"),
        ([entry(serviceAccounts=[{"namespace": "ml", "name": "train-*"}])], "or * for every one of the namespace"),
        ([entry(github={**GITHUB["github"], "workflow": "other/.github/x.yml"})], "the name of a file"),
        ([entry(oidc={"issuer": "corp", "claims": {"a b": "c"}})], "it must be a claim's name"),
        ([entry(tokenDigests=[DIGEST], permission="Publish")], "credentials.readOnly is true, so nobody publishes"),
    ],
)
def test_bad_entries(access, part):
    assert part in fault({"access": access})


@pytest.mark.parametrize("expires", ["1970-01-01T00:00:00Z", "1970-01-01T14:00:00+14:00", "9998-12-31T23:59:59Z"])
def test_the_earliest_and_the_latest_end(expires):
    made = rendered(server(), repo(entry(tokenDigests=[DIGEST], expires=expires)))
    assert table(made)["access"][0]["expires"] == datetime.fromisoformat(expires)


@pytest.mark.parametrize("broken", [repo_config, access_condition], ids=lambda module: module.__name__.split(".")[-1])
def test_a_repo_at_which_the_operator_fails_is_refused_alone(broken, monkeypatch):
    def failing(one: Any) -> Any:
        if one.name == "odd":
            raise OverflowError("a value of the tenant's")
        return delivered(one)

    monkeypatch.setattr(broken, "delivered", failing)
    ref = {"name": "pywharf", "namespace": "packages"}
    odd = repo(entry("odd", **CLAIMS), name="odd", namespace="tenant", serverRef=ref)
    open_server = server()
    open_server["spec"]["allowedNamespaces"] = {"from": "All"}
    both = decided(open_server, repo(entry(**CLAIMS), name="good"), odd)
    good, refused = (one.accepted for one in both.repos)
    assert good.status
    assert (refused.status, refused.reason) == (False, "InvalidSpec")
    assert "(OverflowError at test_access.py:" in refused.message
    assert "tenant's" not in refused.message
    config = texts_of(render_server(both.servers[0], ENVIRONMENT).config_map)["config.toml"]
    assert "[good]" in config
    assert "[odd]" not in config


PRIVATE = JWKS.replace('"kid"', '"d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE", "kid"')


@pytest.mark.parametrize(
    ("identity", "part"),
    [
        ({"serviceAccounts": False}, "put the value in quotes"),
        ({"audience": "a b"}, "a text without spaces"),
        ({"issuers": [{"name": "corp"}]}, "url is missing; only those of github and gitlab are known by name"),
        ({"issuers": [{"name": "corp", "url": "http://a.example"}]}, "url is plain http"),
        ({"issuers": [CORP, CORP]}, "issuers: two have the name corp"),
        ({"issuers": [CORP | {"jwks": json.loads(PRIVATE)}]}, "jwks"),
        ({"trustedProxies": ["0.0.0.0/0"]}, "never of every address"),
        ({"proxyHeaders": True}, "proxyHeaders are believed from trustedProxies alone"),
    ],
)
def test_bad_identities(identity, part):
    found = fault({"identity": identity}, "PackageServer")
    assert part in found
    assert "870MB" not in found


@pytest.mark.parametrize(
    ("identity", "part"),
    [
        ({"issuers": [CORP, CORP | {"name": "b"}]}, "issuers: b has the url of corp; list each url once"),
        ({"issuers": [CORP | {"jwks": "{}"}]}, "it has no list of keys"),
        ({"issuers": [CORP | {"jwks": PRIVATE}]}, "it holds a private or shared key"),
        ({"issuers": [CORP | {"jwks": PRIVATE + " " * 65536}]}, "at most 65536 characters"),
        ({"issuers": [CORP | {"jwks": PRIVATE[:-1]}]}, "it must be JSON"),
        ({"trustedProxies": ["10.0.0.1/8"]}, "has host bits set"),
    ],
)
def test_identities_of_which_a_part_is_left_out(identity, part):
    made = decided(server(**identity), repo())
    found = made.servers[0].identity_ready
    assert found is not None
    assert not found.status
    assert part in found.message
    assert "870MB" not in found.message
    assert made.repos[0].served
    assert any(part in line for line in faults_of(made, ()))


def test_entries_are_in_the_repos_content():
    """A replica that does not have a new entry yet does not count as serving the repo as it is described."""
    before, after = rendered(server(), repo(entry("a", **ACCOUNTS))), rendered(server(), repo(entry("b", **ACCOUNTS)))
    assert before.contents != after.contents
    first: PackageRepo = decided(server(), repo(entry("a", **ACCOUNTS))).repos[0].repo
    assert first.spec.access[0].name == "a"


GOOD = ("4f9d1c7ab02e6635c81f", "b7e03d92fa164c88d05e")


def secret(name: str, read: str, write: str, namespace: str = "packages") -> Json:
    metadata = {"name": name, "namespace": namespace, "labels": {"pywharf.dev/credentials": "true"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"read": read, "write": write}}


def with_secrets(name: str, namespace: str = "packages") -> Json:
    refs = {f"{use}SecretRef": {"name": name, "key": use} for use in ("read", "write")}
    where = {"serverRef": {"name": "pywharf", "namespace": "packages"}}
    return repo(name=name, namespace=namespace, credentials=refs, **where)


def strengths(*secrets: Json) -> dict[str, tuple[str, str]]:
    metadata = [one["metadata"] for one in secrets]
    repos = [with_secrets(one["name"], one["namespace"]) for one in metadata]
    open_server = server()
    open_server["spec"]["allowedNamespaces"] = {"from": "All"}
    found = decided(open_server, *secrets, *repos)
    assert all(one.served for one in found.repos)
    weak = {str(one.repo.key): one.credentials_strong for one in found.repos}
    return {key: (one.reason, one.message) for key, one in weak.items() if one is not None}


def test_weak_secrets_are_named_without_their_values():
    found = strengths(
        secret("good", *GOOD),
        secret("short", "a1b2c3", "5c9e1d20f7a84b36ee01"),
        secret("same", "0d8f6b1ec42a97735f60", "0d8f6b1ec42a97735f60"),
        secret("shared", "91c4e7f02b6d8a35d7c1", GOOD[1]),
    )
    assert {key: reason for key, (reason, _) in found.items()} == {
        "packages/short": "SecretShort",
        "packages/same": "SecretSameForBoth",
        "packages/shared": "SecretShared",
        "packages/good": "SecretShared",
    }
    text = str(found)
    assert not any(value in text for value in ("a1b2c3", "0d8f6b1ec42a97735f60", *GOOD))
    assert "also one of good; give each repo its own" in found["packages/shared"][1]


def test_secrets_of_namespaces_are_not_compared():
    assert strengths(secret("a", *GOOD), secret("b", *GOOD, namespace="other")) == {}
