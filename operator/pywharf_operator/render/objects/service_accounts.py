"""The ServiceAccounts `<server>` and `<server>-index`: names for a cloud's identity. No pod gets a token of theirs."""

from collections.abc import Mapping

from pywharf_operator.render.labels import Manifest, metadata
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec.names import Component


def server_account(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the ServiceAccount of the server's pods, and of Jobs with the server's identity; None if one is named."""
    account = verdict.server.spec.service_account
    return None if account.name is not None else _account(verdict, "", "server", account.annotations)


def index_account(verdict: ServerVerdict, environment: Environment) -> Manifest:
    """Render the ServiceAccount of all other Jobs that update indexes. It has no cloud identity."""
    return _account(verdict, "index", "index")


def _account(
    verdict: ServerVerdict, suffix: str, component: Component, annotations: Mapping[str, str] | None = None
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(verdict.server, suffix, component=component, annotations=annotations),
        "automountServiceAccountToken": False,
    }
