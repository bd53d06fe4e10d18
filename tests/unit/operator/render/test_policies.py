"""Which policies a server is given, and what each policy's condition Accepted says."""

import base64
import gzip
from random import Random
from typing import Any

import msgspec
import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.policy.document import parse_document, rule_count
from pywharf.core.policy.model import MAX_POLICIES, MAX_RULES, Cooldown, Deny, Policy, PolicyException
from pywharf_operator.local.folder import faults_of, snapshot_of
from pywharf_operator.render import Environment, Snapshot, render_server, resolve
from pywharf_operator.render.objects.config_map import texts_of
from pywharf_operator.render.objects.policies import policies_applied, policies_digest, policies_map, policies_text
from pywharf_operator.render.resolve import policy_room as limits
from pywharf_operator.render.resolve.object_sizes import MAX_BYTES, size_of
from pywharf_operator.render.resolve.policies import accepted
from pywharf_operator.render.resolve.policy_room import overflows
from pywharf_operator.spec import ObjectKey, PackagePolicy
from support.operator.manifest_text import parsed

ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec}, image="pywharf:1", session_key=b"k")
SERVER = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf, namespace: home}
spec: {storage: {size: 1Gi}, allowedNamespaces: {from: All}}
---
"""


def repo(name, namespace="home", **spec):
    fields = "".join(f"\n  {key}: {value}" for key, value in spec.items())
    return f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  backend: {{fileSystem: {{}}}}
  serverRef: {{name: pywharf, namespace: home}}
  credentials: {{anonymousRead: true, readOnly: true}}{fields}
---
"""


def policy(name, *targets, namespace="home", created="2026-01-01T00:00:00Z", rest="cooldown: {minimumAge: 7d}"):
    refs = ", ".join(targets or ["{kind: PackageServer, name: pywharf}"])
    return f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackagePolicy
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec:
  targetRefs: [{refs}]
  {rest}
