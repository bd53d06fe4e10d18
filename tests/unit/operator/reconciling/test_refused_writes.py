"""A write that the API server refuses. It blocks nothing else, and objects that are still in use are not deleted."""

import base64
import copy
import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.transport import Transport
from pywharf_operator.cluster.trimming import trimmed_metadata
from pywharf_operator.reconciling.observe import Observer
from pywharf_operator.reconciling.observed import POLICIES, STRAYS
from pywharf_operator.reconciling.reconciler import Reconciler, Settings
from pywharf_operator.reconciling.session_key import session_key
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import (
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    EVENT,
    HTTP_ROUTE,
    JOB,
    POD,
    POLICY,
    REPO,
    SECRET,
    SERVER,
)
from pywharf_operator.status.programmed import ReplicaReport

NAMESPACE = "team"
KEY = ObjectKey(NAMESPACE, "pywharf")
UNUSED: Any = None
SETTINGS = Settings(namespaces=(NAMESPACE,), specs={"file_system": FileSystemSpec}, image="pywharf:test")
WEBHOOK = KubeError(500, "InternalError", 'Internal error occurred: failed calling webhook "validate.nginx": refused')
FORBIDDEN = KubeError(403, "Forbidden", "denied by policy")
INVALID = KubeError(422, "Invalid", "spec.backend: Invalid value")


