"""Secrets and namespaces: what a repo may name, how it is used, and that no secret value leaks."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from support.cluster.cluster import new_namespace
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    config_text,
    get_repo,
    path,
    repo,
    secret,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.operator.operating import ACCOUNT, RULES, grant, operating
from support.waiting import wait_for

CORE = "/api/v1"


def reason(kube: KubeClient, namespace: str, name: str, kind: str = "SecretsResolved") -> str:
    return str(condition(get_repo(kube, namespace, name), kind).get("reason"))


def credentials(kube: KubeClient, namespace: str) -> dict[str, str]:
    """Return the credentials that the server gets, without the revisions."""
    found = kube.get(path("secrets", namespace, "pywharf-credentials", CORE)) or {"data": {}}
    data = {key: base64.b64decode(value).decode() for key, value in found["data"].items()}
    return {key: value for key, value in data.items() if not key.startswith("revision-")}


def table(kube: KubeClient, namespace: str, name: str) -> str:
    """Return a repo's table of the configuration."""
    text = config_text(kube, namespace)
    return text.partition(f"[{name}]\n")[2].partition("\n\n[")[0]


BROKEN: dict[str, tuple[Json, str]] = {
    "the label is gone": ({"metadata": {"labels": {"pywharf.dev/credentials": None}}}, "SecretNotLabelled"),
    "the label says no": ({"metadata": {"labels": {"pywharf.dev/credentials": "false"}}}, "SecretNotLabelled"),
    "a key is gone": ({"data": {"read": None}}, "SecretKeyMissing"),
    "a value is empty": ({"data": {"read": ""}}, "SecretInvalid"),
    "a value is no text": ({"data": {"read": base64.b64encode(b"\xff\xfe").decode()}}, "SecretInvalid"),
    "a value is huge": ({"data": {"read": base64.b64encode(b"x" * 17_000).decode()}}, "SecretInvalid"),
}


def test_a_wrong_secret_affects_no_other_repo(cluster, kube, namespace, tmp_path):
    """OPERATOR test 7, and every other fault of a Secret: it affects its own repo alone, until it is fixed."""
    apply(kube, namespace, server(), *map(secret_of, ("team-a", "team-b")), repo("team-a"), repo("team-b"))
    where = path("secrets", namespace, "team-a", CORE)
    with operating(tmp_path, grant(cluster, namespace), namespace) as operator:
        wait_for_config(kube, namespace, "team-a", "team-b")
        other = table(kube, namespace, "team-b"), {k: v for k, v in credentials(kube, namespace).items() if "-b." in k}
        assert other[1] == {"team-b.read": "team-b-read-value", "team-b.write": "team-b-write-value"}
        changes: dict[str, tuple[Json | None, str]] = {"it is deleted": (None, "SecretNotFound"), **BROKEN}
        for what, (change, expected) in changes.items():
            if change is None:
                kube.delete(where)
            else:
                kube.patch(where, change)
            of_repo = path("packagerepos", namespace, "team-a")
            found = wait_for_condition(kube, of_repo, "SecretsResolved", "False", reason=expected)
            assert condition(found, "Ready")["status"] == "False", what
            assert f"Secret {namespace}/team-a" in condition(found, "Ready")["message"], what
            wait_for_config(kube, namespace, "team-b")
            assert table(kube, namespace, "team-b") == other[0], what
            wait_for(lambda: credentials(kube, namespace) == other[1], f"team-b's credentials alone: {what}")
            kube.delete(where)
            apply(kube, namespace, secret_of("team-a"))
            wait_for_condition(kube, of_repo, "SecretsResolved", "True")
            wait_for_config(kube, namespace, "team-a", "team-b")
        operator.secrets |= set(credentials(kube, namespace).values())


def test_a_name_passes_on_only_when_its_holder_is_gone(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("older"), secret_of("younger"))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        apply(kube, namespace, repo("older", repoName="team"))
        wait_for_config(kube, namespace, "team")
        # Creation times have a resolution of one second. Of equal ones, the first by name counts as older.
        apply(kube, namespace, repo("younger", repoName="team"))
        where = path("packagerepos", namespace, "younger")
        found = wait_for_condition(kube, where, "Accepted", "False", reason="NameConflict")
        assert f"{namespace}/older" in condition(found, "Accepted")["message"]
        assert reason(kube, namespace, "older", "Accepted") == "Accepted"
        assert credentials(kube, namespace)["team.read"] == "older-read-value"
        kube.delete(path("secrets", namespace, "older", CORE))  # a broken holder keeps the name
        wait_for_condition(kube, path("packagerepos", namespace, "older"), "SecretsResolved", "False")
        assert reason(kube, namespace, "younger", "Accepted") == "NameConflict"
        kube.delete(path("packagerepos", namespace, "older"))
        wait_for_condition(kube, where, "Accepted", "True")
        wait_for(lambda: credentials(kube, namespace).get("team.read") == "younger-read-value", "its own credentials")
        assert f'owner = "{namespace}/younger"' in table(kube, namespace, "team")


