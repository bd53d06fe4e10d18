"""The commands `pywharf yank`, `unyank`, `delete` and `set_status`: change what a repo has published.

They work on the storage itself, without a server. Running servers show the change as they show another server's.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.cli.repo_target import RepoTarget, parse_target, target_arguments
from pywharf.config.settings import (
    DeleteSettings,
    SetStatusSettings,
    TargetSettings,
    UnyankSettings,
    YankSettings,
)
from pywharf.core.errors import (
    ChangeIncompleteError,
    InvalidConfigError,
    InvalidInputError,
    InvalidNameError,
)
from pywharf.core.names import ProjectName, normalize
from pywharf.core.struct_errors import convert
from pywharf.index.changes import (
    Changed,
    FreeingDeleteRequest,
    Request,
    StatusRequest,
    UnyankRequest,
    YankRequest,
    actions_of,
    change,
)
from pywharf.index.follower import Follower
from pywharf.index.ports import Action, Delete

S = TypeVar("S", bound=TargetSettings)
Confirm = Callable[[Sequence[str]], None]
"""A function that is called with the names of the files to delete. It ends the command if they are to stay."""
_SHOWN = 20


async def run_change(target: RepoTarget, project: ProjectName, request: Request, confirm: Confirm) -> Changed:
    """Open the repo's storage, change the project, close the storage. Raises PywharfError."""
    backend = target.open(is_job=False)
    try:
        follower = Follower(target.name, backend)
        await follower.refresh()
        deleted = _deleted(actions_of(request, project, follower.catalog.project(project)))
        if deleted:
            confirm(deleted)
        return await change(backend, follower, project, request, secret=None)
    finally:
        await backend.aclose()


def _deleted(actions: Sequence[Action]) -> list[str]:
    return [action.filename for action in actions if isinstance(action, Delete)]


def _command(
    command: str, settings_type: type[S], request_of: Callable[[S], Request], done: str, text: str
) -> click.Command:
    """Make a command. `done` is the word for what it did."""

    def run(backend_type: str, name: str, project: str, fields: tuple[str, ...], **values: Any) -> None:
        settings = convert(values, settings_type, f"pywharf {command}")
        target = parse_target(command, backend_type, name, fields, settings)
        try:
            project_name = normalize(project)
        except InvalidNameError as error:
            raise InvalidConfigError(f"PROJECT: {error}") from error
        try:
            changed = asyncio.run(run_change(target, project_name, request_of(settings), _confirm_for(settings)))
        except InvalidInputError as error:
            raise InvalidConfigError(str(error)) from error
        except ChangeIncompleteError as error:
            _report(done, Changed(project=project_name, files=error.changed))
            raise
        _report(done, changed)

    project = click.Argument(["project"], metavar="PROJECT", envvar=environment_name("project"))
    return Command(
        command,
        callback=run,
        params=[*target_arguments(project), *options_of(settings_type)],
        context_settings={**CONTEXT, "ignore_unknown_options": True},
        help=text + _HELP,
    )


def _confirm_for(settings: TargetSettings) -> Confirm:
    def confirm(filenames: Sequence[str]) -> None:
        if getattr(settings, "yes", False):
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise InvalidConfigError("delete asks before it deletes, and there is no terminal: give --yes.")
        rest = f"\n  … and {len(filenames) - _SHOWN} more" if len(filenames) > _SHOWN else ""
        click.echo("\n".join(f"  {filename}" for filename in filenames[:_SHOWN]) + rest, err=True)
        what = "this file" if len(filenames) == 1 else f"these {len(filenames)} files"
        click.confirm(f"Delete {what} for good?", abort=True, err=True)

    return confirm


def _report(done: str, changed: Changed) -> None:
    if not sys.stdout.isatty():
        click.echo(msgspec.json.encode(changed).decode())
        return
    if changed.status is not None:
        click.echo(f"{changed.project} is {changed.status}.")
        return
    click.echo(f"{changed.project}: {len(changed.files)} files {done}:")
    for filename in changed.files:
        click.echo(f"  {filename}")


_HELP = """

    TYPE is the backend's type, NAME the repo's name. Fields of the backend's configuration are given as further
    flags (--FIELD=VALUE), or with --config. Running servers show the change by themselves.

    On a terminal it prints text, otherwise JSON: project, files, status.
    """

yank = _command(
    "yank",
    YankSettings,
    lambda s: YankRequest(filename=s.filename, version=s.version, reason=s.reason),
    "yanked",
    """Yank a file or a release: installers take it only where its version is pinned (PEP 592).

    \b
    Example:
      pywharf yank file_system team-a acme-tool --version=1.0 --reason="broken on Windows" --root=/var/lib/pywharf
    """,
)
unyank = _command(
    "unyank",
    UnyankSettings,
    lambda s: UnyankRequest(filename=s.filename, version=s.version),
    "unyanked",
    """Unyank a file or a release.

    \b
    Example:
      pywharf unyank file_system team-a acme-tool --version=1.0 --root=/var/lib/pywharf
    """,
)
delete = _command(
    "delete",
    DeleteSettings,
    lambda s: FreeingDeleteRequest(filename=s.filename, version=s.version, free_name=s.free_name),
    "deleted",
    """Delete a file or a release for good. The names stay taken, as on PyPI.

    \b
    Example:
      pywharf delete file_system team-a acme-tool --version=1.0 --yes --root=/var/lib/pywharf
    """,
)
set_status = _command(
    "set_status",
    SetStatusSettings,
    lambda s: StatusRequest(status=s.status, reason=s.reason),
    "changed",
    """Set a project's status (PEP 792): active, archived, quarantined or deprecated.

    \b
    Example:
      pywharf set-status file_system team-a acme-old --status=archived --reason="use acme-new" --root=/var/lib/pywharf
    """,
)