class Cluster:
    """A double of `Kube` on a dict, for faults. A call that matches `refuse` (`verb plural/name`) raises."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.refuse: dict[str, KubeError] = {}
        self.kinds = {HTTP_ROUTE.name}
        self.calls: list[str] = []
        self.after: Callable[[str], None] = lambda _call: None
        self._numbers = itertools.count(1)

    def _check(self, verb: str, kind: Any, name: str = "") -> None:
        call = f"{verb} {kind.plural}/{name}"
        self.calls.append(call)
        for pattern, error in self.refuse.items():
            if re.fullmatch(pattern, call):
                raise error
        self.after(call)

    def add(self, kind: Any, manifest: Json) -> Json:
        metadata = manifest["metadata"]
        number = str(next(self._numbers))
        old = self.objects.get((kind.plural, metadata["name"]), {})
        fresh = {"uid": f"uid-{number}", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        merged = {**fresh, **(old.get("metadata") or {}), **metadata, "namespace": NAMESPACE}
        made = {**old, **copy.deepcopy(manifest), "apiVersion": kind.api_version, "kind": kind.name}
        made["metadata"] = merged | {"resourceVersion": number}
        self.objects[kind.plural, metadata["name"]] = made
        return made

    async def get(self, kind: Any, key: ObjectKey) -> Json | None:
        self._check("get", kind, key.name)
        return self.objects.get((kind.plural, key.name))

    async def get_metadata(self, kind: Any, key: ObjectKey) -> Json | None:
        found = await self.get(kind, key)
        return None if found is None else trimmed_metadata(kind, found)

    async def list_metadata(self, kind: Any, namespace: Any = None, labels: Any = None, *, only: Any = None) -> Any:
        return [trimmed_metadata(kind, one) for one in await self.list(kind, namespace, labels, only=only)]

    async def listed(
        self, kind: Any, namespace: Any = None, *, only: Any = None, again: Any = None
    ) -> tuple[list[Json], str]:
        return await self.list(kind, namespace, only=only), "1"

    async def list(
        self, kind: Any, namespace: Any = None, labels: Any = None, *, fields: Any = None, only: Any = None
    ) -> list[Json]:
        self._check("list", kind)
        name, _, value = (labels or "").partition("=")
        return [
            copy.deepcopy(one)
            for (plural, _), one in self.objects.items()
            if plural == kind.plural and (not name or (one["metadata"].get("labels") or {}).get(name) == value)
            if only is None or only(one)
        ]

    async def exists(self, kind: Any) -> bool:
        return kind.name in self.kinds

    async def apply(self, kind: Any, manifest: Json, manager: str = "") -> Json:
        self._check("apply", kind, manifest["metadata"]["name"])
        return self.add(kind, manifest)

    async def apply_status(self, kind: Any, key: ObjectKey, status: Json, *, uid: str) -> Json:
        self._check("status", kind, key.name)
        found = self.objects[kind.plural, key.name]
        found["status"] = status
        return found

    async def create(self, kind: Any, manifest: Json) -> Json | None:
        self._check("create", kind, manifest["metadata"]["name"] if kind is not EVENT else "event")
        return self.add(kind, manifest)

    async def merge(self, kind: Any, key: ObjectKey, change: Json) -> None:
        self._check("merge", kind, key.name)
        self.objects[kind.plural, key.name]["metadata"].update(change["metadata"])

    async def delete(self, kind: Any, key: ObjectKey, uid: str) -> None:
        self._check("delete", kind, key.name)
        found = self.objects[kind.plural, key.name]
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        else:
            del self.objects[kind.plural, key.name]

    def status(self, kind: Any, name: str, condition: str) -> tuple[str, str]:
        found = (self.objects[kind.plural, name].get("status") or {}).get("conditions") or []
        return next(((one["status"], one["reason"]) for one in found if one["type"] == condition), ("", ""))

    def of(self, name: str) -> Json:
        found: Json = self.objects[REPO.plural, name]["status"]
        return found

    def names(self, kind: Any) -> set[str]:
        return {name for plural, name in self.objects if plural == kind.plural}


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.add(SERVER, {"metadata": {"name": "pywharf"}, "spec": {"storage": {"size": "1Gi"}}})
    for name in ("team-a", "team-b"):
        repo(made, name)
    return made


def repo(cluster: Cluster, name: str) -> None:
    refs = {f"{use}SecretRef": {"name": name, "key": use} for use in ("read", "write")}
    cluster.add(REPO, {"metadata": {"name": name}, "spec": {"backend": {"fileSystem": {}}, "credentials": refs}})
    labels = {"pywharf.dev/credentials": "true"}
    data = {"read": "YQ==", "write": "Yg=="}
    cluster.add(SECRET, {"metadata": {"name": name, "labels": labels}, "data": data})


@pytest.fixture
async def reconciler(cluster):
    async with aiohttp.ClientSession() as http:
        yield Reconciler(cluster, http, SETTINGS)


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        ("apply deployments/pywharf", WEBHOOK),
        ("apply networkpolicies/pywharf", FORBIDDEN),
        ("delete cronjobs/pywharf-index-team-a", FORBIDDEN),
        ("delete cronjobs/pywharf-index-team-a", WEBHOOK),
        ("status packagerepos/team-a", INVALID),
        ("merge pods/pod", FORBIDDEN),
        ("create jobs/.*", WEBHOOK),
        ("create events/event", FORBIDDEN),
        ("create secrets/pywharf-session", FORBIDDEN),
    ],
    ids=str,
)
async def test_a_refused_write_does_not_stop_the_others(cluster, reconciler, refused, error):
    if "session" not in refused:
        await reconciler.reconcile(KEY)
    if refused.startswith("merge"):
        labels = cluster.objects["deployments", "pywharf"]["spec"]["template"]["metadata"]["labels"]
        cluster.add(POD, {"metadata": {"name": "pod", "labels": labels}, "status": {"phase": "Running"}})
    cluster.refuse[refused] = error
    del cluster.objects["packagerepos", "team-a"]
    repo(cluster, "team-a")
    repo(cluster, "team-c")
    if refused.startswith("delete"):
        del cluster.objects["packagerepos", "team-a"]
    else:
        del cluster.objects["packagerepos", "team-b"]
    if refused.startswith("apply"):
        del cluster.objects[re.sub("^apply ", "", refused).split("/")[0], "pywharf"]
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-c", "Ready") == (
        ("False", "NoReadyReplica") if "session" not in refused else ("False", "ConfigNotRendered")
    )
    expected = "ApplyRefused" if refused.startswith(("apply", "delete")) or "session" in refused else "NoReadyReplica"
    assert cluster.status(SERVER, "pywharf", "Ready") == ("False", expected)
    if "session" not in refused:
        assert "pywharf-index-team-c" in cluster.names(CRON_JOB)
        assert DEPLOYMENT.plural in refused or cluster.names(DEPLOYMENT)


async def test_a_repo_s_status_reports_its_refused_schedule(cluster, reconciler):
    cluster.refuse["apply cronjobs/pywharf-index-team-a"] = KubeError(422, "Invalid", "spec.timeZone: unknown")
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "IndexUpToDate") == ("False", "UpdateStuck")
    reported = {
        name for plural, name in cluster.objects if plural == REPO.plural and "timeZone" in str(cluster.of(name))
    }
    assert reported == {"team-a"}


async def test_a_refused_config_map_for_clients_stops_nothing(cluster, reconciler):
    for name in ("team-a", "team-b"):
        cluster.objects["packagerepos", name]["spec"]["clientConfig"] = {"configMap": f"{name}-clients"}
    cluster.refuse["create configmaps/team-a-clients"] = KubeError(403, "Forbidden", "exceeded quota: configmaps")
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "ClientConfigured") == ("False", "ApplyRefused")
    assert cluster.status(REPO, "team-b", "ClientConfigured") == ("True", "Written")
    assert cluster.status(REPO, "team-a", "Accepted") == ("True", "Accepted")
    assert cluster.names(CONFIG_MAP) == {"pywharf-config", "team-b-clients"}
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "ClientConfigured") == ("True", "Written")


async def test_config_maps_for_clients_stay_while_the_repo_is_not_served(cluster, reconciler):
    cluster.objects["packagerepos", "team-a"]["spec"]["clientConfig"] = {"configMap": "clients"}
    await reconciler.reconcile(KEY)
    del cluster.objects["secrets", "team-a"]
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "ClientConfigured") == ("False", "NotServed")
    assert "clients" in cluster.names(CONFIG_MAP)


async def test_an_older_configuration_s_secrets_stay_while_the_newer_is_refused(cluster, reconciler):
    await reconciler.reconcile(KEY)
    labels = cluster.objects["secrets", "pywharf-credentials"]["metadata"]
    shard = {
        "metadata": {key: labels[key] for key in ("labels", "ownerReferences")} | {"name": "pywharf-credentials-1"}
    }
    cluster.add(SECRET, shard)
    cluster.refuse["apply secrets/pywharf-credentials"] = FORBIDDEN
    del cluster.objects["packagerepos", "team-b"]
    await reconciler.reconcile(KEY)
    assert "pywharf-credentials-1" in cluster.names(SECRET)
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert "pywharf-credentials-1" not in cluster.names(SECRET)


async def test_the_configuration_is_announced_only_after_it_is_written(cluster, reconciler):
    await reconciler.reconcile(KEY)
    labels = cluster.objects["deployments", "pywharf"]["spec"]["template"]["metadata"]["labels"]
    cluster.add(POD, {"metadata": {"name": "pod", "labels": labels}, "status": {"phase": "Running"}})
    cluster.refuse["apply configmaps/pywharf-config"] = FORBIDDEN
    repo(cluster, "team-c")
    await reconciler.reconcile(KEY)
    # The pods are notified of the secrets that belong to their current configuration, under a mark of their own.
    reported = cluster.objects["pods", "pod"]["metadata"]["annotations"]["pywharf.dev/config"]
    await reconciler.reconcile(KEY)
    assert cluster.objects["pods", "pod"]["metadata"]["annotations"]["pywharf.dev/config"] == reported
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert cluster.objects["pods", "pod"]["metadata"]["annotations"]["pywharf.dev/config"] != reported
    assert cluster.names(CONFIG_MAP) == {"pywharf-config"}


def policy(cluster: Cluster, minimum_age: str) -> None:
    spec = {
        "targetRefs": [{"kind": "PackageServer", "name": "pywharf"}],
        "cooldown": {"minimumAge": minimum_age, "missingTime": "Deny", "projects": ["*"]},
    }
    old = cluster.objects.get((POLICY.plural, "company"), {"metadata": {"generation": 0}})
    metadata = {"name": "company", "generation": old["metadata"]["generation"] + 1}
    cluster.add(POLICY, {"metadata": metadata, "spec": spec})


def policies(cluster: Cluster) -> str:
    text: str = cluster.objects["configmaps", "pywharf-policies"]["data"]["policies.json"]
    return text


async def test_replicas_can_start_with_the_policies_of_an_older_configuration(cluster, reconciler):
    """While a configuration is refused, the policies are those that the present one names."""
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    before = policies(cluster)
    named = cluster.objects["configmaps", "pywharf-config"]["data"]["config.toml"]
    cluster.refuse["apply configmaps/pywharf-config"] = FORBIDDEN
    policy(cluster, "8d")
    for _ in range(3):
        await reconciler.reconcile(KEY)
        assert policies(cluster) == before
    assert cluster.objects["configmaps", "pywharf-config"]["data"]["config.toml"] == named
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert policies(cluster) == before.replace("604800", "691200")
    # The configuration that names no policies is applied before their ConfigMap is deleted.
    del cluster.objects[POLICY.plural, "company"]
    cluster.calls.clear()
    await reconciler.reconcile(KEY)
    done = [call for call in cluster.calls if call.startswith(("apply", "delete"))]
    assert done.index("apply configmaps/pywharf-config") < done.index("delete configmaps/pywharf-policies")


def edit(cluster: Cluster, name: str, key: str, text: str) -> None:
    cluster.add(CONFIG_MAP, {**cluster.objects["configmaps", name], "data": {key: text}})


def bare(cluster: Cluster, name: str) -> None:
    """Remove the owner, as a restore from a backup does."""
    del cluster.objects["configmaps", name]["metadata"]["ownerReferences"]


@pytest.mark.parametrize("spoil", ["missing", "edited", "both maps"])
async def test_nothing_is_applied_while_the_policies_in_force_are_unknown(cluster, reconciler, spoil):
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    before = policies(cluster)
    policy(cluster, "odd")
    await reconciler.reconcile(KEY)
    assert policies(cluster) == before
    if spoil == "missing":
        del cluster.objects["configmaps", "pywharf-policies"]
    else:
        edit(cluster, "pywharf-policies", "policies.json", '{"policies": []}')
    if spoil == "both maps":
        edit(cluster, "pywharf-config", "config.toml", "[")
    spoilt = copy.deepcopy(cluster.objects)
    again = Reconciler(cluster, UNUSED, SETTINGS)
    with pytest.raises(KubeError, match="KeptPoliciesUnknown") as caught:
        await again.reconcile(KEY)
    assert "delete" not in str(caught.value)
    status = cluster.objects["packageservers", "pywharf"]["status"]
    assert unstatused(cluster.objects) == unstatused(spoilt)
    for condition in ("ConfigRendered", "Ready"):
        assert cluster.status(SERVER, "pywharf", condition) == ("False", "KeptPoliciesUnknown")
    shown = next(one for one in status["conditions"] if one["type"] == "ConfigRendered")
    assert shown["message"] == f"{caught.value.message}."
    former = spoilt["packageservers", "pywharf"]["status"]
    assert {key: status[key] for key in ("url", "repos", "replicas", "selector")} == {
        key: former[key] for key in ("url", "repos", "replicas", "selector")
    }
    assert {one["type"] for one in status["conditions"]} == {one["type"] for one in former["conditions"]}
    policy(cluster, "8d")
    await again.reconcile(POLICIES)
    assert cluster.status(POLICY, "company", "Programmed") == ("False", "ConfigNotRendered")
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    assert policies(cluster) == before
    assert cluster.status(SERVER, "pywharf", "ConfigRendered") == ("True", "Rendered")


def unstatused(objects: dict[tuple[str, str], Json]) -> dict[tuple[str, str], Json]:
    """Return what others than a writer of statuses may change: Events go with statuses."""
    return {
        key: {field: value for field, value in one.items() if field != "status"}
        for key, one in objects.items()
        if key[0] != EVENT.plural
    }


@pytest.mark.parametrize(
    ("updated", "minimum_age", "expected"), [(1, "7d", "ImageTooOld"), (0, "7d", "Waiting"), (1, None, "Waiting")]
)
async def test_replicas_of_an_image_before_policies_are_reported(
    cluster, reconciler, monkeypatch, updated, minimum_age, expected
):
    """Not while the rollout of a newer image has not ended, and not where the server is given no policies."""

    async def ask(_http: Any, pods: Any) -> tuple[ReplicaReport, ...]:
        return tuple(ReplicaReport("pod", "older", {}, None, knows_policies=False) for _ in pods)

    monkeypatch.setattr("pywharf_operator.reconciling.reconciler.ask", ask)
    if minimum_age is not None:
        policy(cluster, minimum_age)
    await reconciler.reconcile(KEY)
    deployment = cluster.objects["deployments", "pywharf"]
    deployment["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": updated}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ready = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.add(POD, {"metadata": {"name": "pod", "labels": labels}, "status": ready})
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "Programmed") == ("False", expected)
    if minimum_age is not None:
        await reconciler.reconcile(POLICIES)
        assert cluster.status(POLICY, "company", "Programmed") == ("False", expected)


@pytest.mark.parametrize(("access", "expected"), [(True, "ImageTooOld"), (False, "Waiting")])
async def test_replicas_of_an_image_before_access_entries_are_reported(
    cluster, reconciler, monkeypatch, access, expected
):
    async def ask(_http: Any, pods: Any) -> tuple[ReplicaReport, ...]:
        return tuple(ReplicaReport("pod", "older", {}, None, knows_access=False) for _ in pods)

    monkeypatch.setattr("pywharf_operator.reconciling.reconciler.ask", ask)
    if access:
        entry = {"name": "ci", "permission": "Read", "tokenDigests": ["sha256:" + "a" * 64]}
        cluster.objects[REPO.plural, "team-a"]["spec"]["access"] = [entry]
    await reconciler.reconcile(KEY)
    deployment = cluster.objects["deployments", "pywharf"]
    deployment["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ready = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.add(POD, {"metadata": {"name": "pod", "labels": labels}, "status": ready})
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "Programmed") == ("False", expected)


@pytest.mark.parametrize(("updated", "expected"), [(1, "ConfigRefused"), (0, "Waiting")])
async def test_replicas_that_refuse_the_configuration_are_reported(cluster, reconciler, monkeypatch, updated, expected):
    async def ask(_http: Any, pods: Any) -> tuple[ReplicaReport, ...]:
        return tuple(ReplicaReport("pod", "older", {}, None, refused="unknown field") for _ in pods)

    monkeypatch.setattr("pywharf_operator.reconciling.reconciler.ask", ask)
    await reconciler.reconcile(KEY)
    with_ready_pod(cluster, updated)
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "Programmed") == ("False", expected)


def with_ready_pod(cluster: Any, updated: int = 1) -> None:
    """Let the Deployment have one ready pod."""
    deployment = cluster.objects["deployments", "pywharf"]
    deployment["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": updated}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ready = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.add(POD, {"metadata": {"name": "pod", "labels": labels}, "status": ready})


async def test_a_repo_is_reconciled_when_an_entry_ends(cluster, reconciler):
    """No event reports an end, and a full resync comes minutes later."""
    end = datetime.now(UTC) + timedelta(hours=1)
    entry = {"name": "ci", "permission": "Read", "tokenDigests": ["sha256:" + "a" * 64]}
    cluster.objects[REPO.plural, "team-a"]["spec"]["access"] = [entry | {"expires": end.isoformat()}]
    wait = await reconciler.reconcile(KEY)
    assert wait is not None
    assert 3500 < wait < 3601


async def test_restored_policies_without_an_owner_stay_in_force(cluster, reconciler):
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    before = policies(cluster)
    policy(cluster, "odd")
    bare(cluster, "pywharf-policies")
    bare(cluster, "pywharf-config")
    await Reconciler(cluster, UNUSED, SETTINGS).reconcile(KEY)
    assert policies(cluster) == before
    assert cluster.objects["configmaps", "pywharf-policies"]["metadata"]["ownerReferences"]


async def test_an_interrupted_rollout_makes_no_policy_unknown(cluster, reconciler):
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    config = copy.deepcopy(cluster.objects["configmaps", "pywharf-config"])
    policy(cluster, "8d")
    await reconciler.reconcile(KEY)
    newer = policies(cluster)
    cluster.objects["configmaps", "pywharf-config"] = config
    policy(cluster, "odd")
    await Reconciler(cluster, UNUSED, SETTINGS).reconcile(KEY)
    assert policies(cluster) == newer


async def test_a_policy_that_never_was_in_force_blocks_nothing(cluster, reconciler):
    policy(cluster, "odd")
    await reconciler.reconcile(KEY)
    assert cluster.names(CONFIG_MAP) == {"pywharf-config"}


async def test_policies_stay_where_the_repos_of_their_namespace_cannot_be_read(cluster):
    both = Settings(namespaces=(NAMESPACE, "home"), specs=SETTINGS.specs, image=SETTINGS.image)
    observer = Observer(cluster, both.namespaces)
    cluster.objects["namespaces", NAMESPACE] = {"metadata": {"name": NAMESPACE}}
    listed = cluster.list

    async def refusing(kind: Any, namespace: Any = None, *args: Any, **more: Any) -> list[Json]:
        if kind is REPO and namespace == NAMESPACE:
            raise FORBIDDEN
        return await listed(kind, namespace, *args, **more) if namespace in {NAMESPACE, None} else []

    cluster.list = refusing
    found = await observer.observe(KEY)
    assert found is not None
    assert found.unreadable == {NAMESPACE}
    assert found.unlisted_policies == frozenset({NAMESPACE})


async def test_policies_that_cannot_be_written_hold_the_configuration_back(cluster, reconciler):
    await reconciler.reconcile(KEY)
    cluster.refuse["apply configmaps/pywharf-policies"] = FORBIDDEN
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    assert "policies_file" not in cluster.objects["configmaps", "pywharf-config"]["data"]["config.toml"]
    assert cluster.status(SERVER, "pywharf", "Ready") == ("False", "ApplyRefused")


def _value(cluster, key):
    return base64.b64decode(cluster.objects["secrets", "pywharf-credentials"]["data"].get(key, ""))


def rotate(cluster: Cluster, name: str) -> None:
    secret = cluster.objects["secrets", name]
    secret["data"] = {key: base64.b64encode(f"rotated-{key}".encode()).decode() for key in secret["data"]}
    cluster.add(SECRET, secret)


def foreign_policies(cluster: Cluster) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "other", "uid": "other", "controller": True}
    cluster.add(CONFIG_MAP, {"metadata": {"name": "pywharf-policies", "ownerReferences": [owner]}, "data": {"a": "b"}})


async def test_policies_that_cannot_be_listed_are_a_condition(cluster, reconciler):
    """The case: a Role of the user's own is older than the operator."""
    policy(cluster, "7d")
    cluster.refuse["list packagepolicies/"] = FORBIDDEN
    await reconciler.reconcile(KEY)
    assert cluster.status(SERVER, "pywharf", "Ready")[1] == "NoReadyReplica"
    assert cluster.status(SERVER, "pywharf", "NamespacesRead") == ("False", "PoliciesUnreadable")
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert cluster.status(SERVER, "pywharf", "NamespacesRead") == ("True", "Read")


