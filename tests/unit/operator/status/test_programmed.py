"""Whether every replica serves a repo as it is currently specified."""

import re

import msgspec
import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.names import parse_repo_name
from pywharf.core.reports import Fault
from pywharf_operator.cluster.live import is_rolled_out
from pywharf_operator.render import Environment, Snapshot, render_server, resolve
from pywharf_operator.spec import PackageRepo, PackageServer, Secret
from pywharf_operator.status import programmed as module
from pywharf_operator.status.programmed import ConfigHistory, ReplicaReport, programmed, refused, too_old, unreachable
from support.operator.manifest_text import parsed

NAME = parse_repo_name("team-a")
OTHER = parse_repo_name("team-b")


def says(pod, digest, failure=None, **broken):
    faults = {name.replace("_", "-"): Fault(*fault) for name, fault in broken.items()}
    return ReplicaReport(pod=pod, digest=digest, broken=faults, failure=failure)


def history():
    """Build a history of three configurations: the second changed only the other repo, the third this one."""
    made = ConfigHistory()
    made.remember("one", {NAME: "a1", OTHER: "b1"})
    made.remember("two", {NAME: "a1", OTHER: "b2"})
    made.remember("three", {NAME: "a2", OTHER: "b2"})
    return made


BROKEN = ("storage", "no\nsuch folder\x1b[31m")


@pytest.mark.parametrize(
    ("content", "reports", "reason", "message"),
    [
        ("a2", [], "NoReadyReplica", "No replica of the server is ready"),
        ("a2", [says("p", "three")], "Programmed", "Every ready replica serves"),
        ("a2", [says("p", "three"), says("q", "three")], "Programmed", "Every ready replica serves"),
        ("a2", [says("p", "three"), says("q", "two")], "Waiting", "1 of 2 ready replicas"),
        ("a2", [says("p", "one"), says("q", "two")], "Waiting", "0 of 2 ready replicas"),
        ("a1", [says("p", "one"), says("q", "two")], "Programmed", "Every ready replica serves"),
        ("a1", [says("p", "three")], "Waiting", "0 of 1"),
        ("a2", [says("p", "unknown")], "Waiting", "0 of 1"),
        ("a2", [says("p", None)], "Waiting", "0 of 1"),
        ("a2", [says("p", "three"), says("q", None, "it answered 500")], "Waiting", "1 of 2 .* q: it answered 500\\."),
        ("a2", [says("p", "three", team_a=BROKEN)], "BrokenOnReplica", "Replica p cannot serve it: no such folder \\["),
        ("a2", [says("p", "three"), says("q", "three", team_a=BROKEN)], "BrokenOnReplica", "Replica q"),
        ("a2", [says("p", "two"), says("q", "three", team_a=BROKEN)], "BrokenOnReplica", "Replica q"),
        ("a2", [says("p", "two", team_a=BROKEN), says("q", "three")], "Waiting", "1 of 2"),
        ("a2", [says("p", "three", team_b=BROKEN)], "Programmed", "Every ready replica serves"),
        ("a2", [says("p", "three", team_a=("data-owned-by-other", "ml/x has it"))], "DataOwnedByOther", "ml/x has it"),
    ],
)
def test_programmed(content, reports, reason, message):
    finding = programmed(NAME, content, reports, history())
    assert (finding.status, finding.reason) == (reason == "Programmed", reason)
    assert re.search(message, finding.message)


def test_a_repo_that_was_in_no_older_configuration():
    made = history()
    new = parse_repo_name("new")
    made.remember("four", {NAME: "a2", OTHER: "b2", new: "n"})
    assert programmed(new, "n", [says("p", "three")], made).reason == "Waiting"
    assert programmed(NAME, "a2", [says("p", "three")], made).reason == "Programmed"


def test_words_of_a_replica_are_bounded():
    finding = programmed(NAME, "a2", [says("p", "three", team_a=("x", "y" * 5000))], history())
    assert len(finding.message) < 400


def test_replicas_that_know_no_policies_are_named():
    reports = [says("p", "three"), msgspec.structs.replace(says("q", "two"), knows_policies=False)]
    finding = too_old(reports)
    assert finding is not None
    assert programmed(NAME, "a2", reports, history(), old=finding) == finding
    assert (finding.reason, finding.status) == ("ImageTooOld", False)
    assert re.search(r"^1 of 2 ready replicas know no policies \(the first is q\).*Set spec\.image", finding.message)
    assert programmed(NAME, "a1", [says("q", "two")], history(), old=finding).reason == "Programmed"
    away = unreachable([lost("q")])
    assert programmed(NAME, "a2", reports, history(), lost=away, old=finding) == away
    assert too_old(reports, policies=False) is None
    assert too_old(reports[:1]) is None
    assert too_old([]) is None


