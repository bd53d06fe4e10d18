"""The metadata of the objects made for a server."""

from pywharf_operator.spec import PackageServer

SERVER_LABEL = "pywharf.dev/server"
MANAGER = "pywharf-operator"


def metadata(server: PackageServer, suffix: str) -> dict[str, object]:
    """Name, namespace and labels of the object `<server>-<suffix>`."""
    return {
        "name": f"{server.key.name}-{suffix}",
        "namespace": server.key.namespace,
        "labels": {
            "app.kubernetes.io/name": "pywharf",
            "app.kubernetes.io/instance": server.key.name,
            "app.kubernetes.io/component": "server",
            "app.kubernetes.io/part-of": "pywharf",
            "app.kubernetes.io/managed-by": MANAGER,
            SERVER_LABEL: server.key.name,
        },
    }