def refused_policies(cluster: Cluster) -> None:
    cluster.refuse["apply configmaps/pywharf-policies"] = FORBIDDEN


@pytest.mark.parametrize(
    ("refuse", "had_policies"),
    [(refused_policies, False), (refused_policies, True), (foreign_policies, False)],
    ids=["the first ones", "changed ones", "the name is taken"],
)
async def test_a_rotated_secret_is_delivered_while_policies_are_refused(cluster, reconciler, refuse, had_policies):
    if had_policies:
        policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    config = cluster.objects["configmaps", "pywharf-config"]["data"]
    revision = _value(cluster, "revision-0")
    refuse(cluster)
    policy(cluster, "8d")
    await reconciler.reconcile(KEY)
    assert _value(cluster, "revision-0") == revision
    rotate(cluster, "team-a")
    for _ in range(2):
        cluster.calls.clear()
        await reconciler.reconcile(KEY)
        assert _value(cluster, "team-a.read") == b"rotated-read"
        assert _value(cluster, "revision-0") == revision, "the configuration that stays names it"
        assert cluster.objects["configmaps", "pywharf-config"]["data"] == config
    assert "apply secrets/pywharf-credentials" not in cluster.calls, "it does not go back and forth"
    cluster.refuse.clear()
    if refuse is foreign_policies:
        del cluster.objects["configmaps", "pywharf-policies"]
    await reconciler.reconcile(KEY)
    assert "691200" in policies(cluster)
    assert _value(cluster, "revision-0") != revision
    assert _value(cluster, "team-a.read") == b"rotated-read"