def test_replicas_that_know_no_access_entries_are_named():
    reports = [says("p", "three"), msgspec.structs.replace(says("q", "two"), knows_access=False)]
    finding = too_old(reports, policies=False)
    assert finding is not None
    assert (finding.reason, finding.status) == ("ImageTooOld", False)
    assert finding.message.startswith("1 of 2 ready replicas know no access entries (the first is q), so they refuse")
    assert too_old(reports, access=False) is None


def test_replicas_that_refuse_the_configuration_say_why():
    """So do those that know policies and access entries, and not a field that is newer."""
    why = "config.toml: unknown field `novel`\n" + "x" * 5000
    reports = [says("p", "three"), msgspec.structs.replace(says("q", "two"), refused=why)]
    finding = refused(reports)
    assert finding is not None
    assert (finding.reason, finding.status) == ("ConfigRefused", False)
    assert re.search(r"^1 of 2 ready replicas refuse .* \(q: config.toml: unknown field `novel` xxx", finding.message)
    assert "set it to a newer one" in finding.message
    assert len(finding.message) < 700
    assert programmed(NAME, "a2", reports, history(), old=finding) == finding
    assert programmed(NAME, "a1", [reports[1]], history(), old=finding).reason == "Programmed"
    assert refused(reports[:1]) is None


@pytest.mark.parametrize(
    ("generation", "status", "expected"),
    [
        (2, {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3}, True),
        (2, {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3}, False),
        (2, {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2}, False),
        (2, {"observedGeneration": 2, "replicas": 3}, False),
        (2, {"observedGeneration": 2}, False),
        (2, None, False),
    ],
)
def test_whether_every_pod_is_of_the_newest_template(generation, status, expected):
    assert is_rolled_out({"metadata": {"generation": generation}, "status": status}) == expected
    assert not is_rolled_out(None)


def test_the_history_is_bounded_and_a_repeated_entry_becomes_the_newest(monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    made = history()
    assert made.content("one", NAME) is None
    made.remember("two", {NAME: "a1", OTHER: "b2"})
    made.remember("four", {NAME: "a3"})
    assert made.content("three", NAME) is None
    assert made.content("two", NAME) == "a1"
    assert made.content(None, NAME) is None


REPO = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {{name: {name}, namespace: ml}}
spec:
  backend: {{fileSystem: {{maxFileBytes: {size}}}}}
  credentials: {{readSecretRef: {{name: {name}, key: r}}, writeSecretRef: {{name: {name}, key: w}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: ml, labels: {{pywharf.dev/credentials: "true"}}}}
stringData: {{r: {read}, w: {write}}}
---
"""
SERVER = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf, namespace: ml}
spec: {storage: {size: 1Gi}}
"""
SECRET = "a-secret-value"


def contents(key=b"k", **team_a):
    text = REPO.format(name="team-b", size=5, read="other", write="value") + SERVER
    text += "---" + REPO.format(**({"name": "team-a", "size": 9, "read": SECRET, "write": "w-value"} | team_a))
    found = parsed(text, "ml")
    assert not found.problems
    repos, servers, secrets = (tuple(found.of(kind)) for kind in (PackageRepo, PackageServer, Secret))
    snapshot = Snapshot(repos=repos, servers=servers, secrets=secrets)
    environment = Environment(specs={"file_system": FileSystemSpec}, image="x:1", session_key=key)
    return render_server(resolve(snapshot, environment).servers[0], environment).contents


@pytest.mark.parametrize("change", [{"read": "another"}, {"write": "another"}, {"size": 10}])
def test_a_content_changes_with_its_repo_alone(change):
    before, after = contents(), contents(**change)
    assert before[NAME] != after[NAME]
    assert before[OTHER] == after[OTHER]
    assert contents() == before


def test_contents_reveal_nothing_of_a_secret():
    assert contents()[NAME] != contents(b"another key")[NAME]
    assert SECRET not in str(contents())


def lost(pod, why="it did not answer (TimeoutError)"):
    return ReplicaReport(pod=pod, digest=None, broken={}, failure=why, reached=False)


def test_replicas_that_cannot_be_reached():
    reports = [says("p", "three"), lost("q")]
    finding = unreachable(reports)
    assert finding is not None
    assert finding.reason == "ReplicasUnreachable"
    for words in ("1 of 2", "q: it did not answer (TimeoutError)", "9090", "NetworkPolicies", "excludeInboundPorts"):
        assert words in finding.message
    assert programmed(NAME, "a2", reports, history(), lost=finding) == finding
    assert programmed(NAME, "a2", reports, history()).reason == "Waiting"
    assert unreachable([says("p", "three"), says("q", None, "its answer cannot be read")]) is None
    # A fault that a replica itself reports comes first.
    broken = [says("p", "three", team_a=BROKEN), lost("q")]
    assert programmed(NAME, "a2", broken, history(), lost=unreachable(broken)).reason == "BrokenOnReplica"
