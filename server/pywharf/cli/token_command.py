"""The commands `pywharf token new` and `pywharf token digest`: tokens that access entries name by their digest.

No token is ever an argument: arguments stand in the shell's history and in the list of processes.
"""

import sys
from pathlib import Path

import click
import msgspec

from pywharf.cli.flags import CONTEXT, Command, option
from pywharf.core.access.tokens import digest_of, new_token
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.os_errors import reason_of
from pywharf.core.secret_text import token_text

_MAX_BYTES = 1024
"""Bytes that are read: a token has 57."""


def _new(*, json: bool) -> None:
    token = new_token()
    digest = digest_of(token)
    if json:
        click.echo(msgspec.json.encode({"token": token, "digest": digest}))
        return
    click.echo(token)
    click.echo(digest, err=True)


def _digest(file: str | None, arguments: tuple[str, ...], *, json: bool) -> None:
    if arguments:
        raise InvalidConfigError(
            "token digest takes no token as an argument, where the shell's history and the list of processes show it: "
            "give it on the standard input or by --file, and replace one that was given here."
        )
    try:
        digest = digest_of(token_text(_read(file)))
    except InvalidInputError as error:
        raise InvalidConfigError(str(error)) from None
    click.echo(msgspec.json.encode({"digest": digest}) if json else digest)


def _read(file: str | None) -> str:
    """Return the text of the file, or of the standard input; a terminal shows nothing of what is typed."""
    if file is None and sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True))
    try:
        if file is None:
            content = sys.stdin.buffer.read(_MAX_BYTES)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(_MAX_BYTES)
    except OSError as error:
        raise InvalidConfigError(f"--file: {file} cannot be read: {reason_of(error)}.") from error
    return content.decode("utf-8", "replace")


_JSON = option("json", bool, False, "Print one JSON object.")  # noqa: FBT003 - the default

token = click.Group(
    "token",
    help="Make tokens that access entries name by their digest, so that the entries may stand in Git.",
    context_settings=CONTEXT,
    commands=[
        Command(
            "new",
            callback=_new,
            params=[_JSON],
            context_settings=CONTEXT,
            help="Print a new random token once, and on the standard error its digest, which an access entry names.",
        ),
        Command(
            "digest",
            callback=_digest,
            params=[
                option("file", str, None, "Read the token from this file instead of the standard input."),
                _JSON,
                click.Argument(["arguments"], nargs=-1, required=False, type=click.UNPROCESSED, metavar=""),
            ],
            context_settings=CONTEXT,
            help="Print the digest of a token that comes on the standard input.",
        ),
    ],
)