async def test_policies_go_back_where_credentials_are_refused(cluster, reconciler):
    """Otherwise a replica that starts finds policies that its configuration does not name."""
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    before = policies(cluster)
    cluster.refuse["apply secrets/pywharf-credentials"] = FORBIDDEN
    rotate(cluster, "team-a")
    policy(cluster, "8d")
    for _ in range(2):
        cluster.calls.clear()
        await reconciler.reconcile(KEY)
        assert policies(cluster) == before
    assert "apply configmaps/pywharf-policies" not in cluster.calls, "it does not go back and forth"
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert "691200" in policies(cluster)


async def test_a_configuration_goes_back_where_its_policies_are_refused_in_turn(cluster, reconciler):
    policy(cluster, "7d")
    await reconciler.reconcile(KEY)
    config = cluster.objects["configmaps", "pywharf-config"]["data"]
    policy(cluster, "8d")
    for refused in ("config", "policies", "policies", "config"):
        cluster.refuse = {f"apply configmaps/pywharf-{refused}": FORBIDDEN}
        await reconciler.reconcile(KEY)
        assert cluster.objects["configmaps", "pywharf-config"]["data"] == config
        assert "604800" in policies(cluster)
    cluster.refuse = {}
    await reconciler.reconcile(KEY)
    assert "691200" in policies(cluster)
    assert cluster.objects["configmaps", "pywharf-config"]["data"] != config


