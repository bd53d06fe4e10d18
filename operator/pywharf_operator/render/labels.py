"""The metadata of the objects made for a server."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pywharf_operator.spec import PackageServer

SERVER_LABEL: Final = "pywharf.dev/server"
REPO_LABEL: Final = "pywharf.dev/repo"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MANAGER: Final = "pywharf-operator"

Manifest = dict[str, Any]
"""A Kubernetes object as JSON has it."""
Component = Literal["server", "index"]
"""What a pod does: `server` serves, `index` updates a repo's index."""
COMPONENTS: Final[tuple[Component, ...]] = ("server", "index")


def object_name(server: PackageServer, suffix: str = "") -> str:
    """`<server>`, or `<server>-<suffix>`."""
    return f"{server.key.name}-{suffix}" if suffix else server.key.name


def selector(server: PackageServer, component: Component = "server") -> dict[str, str]:
    """The labels by which a server's pods are found. They never change: a Deployment's selector is immutable."""
    return selector_of(server.key.name, component)


def selector_of(server: str, component: Component = "server") -> dict[str, str]:
    """The same, by the server's name."""
    return {
        "app.kubernetes.io/name": "pywharf",
        "app.kubernetes.io/instance": server,
        COMPONENT_LABEL: component,
    }


def labels(server: PackageServer, component: Component = "server") -> dict[str, str]:
    """The labels of every object and pod of a server."""
    return {
        **selector(server, component),
        "app.kubernetes.io/part-of": "pywharf",
        "app.kubernetes.io/managed-by": MANAGER,
        SERVER_LABEL: server.key.name,
    }


def metadata(  # noqa: PLR0913 - all but the first are options
    server: PackageServer,
    suffix: str = "",
    *,
    component: Component = "server",
    extra_labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owned: bool = True,
) -> Manifest:
    """Name, namespace, labels and owner of the object `<server>` or `<server>-<suffix>`.

    No label of the caller's takes the place of one of ours. With `owned` the object goes when the server goes, where
    the server has a uid: one that was read from a folder has none.
    """
    made: Manifest = {
        "name": object_name(server, suffix),
        "namespace": server.key.namespace,
        "labels": {**(extra_labels or {}), **labels(server, component)},
    }
    if annotations:
        made["annotations"] = dict(annotations)
    if owned and server.metadata.uid is not None:
        made["ownerReferences"] = owner_references(server)
    return made


def owner_references(server: PackageServer) -> list[Manifest]:
    """The list that makes the server an object's controller."""
    return [
        {
            "apiVersion": server.api_version,
            "kind": server.kind,
            "name": server.key.name,
            "uid": server.metadata.uid,
            "controller": True,
        }
    ]
