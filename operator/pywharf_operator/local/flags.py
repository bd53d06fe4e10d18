"""What the flags of `render` and `up` share: the argument DIR, and the types of options.

An option of such a type reads an empty variable as unset.
"""

from pathlib import Path
from typing import Final

import click

from pywharf.cli.flags import environment_name
from pywharf_operator.spec.forms import NAMESPACE

TEXT: Final = click.UNPROCESSED
FOLDER: Final = click.Path(file_okay=False, path_type=Path)


class NamespaceName(click.ParamType[str]):
    """The name of a namespace."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        try:
            NAMESPACE.verify("namespace", value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        return value


def folder_argument() -> click.Argument:
    """Return the argument DIR of a command, a readable folder; its value is named `folder`."""
    return click.Argument(
        ["folder"],
        metavar="DIR",
        envvar=environment_name("dir"),
        type=click.Path(exists=True, file_okay=False, readable=True, path_type=Path),
    )