async def test_a_kind_that_seems_to_be_missing_for_a_moment_loses_no_object(cluster, reconciler):
    server = cluster.objects["packageservers", "pywharf"]
    server["spec"]["httpRoute"] = {"parentRefs": [{"name": "gateway"}]}
    await reconciler.reconcile(KEY)
    assert cluster.names(HTTP_ROUTE) == {"pywharf"}
    cluster.kinds.clear()
    await Reconciler(cluster, UNUSED, SETTINGS).reconcile(KEY)  # a new Reconciler has not cached the cluster's kinds
    assert cluster.names(HTTP_ROUTE) == {"pywharf"}
    assert cluster.status(SERVER, "pywharf", "Ready") == ("False", "ApiMissing")


async def test_a_server_that_a_listing_did_not_see_yet_is_reconciled(cluster, reconciler):
    memories = reconciler._memories  # noqa: SLF001 - a listing at this very moment would clear them
    cluster.after = lambda call: memories.clear() if call == "list packagerepos/" else None
    await reconciler.reconcile(KEY)
    assert cluster.names(DEPLOYMENT) == {"pywharf"}


async def test_a_reconcile_that_is_always_superseded_ends_some_day(cluster, reconciler):
    wanted = {f"repo-{number:03}" for number in range(160)}
    for name in wanted:
        repo(cluster, name)
    for _ in range(5):
        await reconciler.reconcile(KEY, lambda: True)
    assert {f"pywharf-index-{name}" for name in wanted} <= cluster.names(CRON_JOB)


