"""What `up` serves from a folder."""

from datetime import UTC, datetime, timedelta

import pytest

from pywharf.config.cache_config import DEFAULT_MAX_BYTES
from pywharf.config.repo_config import FileSystemSpec
from pywharf.config.settings import DEFAULT_EXTRA_INDEX_URL
from pywharf_operator.local.up.plan import plan
from pywharf_operator.render import Environment
from pywharf_operator.render.pod.server_flags import flags_of
from pywharf_operator.spec import ObjectKey
from support.operator.manifest_text import parsed

ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec})
REPO = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: NAME, namespace: NAMESPACE}
spec: {backend: {fileSystem: {}}, credentials: {anonymousRead: true, readOnly: true}EXTRA}
---
"""
SERVER = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: NAME, namespace: central}
spec: {storage: {size: 1Gi}EXTRA}
---
"""


def repo(name, namespace="default", extra=""):
    return REPO.replace("NAMESPACE", namespace).replace("NAME", name).replace("EXTRA", extra)


def server(name, extra=""):
    return SERVER.replace("NAME", name).replace("EXTRA", extra)


def planned(*texts, first_seen=None):
    found = parsed("".join(texts))
    return plan(found, ENVIRONMENT, "default", first_seen or {})


def served(made):
    return [verdict.name for verdict in made.verdict.repos]


def test_without_a_server_every_repo_is_served():
    repos = [repo("a"), repo("b", "ml"), repo("c", "web", ", serverRef: {name: x, namespace: y}")]
    made = planned(*repos, repo("d", extra=", upstream: {url: 'http://localhost:1/'}"))
    assert served(made) == ["a", "b", "c", "d"]
    assert made.problems == made.notes == ()


def test_an_empty_folder():
    assert served(planned("")) == []


def test_a_server_takes_repos_of_every_namespace_that_mean_it():
    made = planned(
        server("pywharf"),
        repo("a", "central"),
        repo("b", "ml"),
        repo("c", "ml", ", serverRef: {namespace: central}"),
        repo("d", "ml", ", serverRef: {namespace: elsewhere}"),
        repo("e", "ml", ", serverRef: {name: other}"),
    )
    assert served(made) == ["a", "b", "c"]
    assert [problem.split(":")[0] for problem in made.problems] == ["PackageRepo ml/d", "PackageRepo ml/e"]


@pytest.mark.parametrize(
    ("servers", "chosen"),
    [(["other"], "other"), (["another", "pywharf", "zebra"], "pywharf"), (["b", "a"], "a")],
    ids=["only", "named", "first"],
)
def test_one_server_is_served_and_the_others_are_reported(servers, chosen):
    made = planned(*map(server, servers))
    assert made.verdict.server.key == ObjectKey("central", chosen)
    assert made.notes == tuple(
        f"PackageServer central/{name} and its repos are not served: `up` serves one server, here central/{chosen}."
        for name in sorted(set(servers) - {chosen})
    )


def test_the_same_rules_as_in_a_cluster():
    made = planned(server("pywharf").replace("storage: {size: 1Gi}", ""), repo("a"))
    assert served(made) == []
    assert "StorageMissing" in made.problems[0]


def test_the_repo_that_was_there_first_keeps_the_name():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    texts = [repo("a", extra=", repoName: x"), repo("b", extra=", repoName: x")]
    first_seen = {ObjectKey("default", "b"): now, ObjectKey("default", "a"): now + timedelta(seconds=1)}
    made = planned(*texts, first_seen=first_seen)
    assert [str(verdict.repo.key) for verdict in made.verdict.repos] == ["default/b"]
    assert "(NameConflict)" in made.problems[0]


def test_flags():
    made = planned(server("pywharf", ", authReadExpires: 1, authWriteExpires: 2"))
    flags = flags_of(made.verdict.server)
    assert (flags.auth_read_expires, flags.auth_write_expires) == (1, 2)
    assert flags.extra_index_url == DEFAULT_EXTRA_INDEX_URL
    off = planned(server("pywharf", ", upstream: {mode: None}")).verdict.server
    assert flags_of(off).extra_index_url == ""


def test_a_note_says_that_tls_has_no_effect():
    made = planned(server("pywharf", ", tls: {secretRef: {name: a}}"))
    assert made.notes == ("PackageServer central/pywharf: spec.tls has no effect in `up`, which serves plain HTTP.",)


POLICY = """
apiVersion: pywharf.dev/v1alpha1
kind: PackagePolicy
metadata: {name: company, namespace: NAMESPACE}
spec: {targetRefs: [{kind: PackageServer, name: NAME}], deny: [{project: a}]}
---
"""


def policy(namespace, name="pywharf"):
    return POLICY.replace("NAMESPACE", namespace).replace("NAME", name)


