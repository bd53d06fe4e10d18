"""Which servers an event wakes."""

import pytest

from pywharf_operator.cluster.live import server_named_by
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import (
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    JOB,
    NAMESPACE,
    POD,
    POLICY,
    REPO,
    SECRET,
    SERVER,
    SERVICE,
)
from pywharf_operator.spec.names import MANAGER
from pywharf_operator.watching import waking
from pywharf_operator.watching.waking import Waking

OWNED = {"pywharf.dev/server": "pywharf"}
CREDENTIALS = {"pywharf.dev/credentials": "true"}
HOME = ObjectKey("ml", "pywharf")
OTHER = ObjectKey("shared", "packages")


def made(name="x", namespace="ml", labels=None, annotations=None, **fields):
    metadata = {"name": name, "namespace": namespace, "uid": "1", "resourceVersion": "1", "generation": 1}
    metadata |= {"labels": labels or {}, "annotations": annotations or {}} | fields.pop("metadata", {})
    return {"metadata": metadata} | fields


def repo(name="team-a", namespace="ml", server=None, **fields):
    return made(name, namespace, spec={} if server is None else {"serverRef": server}, **fields)


def changed(manifest, path, value):
    *parents, last = path.split(".")
    if not parents:
        return manifest | {last: value}
    head = parents[0]
    rest = ".".join([*parents[1:], last])
    return manifest | {head: changed(manifest.get(head, {}), rest, value)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, HOME),
        ({"serverRef": {"name": "packages", "namespace": "shared"}}, OTHER),
        ({"serverRef": {"name": "packages"}}, ObjectKey("ml", "packages")),
        ({"serverRef": {"namespace": "shared"}}, ObjectKey("shared", "pywharf")),
        ({"serverRef": {"name": 3, "namespace": ["x"]}}, HOME),
        ({"serverRef": {"name": "", "namespace": ""}}, HOME),
        ({"serverRef": "packages"}, HOME),
        (None, HOME),
        ("odd", HOME),
        ([], HOME),
    ],
)
def test_the_server_of_a_repo_however_malformed(spec, expected):
    assert server_named_by(made(spec=spec)) == expected


@pytest.mark.parametrize(
    ("kind", "manifest", "expected"),
    [
        (REPO, repo(), {HOME}),
        (REPO, repo(server={"name": "packages", "namespace": "shared"}), {OTHER}),
        (SERVER, made("packages", "shared"), {OTHER}),
        (CONFIG_MAP, made(labels=OWNED), {HOME}),
        (SERVICE, made(labels=OWNED), {HOME}),
        (POD, made(labels=OWNED), {HOME}),
        (JOB, made(labels=OWNED), {HOME}),
        (SECRET, made(labels=OWNED), {HOME}),
        (SECRET, made(labels=CREDENTIALS), set()),
        (CONFIG_MAP, made(), set()),
        (CONFIG_MAP, made(labels={"pywharf.dev/server": ""}), set()),
        (CONFIG_MAP, {"metadata": {"labels": ["odd"]}}, set()),
        (CONFIG_MAP, {}, set()),
    ],
)
@pytest.mark.parametrize("event", [None, "ADDED", "DELETED"])
def test_what_is_seen_for_the_first_time(kind, manifest, expected, event):
    woken = Waking().woken(kind, event, manifest)
    if kind == REPO and event == "DELETED":
        expected = set()  # nobody knew the repo
    assert set(woken.keys) == expected
    assert not woken.everything


