"""The metadata of a server's objects."""

from collections.abc import Mapping
from typing import Any

from pywharf_operator.spec import PackageRepo, PackageServer
from pywharf_operator.spec.names import COMPONENT_LABEL, MANAGED_BY_LABEL, MANAGER, SERVER_LABEL, Component

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""


def object_name(server: PackageServer, suffix: str = "") -> str:
    """Return `<server>` or `<server>-<suffix>`."""
    return f"{server.key.name}-{suffix}" if suffix else server.key.name


def selector(server: PackageServer, component: Component = "server") -> dict[str, str]:
    """Return the labels that select a server's pods. They never change: a Deployment's selector is immutable."""
    return selector_of(server.key.name, component)


def selector_of(server: str, component: Component = "server") -> dict[str, str]:
    """Return the labels that select the pods of the server with this name."""
    return {
        "app.kubernetes.io/name": "pywharf",
        "app.kubernetes.io/instance": server,
        COMPONENT_LABEL: component,
    }


def labels(server: PackageServer, component: Component = "server") -> dict[str, str]:
    """Return our own labels, which every object and pod of a server has."""
    return {
        **selector(server, component),
        "app.kubernetes.io/part-of": "pywharf",
        MANAGED_BY_LABEL: MANAGER,
        SERVER_LABEL: server.key.name,
    }


def pod_metadata(
    server: PackageServer,
    given: Manifest,
    component: Component = "server",
    extra_labels: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the metadata of a pod template.

    `given` overrides the server's own labels and annotations. Our labels override both; `extra_labels` are ours.
    """
    made: Manifest = {
        "labels": {
            **server.spec.labels,
            **(given.get("labels") or {}),
            **(extra_labels or {}),
            **labels(server, component),
        }
    }
    if annotations := {**server.spec.annotations, **(given.get("annotations") or {})}:
        made["annotations"] = annotations
    return made


def metadata(  # noqa: PLR0913 - all but the first are options
    server: PackageServer,
    suffix: str = "",
    *,
    component: Component = "server",
    extra_labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owned: bool = True,
) -> Manifest:
    """Return the name, namespace, labels, annotations and owner of the object `<server>` or `<server>-<suffix>`.

    Every object also has the server's own labels and annotations. The caller's override them, and ours override both.
    With `owned` the object is deleted with the server, if the server has a uid: one that was read from a folder has
    none.
    """
    made: Manifest = {
        "name": object_name(server, suffix),
        "namespace": server.key.namespace,
        "labels": {**server.spec.labels, **(extra_labels or {}), **labels(server, component)},
    }
    if annotations := {**server.spec.annotations, **(annotations or {})}:
        made["annotations"] = annotations
    if owned and server.metadata.uid is not None:
        made["ownerReferences"] = owner_references(server)
    return made


def owner_references(owner: PackageServer | PackageRepo) -> list[Manifest]:
    """Return the owner references that make the resource an object's controller."""
    return [
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.key.name,
            "uid": owner.metadata.uid,
            "controller": True,
        }
    ]