@pytest.mark.parametrize(
    ("server_texts", "policy_text", "expected"),
    [
        ([], policy("ml"), ("a", "b")),
        ([], policy("central", "other"), ("c",)),
        ([], policy("default"), None),
        ([server("pywharf")], policy("ml"), ("a", "b")),
        ([server("pywharf")], policy("central"), None),
    ],
    ids=["implied", "implied, of another namespace", "implied, by its own name", "re-aimed repos", "the folder's own"],
)
def test_a_policy_holds_for_the_repos_that_mean_its_server(server_texts, policy_text, expected):
    """None: every repo of the server, so that a repo that comes later has it, too."""
    repos = [
        repo("a", "ml"),
        repo("b", "ml"),
        *([] if server_texts else [repo("c", "ml", ", serverRef: {name: other, namespace: central}")]),
        repo("d", "central" if server_texts else "web"),
    ]
    made = planned(*server_texts, *repos, policy_text)
    assert made.problems == ()
    assert [one.repos for one in made.verdict.policies] == [expected]


def test_a_policy_for_a_server_that_no_repo_means_is_reported():
    made = planned(repo("a", "ml"), policy("web"))
    assert made.verdict.policies == ()
    assert ["TargetNotFound" in one for one in made.problems] == [True]


def test_there_is_a_cache_without_a_word_about_it():
    made = planned(server("pywharf"), repo("a", extra=", upstream: {mode: Cached}"))
    assert (served(made), made.problems, made.notes) == (["a"], (), ())
    made = planned(repo("a", extra=", upstream: {mode: Cached, sources: [{url: 'http://127.0.0.1:9/simple/'}]}"))
    assert (served(made), made.problems) == (["a"], ())


@pytest.mark.parametrize(
    ("cache", "limits"),
    [
        ("", {"max_bytes": DEFAULT_MAX_BYTES}),
        (", cache: {s3: {bucket: abc}}", {"max_bytes": DEFAULT_MAX_BYTES}),
        (", cache: {s3: {bucket: abc}, maxBytes: 5, keepPages: 2d}", {"max_bytes": 5, "keep_pages": 172_800}),
        (", cache: {fileSystem: {size: 1000}}", {"max_bytes": 800}),
        (
            ", cache: {fileSystem: {existingClaim: abc}, keepPages: 2h}",
            {"max_bytes": DEFAULT_MAX_BYTES, "keep_pages": 7200},
        ),
    ],
)
def test_of_a_cache_only_its_limits_count(cache, limits):
    made = planned(server("pywharf", cache))
    given = made.verdict.server.spec.cache
    assert given is not None
    assert given.limits_table() == limits
    assert made.verdict.accepted.status is True
    expected = ("of spec.cache only maxBytes and keepPages have an effect in `up`",) if cache else ()
    assert [any(words in note for note in made.notes) for words in expected] == [True] * len(expected)


REPLICAS = ", replicas: 2, storage: {size: 1Gi, accessModes: [ReadWriteMany]}"


@pytest.mark.parametrize(
    ("cache", "problem"),
    [
        ("", None),
        (", cache: {s3: {bucket: abc}}", None),
        (", cache: {fileSystem: {size: 1Gi, accessModes: [ReadWriteMany]}}", None),
        (", cache: {fileSystem: {size: 1Gi}}", "StorageNotShared"),
        (", cache: {fileSystem: {existingClaim: abc}}", "StorageNotShared"),
        (", cache: {fileSystem: {size: 10, accessModes: [ReadWriteMany]}, maxBytes: 11}", "CacheVolumeTooSmall"),
    ],
    ids=["none", "bucket", "shared volume", "volume", "claim", "too small"],
)
def test_a_cache_is_judged_as_in_a_cluster(cache, problem):
    """A server with several replicas is none with a fault because `up` has a cache of its own."""
    server_text = server("pywharf").replace("{storage: {size: 1Gi}", "{" + (REPLICAS + cache).removeprefix(", "))
    made = planned(server_text, repo("a", "central", ", upstream: {mode: Cached}"))
    assert served(made) == ["a"]
    assert [text for text in made.problems if problem is None or problem not in text] == []
    assert len(made.problems) == (problem is not None)


def test_what_needs_a_cluster_is_noted():
    made = planned(
        server("pywharf", ", identity: {serviceAccounts: TokenReview}"),
        repo("a", "central", ", clientConfig: {configMap: clients}"),
        repo("b", "central"),
    )
    assert made.problems == ()
    assert [note.partition(" has no effect in `up`")[0] for note in made.notes] == [
        "PackageRepo central/a: spec.clientConfig",
        "PackageServer central/pywharf: spec.identity.serviceAccounts: TokenReview",
    ]


def test_two_repos_of_one_namespace_cannot_have_one_config_map_for_clients():
    extra = ", clientConfig: {configMap: same}"
    old = datetime(2026, 1, 1, tzinfo=UTC)
    seen = {ObjectKey("ml", "a"): old + timedelta(days=1), ObjectKey("ml", "b"): old, ObjectKey("web", "c"): old}
    made = planned(repo("a", "ml", extra), repo("b", "ml", extra), repo("c", "web", extra), first_seen=seen)
    assert served(made) == ["a", "b", "c"]
    (problem,) = made.problems
    assert problem.startswith("PackageRepo ml/a: ClientConfigured is False (ObjectNotOwned): ConfigMap ml/same ")
    assert "PackageRepo b," in problem
    assert planned(repo("a", extra=", clientConfig: {configMap: x-config}")).problems != ()
