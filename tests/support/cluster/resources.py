"""PackageRepos, PackageServers and their Secrets on a real API server: creating them and reading their state."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from support.cluster.kube_client import Json, KubeClient
from support.operator.operating import Operator
from support.waiting import wait_for

API = "/apis/pywharf.dev/v1alpha1"
SERVER_NAME = "pywharf"
YEARLY = "0 0 1 1 *"


def path(plural: str, namespace: str, name: str | None = None, group: str = API) -> str:
    """Return the path of an object, or of the list if there is no name."""
    return f"{group}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def secret(name: str, **values: str) -> Json:
    """Return a Secret with the credentials label."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"pywharf.dev/credentials": "true"}},
        "stringData": values,
    }


def secret_of(repo: str) -> Json:
    """Return the Secret that `repo()` refers to, with values that no other repo has."""
    return secret(repo, read=f"{repo}-read-value", write=f"{repo}-write-value")


def repo(name: str, **spec: Any) -> Json:
    """Return a fileSystem repo whose Secret has the repo's name; `spec` replaces fields.

    Its schedule comes once a year: with the default one, a Job may appear in any test that runs at that minute.
    """
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageRepo",
        "metadata": {"name": name},
        "spec": {
            "backend": {"fileSystem": {}},
            "credentials": {
                "readSecretRef": {"name": name, "key": "read"},
                "writeSecretRef": {"name": name, "key": "write"},
            },
            "upstream": {"mode": "None"},
            "index": {"schedule": YEARLY},
            **spec,
        },
    }


def server(name: str = SERVER_NAME, **spec: Any) -> Json:
    """Return a server with a volume; `spec` replaces fields."""
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackageServer",
        "metadata": {"name": name},
        "spec": {"storage": {"size": "1Gi"}, "upstream": {"mode": "None"}, **spec},
    }


def policy(name: str, *targets: Json, **spec: Any) -> Json:
    """Return a policy about these targets; without any, about the server of the default name."""
    refs = list(targets) or [{"kind": "PackageServer", "name": SERVER_NAME}]
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackagePolicy",
        "metadata": {"name": name},
        "spec": {"targetRefs": refs, **spec},
    }


_PLURALS = {
    "PackagePolicy": ("packagepolicies", API),
    "PackageRepo": ("packagerepos", API),
    "PackageServer": ("packageservers", API),
    "Secret": ("secrets", "/api/v1"),
    "ConfigMap": ("configmaps", "/api/v1"),
}


def apply(kube: KubeClient, namespace: str, *objects: Json, manager: str = "tests") -> list[Json]:
    """Apply objects server-side, as kubectl and GitOps tools do."""
    made = []
    for one in objects:
        plural, group = _PLURALS[one["kind"]]
        made.append(kube.apply(path(plural, namespace, one["metadata"]["name"], group), one, manager, force=True))
    return made


def get_repo(kube: KubeClient, namespace: str, name: str) -> Json | None:
    return kube.get(path("packagerepos", namespace, name))


def get_server(kube: KubeClient, namespace: str, name: str = SERVER_NAME) -> Json | None:
    return kube.get(path("packageservers", namespace, name))


def condition(found: Mapping[str, Any] | None, kind: str) -> Json:
    """Return one condition of an object; empty if there is none."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def wait_for_condition(
    kube: KubeClient,
    where: str,
    kind: str,
    status: str,
    *,
    reason: str | None = None,
    longest_s: float = 60.0,
) -> Json:
    """Wait until the object at that path has the condition for its current generation; returns the object."""

    def holds(live: Json) -> bool:
        found = condition(live, kind)
        current = found.get("observedGeneration") == live.get("metadata", {}).get("generation")
        return bool(current and found.get("status") == status and reason in {None, found.get("reason")})

    return wait_for_object(kube, where, holds, f"{kind}={status} ({reason or 'any reason'})", longest_s=longest_s)


def wait_for_object(
    kube: KubeClient, where: str, holds: Callable[[Json], bool], what: str, *, longest_s: float = 60.0
) -> Json:
    """Wait until `holds` is true of the object at that path, empty if there is none; returns the object.

    A failure says the status that the object had last.
    """
    last: Json = {}

    def found() -> Json:
        nonlocal last
        last = kube.get(where) or {}
        return last if holds(last) else {}

    try:
        return wait_for(found, f"{what} of {where}", longest_s=longest_s)
    except AssertionError as error:
        shown = json.dumps(last.get("status"), indent=1)
        raise AssertionError(f"{error}; its status was {shown}") from None


def config_text(kube: KubeClient, namespace: str, name: str = SERVER_NAME) -> str:
    """Return the configuration in the server's ConfigMap; empty if there is none."""
    found = kube.get(path("configmaps", namespace, f"{name}-config", "/api/v1"))
    return str(((found or {}).get("data") or {}).get("config.toml", ""))


def wait_for_config(kube: KubeClient, namespace: str, *repos: str, longest_s: float = 60.0) -> str:
    """Wait until the configuration has exactly these repos; returns it."""

    def fits() -> str:
        text = config_text(kube, namespace)
        names = {line.strip("[]") for line in text.splitlines() if line.startswith("[") and "." not in line}
        return text if names == set(repos) else ""

    return wait_for(fits, f"a configuration with the repos {sorted(repos)} in {namespace}", longest_s=longest_s)


def settled(kube: KubeClient, namespace: str, operator: Operator, name: str = SERVER_NAME) -> None:
    """Wait until the server is accepted and the operator's queue is empty."""
    wait_for_condition(kube, path("packageservers", namespace, name), "Accepted", "True")
    wait_for(lambda: operator.metric("pywharf_operator_queue_depth") == 0, "an empty queue", longest_s=60.0)