async def test_an_emptied_session_key_that_does_not_go_is_no_endless_loop(cluster, reconciler):
    await reconciler.reconcile(KEY)
    secret = cluster.objects["secrets", "pywharf-session"]
    secret["data"] = {}
    secret["metadata"]["finalizers"] = ["other/holds-it"]
    cluster.calls.clear()

    def watchdog(_call):
        assert len(cluster.calls) < 100

    cluster.after = watchdog
    observed = await Observer(cluster, (NAMESPACE,)).observe(KEY)
    assert observed is not None
    assert observed.server is not None
    with pytest.raises(KubeError, match="pywharf-session"):
        await session_key(cluster, observed.server)


def pod(cluster: Cluster, name: str, **labels: str) -> None:
    """Add a replica that is ready but does not answer."""
    of_replica = cluster.objects["deployments", "pywharf"]["spec"]["template"]["metadata"]["labels"]
    status = {"phase": "Running", "podIP": "127.0.0.99", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.add(POD, {"metadata": {"name": name, "labels": of_replica | labels}, "status": status})


async def test_a_change_is_reconciled_soon_though_an_old_fault_lasts(cluster, reconciler):
    await reconciler.reconcile(KEY)
    pod(cluster, "pod")
    waits = [await reconciler.reconcile(KEY) for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[-1] > waits[0]
    repo(cluster, "team-c")
    assert await reconciler.reconcile(KEY) == waits[0]


@pytest.mark.parametrize("label", ["name", "instance", "component"])
async def test_only_what_gets_the_requests_of_the_service_counts_as_a_replica(cluster, reconciler, label):
    await reconciler.reconcile(KEY)
    pod(cluster, "other", **{f"app.kubernetes.io/{label}": "other"})
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "Programmed") == ("False", "NoReadyReplica")
    pod(cluster, "pod")
    await reconciler.reconcile(KEY)
    assert cluster.status(REPO, "team-a", "Programmed") == ("False", "Waiting")


@pytest.mark.parametrize(("reason", "exists"), [("AlreadyExists", True), ("Conflict", False)])
async def test_a_quota_that_others_change_is_no_object_that_exists(monkeypatch, reason, exists):
    kube = Kube(UNUSED)
    error = KubeError(409, reason, "")

    async def once(_request):
        raise error

    monkeypatch.setattr(Transport, "_once", lambda _self, request: once(request))
    creating = kube.create(JOB, {"metadata": {"name": "a", "namespace": NAMESPACE}})
    if exists:
        assert await creating is None
    else:
        with pytest.raises(KubeError):
            await creating


async def test_a_rotated_secret_is_delivered_while_the_configuration_is_refused(cluster, reconciler):
    await reconciler.reconcile(KEY)
    revision = _value(cluster, "revision-0")
    before = _value(cluster, "team-a.read")
    cluster.refuse["apply configmaps/pywharf-config"] = FORBIDDEN
    rotate(cluster, "team-a")
    del cluster.objects["packagerepos", "team-b"]
    await reconciler.reconcile(KEY)
    assert before != _value(cluster, "team-a.read") == b"rotated-read"
    assert _value(cluster, "revision-0") == revision
    assert len(_value(cluster, "team-b.read")) == 64  # a value that nobody knows
    cluster.calls.clear()
    await reconciler.reconcile(KEY)
    assert "apply secrets/pywharf-credentials" not in cluster.calls, "it does not go back and forth"
    cluster.refuse.clear()
    await reconciler.reconcile(KEY)
    assert _value(cluster, "revision-0") != revision
    assert _value(cluster, "team-a.read") == b"rotated-read"
    assert not _value(cluster, "team-b.read")


@pytest.mark.parametrize(
    "moment",
    ["get secrets/pywharf-session", "list deployments/", "list cronjobs/", "get cronjobs/pywharf-index-team-a"],
)
async def test_a_server_that_is_being_deleted_adopts_nothing(cluster, reconciler, moment):
    """The case: `kubectl delete --cascade=orphan` runs during a reconcile that began before it."""
    await reconciler.reconcile(KEY)
    state = reconciler._memories[KEY].applier  # noqa: SLF001 - otherwise no object is read whole
    state._same.clear()  # noqa: SLF001

    def orphaned(call: str) -> None:
        if call == moment:
            cluster.objects["packageservers", "pywharf"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            for one in cluster.objects.values():
                one["metadata"].pop("ownerReferences", None)

    cluster.after = orphaned
    with pytest.raises(KubeError, match="adopts nothing"):
        await reconciler.reconcile(KEY)
    owned = [key for key, one in cluster.objects.items() if "ownerReferences" in one["metadata"]]
    assert owned == []


async def test_a_refused_job_is_replaced_once_its_template_is_another(cluster, reconciler):
    """This includes a template that merely lacks something of the old one."""
    await reconciler.reconcile(KEY)
    (name,) = {one for one in cluster.names(JOB) if "team-a" in one}
    job = cluster.objects["jobs", name]
    job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    event = {"metadata": {"name": "refused"}, "involvedObject": {"uid": job["metadata"]["uid"]}, "message": "a policy"}
    cluster.add(EVENT, event)
    await reconciler.reconcile(KEY)
    assert name in cluster.names(JOB)
    spec = cluster.objects["packageservers", "pywharf"]["spec"] | {"security": {"userIDs": "FromCluster"}}
    cluster.add(SERVER, {"metadata": {"name": "pywharf"}, "spec": spec})
    await reconciler.reconcile(KEY)
    jobs = {one for one in cluster.names(JOB) if "team-a" in one}
    assert jobs
    assert name not in jobs


def strays(cluster: Cluster, number: int) -> list[ObjectKey]:
    """Add repos that each name a missing server. Return the keys of those servers."""
    for index in range(number):
        repo(cluster, f"stray-{index}")
        cluster.objects[REPO.plural, f"stray-{index}"]["spec"]["serverRef"] = {"name": f"nobody-{index}"}
    return [ObjectKey(NAMESPACE, f"nobody-{index}") for index in range(number)]


def lists(cluster: Cluster) -> list[str]:
    return sorted(call for call in cluster.calls if call.startswith("list"))


async def test_missing_servers_are_reconciled_together(cluster):
    """Each missing server costs one request, once. The repos are listed and their statuses written in one pass."""
    wanted: list[ObjectKey] = []
    counted: dict[ObjectKey, Any] = {}
    reconciler = Reconciler(cluster, UNUSED, SETTINGS, again=wanted.append, counted=counted.__setitem__)
    named = strays(cluster, 300)
    for key in named:
        assert reconciler.key_of_event(key) == key
        assert await reconciler.reconcile(key) is None
    assert set(cluster.calls) == {f"get packageservers/{key.name}" for key in named}
    assert set(wanted) == {STRAYS}
    cluster.calls.clear()
    await reconciler.reconcile(STRAYS)
    assert lists(cluster) == ["list packagerepos/", "list packageservers/", "list secrets/"]
    reported = {name: cluster.status(REPO, name, "Accepted") for name in cluster.names(REPO)}
    assert {name for name, one in reported.items() if one == ("False", "ServerNotFound")} == {
        f"stray-{index}" for index in range(300)
    }
    assert counted[STRAYS]["Accepted", "False"] == 300
    assert not any(counts for key, counts in counted.items() if key != STRAYS)
    # Later events of these servers cause no request for each, nor does a resync.
    assert {reconciler.key_of_event(key) for key in named} == {STRAYS}
    keys = await reconciler.keys()
    assert keys.to_reconcile == {KEY, STRAYS, POLICIES}
    reconciler.forget_gone(keys)
    assert {reconciler.key_of_event(key) for key in named} == {STRAYS}
    cluster.calls.clear()
    await reconciler.reconcile(STRAYS)
    assert not any(call.startswith("status") for call in cluster.calls)


async def test_a_server_that_comes_is_reconciled_by_its_own_key(cluster):
    wanted: list[ObjectKey] = []
    counted: dict[ObjectKey, Any] = {}
    reconciler = Reconciler(cluster, UNUSED, SETTINGS, again=wanted.append, counted=counted.__setitem__)
    key, other = strays(cluster, 2)
    for one in (key, other, STRAYS):
        await reconciler.reconcile(one)
    made = {"metadata": {"name": key.name}, "spec": {"storage": {"size": "1Gi"}}}
    async with aiohttp.ClientSession() as http:
        reconciler = Reconciler(cluster, http, SETTINGS, again=wanted.append, counted=counted.__setitem__)
        for one in (key, other):
            await reconciler.reconcile(one)
        cluster.add(SERVER, made)
        wanted.clear()
        reconciler.appeared(key)
        assert wanted == [STRAYS], "they are counted anew"
        assert [reconciler.key_of_event(one) for one in (key, other)] == [key, STRAYS]
        for one in (key, STRAYS):
            await reconciler.reconcile(one)
        assert cluster.status(REPO, "stray-0", "Accepted") == ("True", "Accepted")
        assert counted[STRAYS]["Accepted", "False"] == 1
        assert counted[key]["Accepted", "True"] == 1
        # The event of the other server may be lost: a listing has the same effect.
        cluster.add(SERVER, made | {"metadata": {"name": other.name}})
        keys = await reconciler.keys()
        assert keys.to_reconcile == {KEY, key, other, POLICIES}
        assert reconciler.key_of_event(other) == STRAYS, "a listing alone changes nothing"
        reconciler.forget_gone(keys)
        assert reconciler.key_of_event(other) == other
        # A server that is deleted, or is being deleted, counts as missing again.
        cluster.objects[SERVER.plural, key.name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        for one in (key, STRAYS):
            await reconciler.reconcile(one)
    assert cluster.status(REPO, "stray-0", "Accepted") == ("False", "ServerNotFound")
    assert counted[key] == {}


async def test_a_server_that_comes_during_the_pass_keeps_its_statuses(cluster, monkeypatch):
    named = strays(cluster, 250)
    async with aiohttp.ClientSession() as http:
        reconciler = Reconciler(cluster, http, SETTINGS)
        write = cluster.apply_status
        key = max(named)
        name = cluster_repo_of(cluster, key)
        pending = [key]

        async def apply_status(kind: Any, repo_key: ObjectKey, status: Json, *, uid: str) -> Json:
            if pending and kind is REPO:
                cluster.add(SERVER, {"metadata": {"name": key.name}, "spec": {"storage": {"size": "1Gi"}}})
                await reconciler.reconcile(pending.pop())
            written: Json = await write(kind, repo_key, status, uid=uid)
            return written

        monkeypatch.setattr(cluster, "apply_status", apply_status)
        await reconciler.reconcile(STRAYS)
    assert not pending
    assert cluster.status(REPO, name, "Accepted") == ("True", "Accepted")
    assert cluster.status(REPO, "stray-0", "Accepted") == ("False", "ServerNotFound")


async def test_a_new_repo_of_a_server_that_became_unreadable_gets_a_status(cluster, reconciler, monkeypatch):
    """The repos that are served stay, and so does the cached state of their server."""
    await reconciler.reconcile(KEY)
    repo(cluster, "team-c")
    observer = reconciler._observer  # noqa: SLF001 - the double has one namespace, and a watch of one is none
    observer.forget()  # in the double, a status write yields no new version
    monkeypatch.setattr(observer.namespaces, "refusing", lambda _kind: frozenset({NAMESPACE}))

    async def nothing(*_: object) -> list[Json]:
        return []

    async def none(*_: object) -> None:
        return None

    monkeypatch.setattr(observer, "_servers", nothing)
    monkeypatch.setattr(observer, "_server", none)
    for key in (KEY, STRAYS):
        await reconciler.reconcile(key)
    assert cluster.status(REPO, "team-c", "Accepted") == ("Unknown", "ServerUnreadable")
    assert {cluster.status(REPO, name, "Accepted") for name in ("team-a", "team-b")} == {("True", "Accepted")}
    assert KEY in reconciler._memories  # noqa: SLF001


def cluster_repo_of(cluster: Cluster, server: ObjectKey) -> str:
    """Return the name of the repo that names the server."""
    return next(
        name
        for (plural, name), one in cluster.objects.items()
        if plural == REPO.plural and one["spec"].get("serverRef") == {"name": server.name}
    )
