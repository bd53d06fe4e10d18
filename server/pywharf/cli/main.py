"""The command `pywharf`: its own subcommands and those of other packages and of the backends."""

import importlib
import logging
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from pywharf import __version__
from pywharf.backends.registration import BackendCommand
from pywharf.cli.ending import leave_hanging_threads
from pywharf.cli.flags import CONTEXT, ENVIRONMENT_PREFIX, Command, nearest, options_of
from pywharf.core.errors import InvalidConfigError, PywharfError
from pywharf.core.struct_errors import convert

COMMANDS_GROUP = "pywharf.commands"
ENVIRONMENT_COMMAND = "PYWHARF_COMMAND"
_OWN = {
    "server": "pywharf.cli.server:server",
    "update_index": "pywharf.cli.update_index:update_index_command",
    "copy": "pywharf.cli.copy_command:copy_command",
    "yank": "pywharf.cli.changes:yank",
    "unyank": "pywharf.cli.changes:unyank",
    "delete": "pywharf.cli.changes:delete",
    "set_status": "pywharf.cli.changes:set_status",
    "cache": "pywharf.cli.cache_command:cache",
    "token": "pywharf.cli.token_command:token",
}
_USAGE_ERROR = 2


class Commands(click.Group):
    """A group of commands. Each is imported only when called, so that its dependencies do not slow down the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed commands."""
        del ctx
        return [*_OWN, *sorted(_registered()), *sorted(_of_backends())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of that name; None if there is none."""
        del ctx
        if cmd_name in _OWN:
            module, _, attribute = _OWN[cmd_name].partition(":")
            return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
        if cmd_name in _registered():
            return _load(_registered()[cmd_name])
        return _of_backends().get(cmd_name) if "." in cmd_name else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. For a wrong name, fail with a hint at the right one."""
        name = args[0].replace("-", "_")
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("_"):
            known = self.list_commands(ctx)
            ctx.fail(f"No such command {args[0]!r}.{nearest(name, known)} The commands are {', '.join(known)}.")
        return (name, command, args[1:]) if command is not None else super().resolve_command(ctx, args)


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMANDS_GROUP)}


def _of_backends() -> dict[str, click.Command]:
    from pywharf.backends.opening import backend_types  # noqa: PLC0415 - needed only for such a command

    return {
        f"{kind}.{name}": _command(f"{kind}.{name}", command)
        for kind, backend in backend_types().items()
        for name, command in backend.commands.items()
    }


def _command(name: str, of: BackendCommand) -> click.Command:
    def run(**values: Any) -> None:
        of.run(convert(values, of.settings, f"pywharf {name}"))

    return Command(name, callback=run, params=options_of(of.settings), context_settings=CONTEXT, help=of.help)


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load()
    except ImportError as error:
        missing = error.name or str(error)
        short = f"Needs the package {missing!r}: pip install 'pywharf[operator]'."
        reason = f"{point.name} cannot be loaded ({error}). {short}"

        @click.command(point.name, help=short, context_settings={"ignore_unknown_options": True})
        @click.argument("args", nargs=-1, type=click.UNPROCESSED)
        def unusable(args: tuple[str, ...]) -> None:
            del args
            raise InvalidConfigError(reason)

        return unusable
    return command  # type: ignore[no-any-return]


_HELP = """A private Python package index whose packages live where you already store things.

\b
Serve a folder of Kubernetes manifests:  pywharf up DIR
Serve a TOML configuration:              pywharf server ROOT --config=config.toml
Write a repo's index:                    pywharf update_index file_system NAME --root=ROOT
Copy packages into a repo:               pywharf copy FOLDER|URL|TYPE:NAME file_system:NAME --root=ROOT

Without arguments, the command and its flags are read from the environment: PYWHARF_COMMAND=server
PYWHARF_COMMAND_ROOT=/data PYWHARF_COMMAND_PORT=8888. Flags may be written with '-' or '_'.
"""


@click.group(cls=Commands, context_settings=CONTEXT, help=_HELP)
@click.version_option(__version__, prog_name="pywharf")
def pywharf() -> None:
    """See the help text."""


def _check_environment(name: str) -> None:
    """Raise InvalidConfigError for a variable that is not a flag, just as unknown flags are refused."""
    command = pywharf.get_command(click.Context(pywharf), name)
    if command is None or command.context_settings.get("ignore_unknown_options"):
        return
    variables = [parameter.envvar for parameter in command.params if isinstance(parameter.envvar, str)]
    known = [variable.removeprefix(ENVIRONMENT_PREFIX) for variable in variables]
    for variable in sorted(os.environ):
        flag = variable.removeprefix(ENVIRONMENT_PREFIX)
        if known and variable != flag and flag not in known:
            raise InvalidConfigError(f"{variable} is no flag of {name}.{nearest(flag, known, ENVIRONMENT_PREFIX)}")


def main() -> None:
    """Run the command line. Exits with 2 for a wrong flag or configuration, with 1 for any other failure."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        _run()
    except SystemExit as end:
        leave_hanging_threads(end.code if isinstance(end.code, int) else int(bool(end.code)))
        raise
    except Exception:  # noqa: BLE001 - printed as Python prints it; Python itself would wait for the threads
        sys.excepthook(*sys.exc_info())
        leave_hanging_threads(1)
        sys.exit(1)


def _run() -> None:
    args = sys.argv[1:]
    try:
        if not args and os.environ.get(ENVIRONMENT_COMMAND):
            args = [os.environ[ENVIRONMENT_COMMAND]]
            _check_environment(args[0].replace("-", "_"))
        pywharf.main(args=args, prog_name="pywharf")
    except PywharfError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_USAGE_ERROR if isinstance(error, InvalidConfigError) else 1)
