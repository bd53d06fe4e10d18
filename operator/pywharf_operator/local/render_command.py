"""`pywharf render DIR`: the Kubernetes objects that the operator would apply for a folder of manifests."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec
import yaml
from msgspec import Meta

from pywharf import __version__
from pywharf.backends.opening import spec_types
from pywharf.cli.flags import CONTEXT, OWN_TYPE, Command, options_of
from pywharf_operator.local.flags import TEXT, NamespaceName, folder_argument
from pywharf_operator.local.folder import (
    default_server,
    faults_of,
    notes_of,
    snapshot_of,
    taken_client_configs,
    with_server,
)
from pywharf_operator.local.manifests import Manifests, load_folder
from pywharf_operator.render import Environment, RenderedServer, render_server, resolve
from pywharf_operator.spec import ObjectKey

_HELP = """Print the objects that the operator would apply for the manifests in DIR.

Those of each PackageServer are its Deployment and whatever goes with it, but for the Secret of its session key, which
the operator makes up. A Secret here holds the credentials: do not commit what this prints. A folder without a
PackageServer is rendered for the one that the Helm chart makes. Problems go to stderr; then the exit code is 1.

\b
Example:
  pywharf render examples/quickstart
"""

_APIS = frozenset({"HTTPRoute", "ServiceMonitor"})
"""Kinds that are printed if the folder asks for them. A folder knows no cluster that could lack them."""


class RenderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the flags."""

    folder: Path
    namespace: Annotated[
        str, Meta(description="Namespace of the objects that name none.", extra={OWN_TYPE: NamespaceName()})
    ] = "default"
    image: Annotated[
        str, Meta(description="Image of the servers whose PackageServer names none.", extra={OWN_TYPE: TEXT})
    ] = f"pywharf:{__version__}"


def _run(**values: Any) -> None:
    options = RenderOptions(**values)
    manifests = load_folder(options.folder, options.namespace)
    environment = Environment(specs=spec_types(), image=options.image, apis=_APIS, now=datetime.now(UTC))
    objects, faults, notes = rendered(manifests, environment, options.namespace)
    for note in (*manifests.notes, *notes):
        click.echo(f"note: {note}", err=True)
    for problem in (*manifests.problems, *faults):
        click.echo(f"problem: {problem}", err=True)
    if objects:
        click.echo(text_of(objects), nl=False)
    click.get_current_context().exit(1 if manifests.problems or faults else 0)


render = Command(
    "render",
    callback=_run,
    params=[folder_argument(), *options_of(RenderOptions, leave_out={"folder"})],
    context_settings=CONTEXT,
    help=_HELP,
)


def rendered(
    manifests: Manifests, environment: Environment, namespace: str
) -> tuple[list[dict[str, Any]], tuple[str, ...], tuple[str, ...]]:
    """Render every server's objects, in the order in which they are applied. Return them, the faults and the notes."""
    snapshot = snapshot_of(manifests)
    if not snapshot.servers and (snapshot.repos or snapshot.policies):
        snapshot = with_server(snapshot, default_server(namespace))
    resolution = resolve(snapshot, environment)
    taken = taken_client_configs(resolution)
    servers = (_without(render_server(server, environment), taken) for server in resolution.servers)
    objects = [item for server in servers for item in server.objects]
    return objects, faults_of(resolution, snapshot.policies), notes_of(resolution)


def _without(server: RenderedServer, taken: Collection[ObjectKey]) -> RenderedServer:
    """Return the server without the ConfigMaps for clients of these repos, whose names others have."""
    kept = {repo: made for repo, made in server.client_configs.items() if repo not in taken}
    return msgspec.structs.replace(server, client_configs=kept)


def text_of(objects: list[dict[str, Any]]) -> str:
    """Return a stream of YAML documents."""
    return yaml.dump_all(
        objects, Dumper=_BlockTextDumper, sort_keys=False, explicit_start=True, width=110, allow_unicode=True
    )


class _BlockTextDumper(yaml.SafeDumper):
    """A dumper that writes texts of several lines as such."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_BlockTextDumper.add_representer(str, _represent_text)