def test_only_its_own_namespaces_are_watched(cluster, kube, namespace, tmp_path):
    """OPERATOR test 9: the Role is in one namespace; the server is in another, which nobody watches."""
    elsewhere = new_namespace(kube)
    try:
        apply(kube, elsewhere, server(), secret_of("team-a"))
        ref = {"name": "pywharf", "namespace": elsewhere}
        apply(kube, namespace, secret_of("team-a"), repo("team-a", serverRef=ref))
        with operating(tmp_path, grant(cluster, namespace), namespace) as operator:
            where = path("packagerepos", namespace, "team-a")
            found = wait_for_condition(kube, where, "Accepted", "False", reason="ServerNotFound")
            message = condition(found, "Accepted")["message"]
            assert f"{elsewhere}/pywharf" in message
            assert f"does not look after the namespace {elsewhere}" in message
            assert not config_text(kube, elsewhere)
            assert "Forbidden" not in operator.text()
        user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
        for rule in RULES:
            if rule["apiGroups"][0] in {"gateway.networking.k8s.io", "monitoring.coreos.com"}:
                continue  # this cluster lacks these kinds
            plural, _, subresource = rule["resources"][0].partition("/")
            kind = f"{plural}.{rule['apiGroups'][0]}".rstrip(".")
            asked = ["auth", "can-i", rule["verbs"][0], kind, f"--subresource={subresource}", f"--as={user}"]
            assert can(cluster, [*asked, f"--namespace={namespace}"]) == "yes", asked
            assert can(cluster, [*asked, f"--namespace={elsewhere}"]) == "no", asked
    finally:
        kube.delete(f"/api/v1/namespaces/{elsewhere}")


def can(cluster: Any, asked: list[str]) -> str:
    try:
        return str(cluster.kubectl(*asked)).strip()
    except AssertionError:  # kubectl exits with 1 if the answer is no
        return "no"


def test_selector_needs_all_namespaces(cluster, kube, namespace, tmp_path):
    allowed = {"from": "Selector", "selector": {"matchLabels": {"team": "yes"}}}
    apply(kube, namespace, server(allowedNamespaces=allowed))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        where = path("packageservers", namespace, "pywharf")
        wait_for_condition(kube, where, "Accepted", "False", reason="NamespacesNotWatched")


@pytest.mark.timeout(180)
def test_both_sides_agree(own_cluster, tmp_path):
    """A repo in another namespace, with all namespaces watched: Same, All, and a Selector whose labels change.

    It needs its own control plane: on the shared one the operator would reconcile every other test's namespace.
    """
    kube = own_cluster.client()
    namespace, team = new_namespace(kube), new_namespace(kube)
    ref = {"name": "pywharf", "namespace": namespace}
    apply(kube, namespace, server(), secret("team-a", read="not-this-one", write="nor-this"))
    apply(kube, team, secret_of("team-a"), repo("team-a", serverRef=ref))
    where = path("packagerepos", team, "team-a")
    with operating(tmp_path / "operator", grant(own_cluster, namespace, cluster_wide=True)):
        wait_for_condition(kube, where, "Accepted", "False", reason="NamespaceNotAllowed")
        apply(kube, namespace, server(allowedNamespaces={"from": "All"}))
        wait_for_condition(kube, where, "Accepted", "True")
        wait_for_config(kube, namespace, "team-a")
        # The Secret comes from the repo's own namespace, never the server's.
        assert credentials(kube, namespace)["team-a.read"] == "team-a-read-value"
        selector = {"from": "Selector", "selector": {"matchLabels": {"team": "yes"}}}
        apply(kube, namespace, server(allowedNamespaces=selector))
        wait_for_condition(kube, where, "Accepted", "False", reason="NamespaceNotAllowed")
        wait_for(lambda: "[team-a]" not in config_text(kube, namespace), "the repo out of the configuration")
        kube.patch(f"/api/v1/namespaces/{team}", {"metadata": {"labels": {"team": "yes"}}})
        wait_for_condition(kube, where, "Accepted", "True")
        kube.patch(f"/api/v1/namespaces/{team}", {"metadata": {"labels": {"team": None}}})
        wait_for_condition(kube, where, "Accepted", "False", reason="NamespaceNotAllowed")
    kube.close()