---
"""


def of_repo(name):
    return f"{{kind: PackageRepo, name: {name}}}"


def large(name, number, *targets, namespace="home", created="2026-01-01T00:00:00Z", reason=lambda: ""):
    """Return a policy of many rules, which YAML would take seconds to read."""
    refs = list(targets) or [{"kind": "PackageServer", "name": "pywharf"}]
    return msgspec.convert(
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackagePolicy",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": {"targetRefs": refs, "deny": [{"project": f"a{n}", "reason": reason()} for n in range(number)]},
        },
        PackagePolicy,
    )


def snapshot(*texts, **more):
    found = parsed("".join(texts))
    assert found.problems == ()
    made = snapshot_of(found)
    return Snapshot(**{name: getattr(made, name) for name in made.__struct_fields__} | more)


def given(made):
    """Return the policies that the server is given, by name."""
    (server,) = resolve(made, ENVIRONMENT).servers
    return {one.name: one for one in server.policies}


def reasons(made):
    (server,) = resolve(made, ENVIRONMENT).servers
    found = {}
    for one in made.policies:
        reaches = [reach for reach in server.reaches if reach.policy == one.key]
        found[str(one.key)] = accepted(one, reaches).reason
    return found


def test_everything_is_converted():
    rest = """cooldown: {minimumAge: 12h, missingTime: Allow, projects: [a]}
  allowOnly: [b]
  deny: [{project: c, versions: "==1", sha256: SHA, reason: r}]
  yank: [{project: d}]
  status: [{project: e, status: archived}]
  advisories: {mode: Block}
  exceptions: [{project: f, of: [Cooldown], until: "2027-01-31T01:00:00+01:00", reason: why}]""".replace(
        "SHA", "a" * 64
    )
    (made,) = given(snapshot(SERVER, policy("p", rest=rest))).values()
    assert made.name == "home/p"
    assert made.repos is None
    assert made.cooldown == Cooldown(minimum_age_s=43_200, missing_time="Allow", projects=("a",))
    assert made.deny == (Deny(project="c", versions="==1", sha256="a" * 64, reason="r"),)
    assert (made.allow_only, made.advisories, rule_count(made)) == (("b",), "Block", 7)
    assert made.exceptions == (PolicyException(project="f", of=("Cooldown",), until=1801353600.0, reason="why"),)
    assert parse_document(policies_text([made]).encode()).policies == (made,)


def test_a_policy_speaks_only_of_its_own_namespace():
    made = snapshot(
        SERVER,
        repo("own"),
        repo("theirs", "team"),
        policy("all"),
        policy("one", of_repo("own")),
        policy("mine", of_repo("theirs"), namespace="team"),
        policy("not-mine", of_repo("own"), namespace="team"),
        policy("no-server", namespace="team"),
        policy("nothing", of_repo("nobody")),
    )
    assert {name: one.repos for name, one in given(made).items()} == {
        "home/all": None,
        "home/one": ("own",),
        "team/mine": ("theirs",),
    }
    assert reasons(made) == {
        "home/all": "Accepted",
        "home/one": "Accepted",
        "team/mine": "Accepted",
        "team/not-mine": "TargetNotFound",
        "team/no-server": "TargetNotFound",
        "home/nothing": "TargetNotFound",
    }
    lines = faults_of(resolve(made, ENVIRONMENT), made.policies)
    assert [line.partition(":")[0] for line in lines] == [
        f"PackagePolicy {name}" for name in ("team/not-mine", "team/no-server", "home/nothing")
    ]


def test_a_repo_that_lost_its_name_lends_no_policy_to_the_one_that_has_it():
    older = repo("first", "other", repoName="taken").replace(
        "namespace: other", "namespace: other, creationTimestamp: 2025-01-01T00:00:00Z"
    )
    newer = repo("second", "team", repoName="taken").replace(
        "namespace: team", "namespace: team, creationTimestamp: 2026-01-01T00:00:00Z"
    )
    made = snapshot(SERVER, older, newer, policy("p", of_repo("second"), namespace="team"))
    assert given(made) == {}
    assert reasons(made) == {"team/p": "Accepted"}


def test_targets_that_are_there_have_the_policy():
    made = snapshot(SERVER, repo("a"), policy("p", of_repo("a"), of_repo("b")))
    assert given(made)["home/p"].repos == ("a",)
    assert reasons(made) == {"home/p": "TargetNotFound"}


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("cooldown: {minimumAge: 7d, missingTime: FirstSeen}", "keeps no first sights"),
        (
            (
                "deny: [{project: a}]\n  "
                "exceptions: [{project: a, of: [Deny, Yank], until: '2027-01-31T00:00:00Z', reason: r}]"
            ),
            "name Yank",
        ),
    ],
)
def test_what_has_no_effect_is_said(rest, words):
    made = snapshot(SERVER, policy("p", rest=rest))
    (server,) = resolve(made, ENVIRONMENT).servers
    finding = accepted(made.policies[0], server.reaches)
    assert finding.status is True
    assert words in finding.message


@pytest.mark.parametrize(
    ("mode", "feed", "is_missing"), [("Block", "", True), ("Block", "/feed.zip", False), ("Report", "", False)]
)
def test_blocking_needs_a_feed(mode, feed, is_missing):
    """The policy is delivered all the same: a server that does not know malware must not show it."""
    server_text = SERVER.replace("{from: All}", f"{{from: All}}, advisories: {{path: {feed}}}") if feed else SERVER
    made = snapshot(server_text, policy("p", rest=f"advisories: {{mode: {mode}}}"))
    (server,) = resolve(made, ENVIRONMENT).servers
    assert [(one.delivered, one.without_feed is not None) for one in server.reaches] == [(True, is_missing)]


def before(made):
    """Return the policies as the operator finds them again in the ConfigMap."""
    (server,) = resolve(made, ENVIRONMENT).servers
    return policies_applied(policies_map(server.server, policies_text(server.policies)) or {})


THEIRS = {"kind": "PackageRepo", "name": "theirs"}


def test_past_the_limit_whole_policies_of_the_largest_namespace_are_refused():
    policies = (
        large("old", 100),
        large("first", 6000, THEIRS, namespace="team", created="2026-02-01T00:00:00Z"),
        large("second", 5000, THEIRS, namespace="team", created="2026-03-01T00:00:00Z"),
        large("new", 10, created="2026-04-01T00:00:00Z"),
    )
    assert overflows(policies)
    made = snapshot(SERVER, repo("theirs", "team"), policies=policies)
    assert set(given(made)) == {"home/old", "home/new", "team/first"}
    assert reasons(made)["team/second"] == "TooManyRules"


def test_a_policy_that_grows_past_the_limit_keeps_its_version_before():
    newer = large("b", 3000, created="2026-02-01T00:00:00Z")
    small = snapshot(SERVER, policies=(large("a", 6000), newer))
    assert not overflows(small.policies)
    grown = snapshot(SERVER, policies=(large("a", 8000), newer), delivered_policies=before(small))
    # The change is refused, not the newer policy that holds already.
    assert {name: len(one.deny) for name, one in given(grown).items()} == {"home/a": 6000, "home/b": 3000}
    assert reasons(grown) == {"home/a": "TooManyRules", "home/b": "Accepted"}


OF_SERVER = {"kind": "PackageServer", "name": "pywharf"}
OLD, NEW = "2025-01-01T00:00:00Z", "2026-06-01T00:00:00Z"


def tenant(name, number, created=NEW):
    return large(name, number, THEIRS, namespace="team", created=created)


@pytest.mark.parametrize(
    ("first", "then", "wanted"),
    [
        # A tenant takes nothing from the server's own policies, however many rules both have.
        ([large("company", 60)], [tenant("mine", 50)], {"home/company": 60}),
        ([large("company", 60, created=NEW)], [tenant("mine", 50, OLD)], {"home/company": 60}),
        (
            [large("company", 60)],
            [tenant("one", 30), tenant("two", 20)],
            {"home/company": 60, "team/one": 30},
        ),
        # Nor does the growth of its own policy, which stays as it was.
        (
            [large("company", 60), tenant("mine", 30)],
            [tenant("mine", 50)],
            {"home/company": 60, "team/mine": 30},
        ),
        # The server's own policies always find room, and the one before stays where a change of them does not fit.
        ([tenant("mine", 70)], [large("company", 60)], {"home/company": 60}),
        (
            [large("company", 60), large("second", 1), tenant("mine", 30)],
            [large("company", 100)],
            {"home/company": 60, "home/second": 1, "team/mine": 30},
        ),
        # What is in force never gives way to what another tenant adds, also of the namespace that takes most.
        (
            [tenant("mine", 80)],
            [large("other", 30, {"kind": "PackageRepo", "name": "own"}, created=OLD)],
            {"team/mine": 80},
        ),
        # A smaller version is always taken.
        (
            [tenant("mine", 80), large("company", 20)],
            [tenant("mine", 70), large("company", 30)],
            {"team/mine": 70, "home/company": 30},
        ),
    ],
)
def test_what_is_in_force_and_the_servers_own_come_first(first, then, wanted, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RULES", 100)
    repos = (SERVER, repo("theirs", "team"), repo("own"))
    start = snapshot(*repos, policies=tuple(first))
    assert len(given(start)) == len(first)
    policies = {one.key: one for one in [*first, *then]}
    made = snapshot(*repos, policies=tuple(policies.values()), delivered_policies=before(start))
    found = given(made)
    assert {name: len(one.deny) for name, one in found.items()} == wanted
    again = msgspec.structs.replace(made, delivered_policies=before(made))
    assert given(again) == found, "another reconcile changes nothing"


def test_a_policy_that_cannot_be_read_takes_no_room_of_the_servers_own(monkeypatch):
    monkeypatch.setattr(limits, "MAX_RULES", 100)
    repos = (SERVER, repo("theirs", "team"))
    delivered = before(snapshot(*repos, policies=(tenant("mine", 50),)))
    made = snapshot(
        *repos,
        policies=(large("company", 60),),
        delivered_policies=delivered,
        unparsed_policies=frozenset({ObjectKey("team", "mine")}),
    )
    assert set(given(made)) == {"home/company"}


def unserved(text):
    return text.replace(
        "credentials: {anonymousRead: true, readOnly: true}",
        "credentials: {readSecretRef: {name: gone, key: read}, readOnly: true}",
    )


@pytest.mark.parametrize("reason", ["InvalidSpec", "TooManyRules"])
def test_a_version_before_outlives_a_repo_that_is_not_served_for_a_moment(reason, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RULES", 10)
    refs = [THEIRS]
    served, missing = repo("theirs", "team"), unserved(repo("theirs", "team"))
    good = large("p", 3, *refs, namespace="team")
    state = before(snapshot(SERVER, served, policies=(good,)))
    more: dict[str, Any] = {"unparsed_policies": frozenset({good.key})}
    if reason == "TooManyRules":
        more = {"policies": (large("company", 6), large("p", 5, *refs, namespace="team"))}
    for text in (served, missing, served):
        made = snapshot(SERVER, text, delivered_policies=state, **more)
        state = tuple(one for one in before(made) if one.name != "home/company")
        assert [(one.name, one.repos, len(one.deny)) for one in state] == [("team/p", ("theirs",), 3)]
    # A name that a repo of another namespace has now is not the policy's.
    taken = repo("other", "other", repoName="theirs")
    missing = missing.replace("namespace: team", f"namespace: team, creationTimestamp: {NEW}")
    assert "team/p" not in given(snapshot(SERVER, missing, taken, delivered_policies=state, **more))


def test_names_of_repos_count_as_well():
    refs = [{"kind": "PackageRepo", "name": f"r{n}"} for n in range(256)]
    policies = tuple(large(f"p{n}", 1, *refs) for n in range(50))
    assert overflows(policies)
    assert not overflows(policies[:20])


def test_a_server_takes_so_many_policies():
    """The server's own come first, as with rules; a tenant's give way, however few rules they have."""
    own = [large(f"p{n}", 1, created=f"2026-01-01T{n // 60:02}:{n % 60:02}:00Z") for n in range(MAX_POLICIES - 1)]
    theirs = [large(f"q{n}", 1, THEIRS, namespace="team", created=f"2026-03-0{n + 1}T00:00:00Z") for n in range(2)]
    assert not overflows([*own, theirs[0]])
    policies = (*own, *theirs)
    assert overflows(policies)
    made = snapshot(SERVER, repo("theirs", "team"), policies=policies)
    assert set(given(made)) == {str(one.key) for one in policies} - {"team/q1"}
    assert reasons(made)["team/q1"] == "TooManyPolicies"


def test_policies_share_one_config_map():
    random = Random(1)

    def noise():
        return random.randbytes(250).hex()

    made = snapshot(
        SERVER,
        policies=tuple(
            large(name, 3000, created=f"202{n}-01-01T00:00:00Z", reason=noise) for n, name in enumerate("abc")
        ),
    )
    (server,) = resolve(made, ENVIRONMENT).servers
    rendered = render_server(server, ENVIRONMENT)
    assert rendered.policies is not None
    assert size_of(rendered.policies) <= MAX_BYTES
    assert "binaryData" in rendered.policies
    assert reasons(made) == {"home/a": "Accepted", "home/b": "PolicyTooLarge", "home/c": "PolicyTooLarge"}


def test_what_cannot_be_read_stays():
    texts = (SERVER, repo("a"), repo("theirs", "team"))
    everything = (policy("p"), policy("q", of_repo("theirs"), namespace="team"))
    delivered = before(snapshot(*texts, *everything))
    nothing = snapshot(*texts, delivered_policies=delivered)
    assert given(nothing) == {}, "they were deleted"
    for more, names in (
        ({"unlisted_policies": None}, {"home/p", "team/q"}),
        ({"unlisted_policies": frozenset({"team"})}, {"team/q"}),
        ({"unparsed_policies": frozenset({ObjectKey("home", "p")})}, {"home/p"}),
    ):
        assert set(given(snapshot(*texts, delivered_policies=delivered, **more))) == names
    # A name that another namespace has now is not theirs any more.
    gone = snapshot(SERVER, repo("theirs", "other"), delivered_policies=delivered, unlisted_policies=None)
    assert set(given(gone)) == {"home/p"}


def test_the_configuration_names_the_document():
    made = snapshot(SERVER, repo("a"), policy("p"))
    (server,) = resolve(made, ENVIRONMENT).servers
    rendered = render_server(server, ENVIRONMENT)
    assert rendered.policies is not None
    text = texts_of(rendered.policies)["policies.json"]
    config = texts_of(rendered.config_map)["config.toml"]
    assert 'policies_file = "/etc/pywharf/policies.json"' in config
    assert f'policies_digest = "{policies_digest(text)}"' in config
    names = [one["metadata"]["name"] for one in rendered.objects]
    assert names.index("pywharf-policies") < names.index("pywharf-config")
    assert rendered.contents.keys() == {"a", "home/p"}
    (server,) = resolve(snapshot(SERVER, repo("a")), ENVIRONMENT).servers
    rendered = render_server(server, ENVIRONMENT)
    assert rendered.policies is None
    assert "policies" not in texts_of(rendered.config_map)["config.toml"]


def test_the_order_does_not_matter():
    one, other = Policy(name="a/a"), Policy(name="b/b")
    assert policies_text([one, other]) == policies_text([other, one])
    assert policies_text([]) == ""


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"data": {"policies.json": "{"}},
        {"binaryData": {"policies.json.gz": "AAAA"}},
        {"binaryData": {"policies.json.gz": base64.b64encode(gzip.compress(b"{}")[:10] + b"no gzip data").decode()}},
        {"data": {"policies.json": '{"policies": [{"name": ""}]}'}},
    ],
)
def test_a_spoilt_config_map_is_a_fault(made):
    with pytest.raises(ValueError, match=r"\w"):
        policies_applied(made)


def test_the_limit_is_the_servers():
    assert MAX_RULES == 10_000
    assert MAX_POLICIES == 256
