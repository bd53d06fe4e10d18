"""The ServiceAccounts `<server>` and `<server>-index`: names for a cloud's identity. No pod gets a token of theirs."""

from pywharf_operator.render.labels import Manifest, metadata
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec.names import Component


def server_account(verdict: ServerVerdict, environment: Environment) -> Manifest:
    """Render the ServiceAccount of the server's pods."""
    return _account(verdict, "", "server")


def index_account(verdict: ServerVerdict, environment: Environment) -> Manifest:
    """Render the ServiceAccount of the Jobs that update indexes."""
    return _account(verdict, "index", "index")


def _account(verdict: ServerVerdict, suffix: str, component: Component) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(verdict.server, suffix, component=component),
        "automountServiceAccountToken": False,
    }