REFUSED: dict[str, tuple[Json, str]] = {
    "a host that is not listed": (
        {"upstream": {"mode": "Pages", "url": "https://index.example.com/simple/"}},
        "EndpointNotAllowed",
    ),
    "the cloud's metadata": (
        {"upstream": {"mode": "Pages", "url": "http://169.254.169.254/simple/"}},
        "EndpointNotAllowed",
    ),
    "a store that is not listed": (
        {
            "backend": {"s3": {"bucket": "wheels", "endpoint": "https://minio.storage.svc:9000"}},
            "credentials": {
                "readSecretRef": {"name": "refused", "key": "read"},
                "writeSecretRef": {"name": "refused", "key": "write"},
                "backendSecretRef": {"name": "refused", "key": "read"},
            },
        },
        "EndpointNotAllowed",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_server_does_not_take(cluster, kube, namespace, tmp_path, what):
    spec, expected = REFUSED[what]
    apply(kube, namespace, server(), secret_of("good"), repo("good"), secret_of("refused"), repo("refused", **spec))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        wait_for_condition(kube, path("packagerepos", namespace, "refused"), "Accepted", "False", reason=expected)
        wait_for_condition(kube, path("packagerepos", namespace, "good"), "Accepted", "True")
        wait_for_config(kube, namespace, "good")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"storage": None}, "StorageMissing"),
        ({"replicas": 2}, "StorageNotShared"),
    ],
)
def test_storage_that_does_not_fit(cluster, kube, namespace, tmp_path, fields, expected):
    wanted = server(**fields)
    wanted["spec"] = {key: value for key, value in wanted["spec"].items() if value is not None}
    apply(kube, namespace, wanted, secret_of("team-a"), repo("team-a"))
    kind = "packagerepos" if expected == "StorageMissing" else "packageservers"
    where = path(kind, namespace, "team-a" if kind == "packagerepos" else "pywharf")
    with operating(tmp_path, grant(cluster, namespace), namespace):
        wait_for_condition(kube, where, "Accepted", "False", reason=expected)


def test_no_value_is_revealed_anywhere(cluster, kube, namespace, tmp_path):
    """No secret value is in an object other than a Secret, nor in an Event, log, metric, argument or environment."""
    values = {
        "team-a": {"read": "s3cr3t/read+a&b=c", "write": "s3cr3t-write-ä"},
        "team-b": {"read": "s3cr3t-b-read", "write": "s3cr3t-b-write"},
        "wrong": {"write": "s3cr3t-of-a-wrong-one"},
    }
    apply(kube, namespace, server(), *(secret(name, **given) for name, given in values.items()))
    apply(kube, namespace, *(repo(name) for name in values))
    texts = {value for given in values.values() for value in given.values()}
    forms = {
        form
        for text in texts
        for form in (text, quote(text), quote(text, safe=""), base64.b64encode(text.encode()).decode().rstrip("="))
    }
    with operating(tmp_path, grant(cluster, namespace), namespace, flags=["--debug"]) as operator:
        operator.secrets |= forms
        wait_for_config(kube, namespace, "team-a", "team-b")
        wait_for_condition(kube, path("packagerepos", namespace, "wrong"), "SecretsResolved", "False")
        kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        assert "configmaps" in kinds
        assert "events" in kinds
        outputs: dict[str, str] = {"metrics": operator.get("/metrics")[1], "healthz": operator.get("/healthz")[1]}
        for kind in kinds:
            if kind != "secrets":
                outputs[kind] = cluster.kubectl("get", kind, f"--namespace={namespace}", "--output=json")
        process = f"/proc/{operator.process.pid}"
        for name in ("cmdline", "environ"):
            with open(f"{process}/{name}", "rb") as file:  # noqa: PTH123 - /proc
                outputs[name] = file.read().decode(errors="replace")
        for where, text in outputs.items():
            plain = text + json.dumps(text)
            # managedFields of the tests' own manager contain only the names of the fields that it set.
            shown = [form for form in forms if form in plain]
            assert not shown, f"{where} reveals {shown}"


def test_no_pod_has_a_token(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        cron_job = path("cronjobs", namespace, "pywharf-index-team-a", "/apis/batch/v1")
        deployment = path("deployments", namespace, "pywharf", "/apis/apps/v1")
        wait_for(lambda: kube.get(cron_job) and kube.get(deployment), "both")
        pods = [
            kube.get(deployment)["spec"]["template"]["spec"],
            kube.get(cron_job)["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        ]
        accounts = kube.list(path("serviceaccounts", namespace, group=CORE))
        own = {one["metadata"]["name"]: one for one in accounts if one["metadata"]["name"].startswith("pywharf")}
        for pod in pods:
            assert pod["automountServiceAccountToken"] is False
            assert own[pod["serviceAccountName"]]["automountServiceAccountToken"] is False
            assert not [one for one in pod.get("volumes", []) if "serviceAccountToken" in json.dumps(one)]