STATUS = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
POD_STATUS = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("kind", "before", "path", "value", "wakes"),
    [
        # the operator's own writes, and what nobody needs to know
        (REPO, repo(), "status", STATUS["status"], False),
        (REPO, repo(), "metadata.resourceVersion", "2", False),
        (REPO, repo(), "metadata.managedFields", [{}], False),
        (REPO, repo(), "metadata.annotations", {"argocd.argoproj.io/tracking-id": "x"}, False),
        (SERVER, made("pywharf"), "status", STATUS["status"], False),
        (CONFIG_MAP, made(labels=OWNED, data={"a": "b"}), "metadata.managedFields", [{}], False),
        (DEPLOYMENT, made(labels=OWNED), "status", {"observedGeneration": 2}, False),
        (CRON_JOB, made(labels=OWNED), "status", {"lastScheduleTime": "now"}, False),
        (POD, made(labels=OWNED, status=POD_STATUS), "status.startTime", "now", False),
        (POD, made(labels=OWNED, status=POD_STATUS), "status.conditions", [{"type": "Ready", "status": "True"}], False),
        (JOB, made(labels=OWNED), "status", {"active": 1}, False),
        # relevant changes
        (REPO, repo(), "metadata.generation", 2, True),
        (REPO, repo(), "metadata.labels", {"a": "b"}, True),
        (REPO, repo(), "metadata.annotations", {"pywharf.dev/update-index": "1"}, True),
        (REPO, repo(), "metadata.deletionTimestamp", "now", True),
        (REPO, repo(), "metadata.uid", "2", True),
        (SERVER, made("pywharf"), "metadata.generation", 2, True),
        (CONFIG_MAP, made(labels=OWNED, data={"a": "b"}), "data", {"a": "c"}, True),
        (CONFIG_MAP, made(labels=OWNED), "metadata.annotations", {"pywharf.dev/rendered": "x"}, True),
        (CONFIG_MAP, made(labels=OWNED), "metadata.ownerReferences", [], True),
        (SECRET, made(labels=OWNED), "metadata.resourceVersion", "2", True),
        (SERVICE, made(labels=OWNED, spec={}), "spec", {"type": "NodePort"}, True),
        (DEPLOYMENT, made(labels=OWNED), "metadata.generation", 2, True),
        (DEPLOYMENT, made(labels=OWNED), "status", {"readyReplicas": 1}, True),
        (DEPLOYMENT, made(labels=OWNED), "status", {"updatedReplicas": 1}, True),
        (POD, made(labels=OWNED, status=POD_STATUS), "status.phase", "Failed", True),
        (POD, made(labels=OWNED, status=POD_STATUS), "status.podIP", "10.0.0.2", True),
        (POD, made(labels=OWNED, status=POD_STATUS), "status.conditions", [], True),
        (
            POD,
            made(labels=OWNED, status=POD_STATUS),
            "status.containerStatuses",
            [{"name": "index", "restartCount": 0, "state": {"terminated": {"finishedAt": "now"}}}],
            True,
        ),
        (
            POD,
            made(labels=OWNED, status=POD_STATUS),
            "status.containerStatuses",
            [{"name": "index", "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
            True,
        ),
        (
            POD,
            made(labels=OWNED, status=POD_STATUS),
            "status.conditions",
            [*POD_STATUS["conditions"], {"type": "PodScheduled", "status": "False"}],
            True,
        ),
        (JOB, made(labels=OWNED), "status", {"conditions": [{"type": "Complete", "status": "True"}]}, True),
    ],
)
def test_what_changed(kind, before, path, value, wakes):
    waking = Waking()
    waking.woken(kind, "ADDED", before)
    assert bool(waking.woken(kind, "MODIFIED", changed(before, path, value)).keys) is wakes


def test_a_repo_wakes_the_server_that_it_named_before():
    waking = Waking()
    waking.woken(REPO, "ADDED", repo())
    moved = repo(server={"name": "packages", "namespace": "shared"}, metadata={"generation": 2})
    assert waking.woken(REPO, "MODIFIED", moved).keys == {HOME, OTHER}
    assert waking.woken(REPO, "DELETED", moved).keys == {OTHER}
    assert waking.woken(REPO, "ADDED", repo()).keys == {HOME}


@pytest.mark.parametrize("event", ["ADDED", "MODIFIED", "DELETED"])
def test_credentials_wake_the_servers_of_their_namespace_alone(event):
    waking = Waking()
    waking.woken(REPO, None, repo("a"))
    waking.woken(REPO, None, repo("b", server={"name": "packages", "namespace": "shared"}))
    waking.woken(REPO, None, repo("c", namespace="web"))
    secret = made("team-a", labels=CREDENTIALS)
    assert waking.woken(SECRET, event, secret).keys == {HOME, OTHER}
    waking.woken(REPO, "DELETED", repo("b"))
    assert waking.woken(SECRET, event, changed(secret, "metadata.resourceVersion", "9")).keys == {HOME}
    waking.woken(REPO, "DELETED", repo("a"))
    assert waking.woken(SECRET, event, changed(secret, "metadata.resourceVersion", "10")).keys == set()


@pytest.mark.parametrize("event", ["ADDED", "MODIFIED", "DELETED", None])
def test_a_config_map_for_clients_wakes_the_servers_of_its_namespace_s_repos(event):
    waking = Waking()
    waking.woken(REPO, "ADDED", repo(server={"name": "packages", "namespace": "shared"}))
    config_map = made("clients", labels={"pywharf.dev/repo": "team-a"})
    assert waking.woken(CONFIG_MAP, event, config_map).keys == {OTHER}
    elsewhere = made("clients", "other", labels={"pywharf.dev/repo": "team-a"})
    assert waking.woken(CONFIG_MAP, event, elsewhere).keys == set()


def written(ours="", theirs="", data=None, name="x"):
    times = {MANAGER: ours, "kubectl": theirs}
    entries = [{"manager": manager, "time": time} for manager, time in times.items() if time]
    return made(name, labels=OWNED, data=data or {}, metadata={"managedFields": entries})


EARLY, LATE, LATER = "2026-11-27T10:00:00Z", "2026-11-27T10:00:05Z", "2026-11-27T10:00:06Z"


@pytest.mark.parametrize(
    ("events", "wakes"),
    [
        ([("ADDED", written(EARLY))], False),
        ([(None, written(LATE, EARLY))], False),
        ([("ADDED", written(theirs=EARLY))], True),
        ([("ADDED", written(EARLY, EARLY))], True),
        ([("ADDED", written(EARLY)), ("MODIFIED", written(LATE, data={"a": "b"}))], False),
        ([("ADDED", written(theirs=EARLY)), ("MODIFIED", written(LATE, EARLY, {"a": "b"}))], False),
        ([("ADDED", written(EARLY)), ("MODIFIED", written(EARLY, LATE, {"a": "b"}))], True),
        # An update that only removes fields gives its writer no new time.
        ([("ADDED", written(EARLY, data={"a": "b"})), ("MODIFIED", written(EARLY))], True),
        ([("ADDED", written(LATE, EARLY, {"a": "b"})), ("MODIFIED", written(LATE, EARLY))], True),
        # Also after a write of the operator that changed no field that counts.
        (
            [
                ("ADDED", written(EARLY, data={"a": "b"})),
                ("MODIFIED", written(LATE, data={"a": "b"})),
                ("MODIFIED", written(LATE)),
            ],
            True,
        ),
        # The API server whose clock is late writes for somebody else.
        ([("ADDED", written(LATER, EARLY)), ("MODIFIED", written(LATER, LATE, {"a": "b"}))], True),
        # Two writes of the operator in one second: one reconcile that finds nothing.
        ([("ADDED", written(EARLY)), ("MODIFIED", written(EARLY, data={"a": "b"}))], True),
        # An object that was evicted: nobody knows what its last event said.
        ([("MODIFIED", written(EARLY))], True),
        ([("ADDED", written(EARLY)), ("DELETED", written(EARLY)), ("ADDED", written(EARLY))], False),
    ],
)
def test_the_operator_s_own_writes_wake_nobody(events, wakes):
    waking = Waking()
    *before, last = [waking.woken(CONFIG_MAP, event, manifest) for event, manifest in events]
    assert bool(last.keys) is wakes
    assert len(before) == len(events) - 1


def test_a_namespace_wakes_the_servers_of_its_repos_when_its_labels_change():
    waking = Waking()
    waking.woken(REPO, None, repo(server={"name": "packages", "namespace": "shared"}))
    namespace = {"metadata": {"name": "ml", "uid": "1", "labels": {}, "resourceVersion": "1"}}
    assert waking.woken(NAMESPACE, "ADDED", namespace).keys == {OTHER}
    assert not waking.woken(NAMESPACE, "MODIFIED", changed(namespace, "metadata.resourceVersion", "2")).keys
    assert waking.woken(NAMESPACE, "MODIFIED", changed(namespace, "metadata.labels", {"a": "b"})).keys == {OTHER}
    other = changed(namespace, "metadata.name", "web")
    assert not waking.woken(NAMESPACE, "ADDED", other).keys


def test_a_second_listing_asks_for_everything_since_what_is_gone_has_no_event():
    waking = Waking()
    waking.woken(REPO, None, repo())
    again = waking.woken(REPO, None, repo())
    assert again.everything
    assert not again.keys
    assert not waking.woken(REPO, "MODIFIED", repo()).everything


def test_memory_is_freed_and_bounded(monkeypatch):
    monkeypatch.setattr(waking, "_MOST_REMEMBERED", 2)
    seen = Waking()
    for name in ("a", "b"):
        seen.woken(REPO, "ADDED", repo(name))
        seen.woken(REPO, "DELETED", repo(name))
    assert not any(vars(seen).values())
    for name in ("a", "b", "c"):
        seen.woken(CONFIG_MAP, "ADDED", made(name, labels=OWNED))
    assert seen.woken(CONFIG_MAP, "MODIFIED", made("c", labels=OWNED)).keys == set()
    assert seen.woken(CONFIG_MAP, "MODIFIED", made("a", labels=OWNED)).keys == {HOME}


def policy(*targets, name="company", namespace="ml", generation=1):
    refs = [{"kind": kind, "name": target} for kind, target in targets]
    return made(name, namespace, spec={"targetRefs": refs}, metadata={"generation": generation})


def test_a_policy_wakes_the_servers_of_its_targets():
    waking = Waking()
    waking.woken(REPO, "ADDED", repo("team-a", server={"name": "packages", "namespace": "shared"}))
    one = waking.woken(POLICY, "ADDED", policy(("PackageServer", "pywharf"), ("PackageRepo", "team-a")))
    assert one.keys == {HOME, OTHER}
    assert one.policies
    # Those that it no longer names must forget it.
    less = waking.woken(POLICY, "MODIFIED", policy(("PackageRepo", "team-a"), generation=2))
    assert less.keys == {HOME, OTHER}
    again = waking.woken(POLICY, "MODIFIED", policy(("PackageRepo", "team-a"), generation=2) | {"status": {"rules": 1}})
    assert again.keys == frozenset()
    assert not again.policies
    gone = waking.woken(POLICY, "DELETED", policy(("PackageRepo", "team-a"), generation=2))
    assert gone.keys == {OTHER}
    assert gone.policies


def test_a_policy_of_nothing_known_wakes_only_the_statuses():
    waking = Waking()
    for targets in ([("PackageRepo", "nobody")], [("Pod", "pywharf")], [("PackageServer", 7)]):
        woken = waking.woken(POLICY, "ADDED", policy(*targets, name=str(targets)))
        assert woken.keys == frozenset()
        assert woken.policies
    odd = made("odd", spec={"targetRefs": "all"})
    assert waking.woken(POLICY, "ADDED", odd).keys == frozenset()
