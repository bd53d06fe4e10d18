"""The command `pywharf copy FROM TO`: copy packages into a repo, and write its index."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec

from pywharf.cli.copy_ends import Wanted, parse_repo, parse_source, parse_wanted, split_fields
from pywharf.cli.flags import CONTEXT, environment_name, options_of
from pywharf.cli.progress import CopyProgress
from pywharf.cli.repo_target import RepoTarget
from pywharf.config.copy_settings import CopySettings
from pywharf.config.repo_config import type_of
from pywharf.core.errors import InvalidConfigError
from pywharf.core.struct_errors import convert
from pywharf.index.copying.copier import Copier
from pywharf.index.copying.source import Source
from pywharf.index.copying.summary import CopySummary
from pywharf.index.update import Summary, update_index

_logger = logging.getLogger(__name__)


class CopyReport(CopySummary, frozen=True, kw_only=True):
    """The result of the command."""

    index: Summary | None = None
    """The result of update_index; None if it did not run."""


def _run(source: str, target: str, fields: tuple[str, ...], **values: Any) -> None:
    settings = convert(values, CopySettings, "pywharf copy")
    if source.startswith("-") or target.startswith("-"):  # not shown: it may be a secret
        raise InvalidConfigError("FROM and TO come before the flags, for example ./packages file_system:demo --root=…")
    from_fields, to_fields = split_fields(fields)
    wanted = parse_wanted(settings.projects)
    to = parse_repo(target, to_fields, settings)
    open_source = parse_source(source, from_fields, settings, wanted)
    report = asyncio.run(_copy(open_source, to, settings, wanted))
    click.echo(_for_people(report) if sys.stdout.isatty() else msgspec.json.encode(report).decode())
    for note in report.notes:
        _logger.info("%s", note)
    for problem in (*report.problems, *(report.index.problems if report.index is not None else ())):
        _logger.warning("%s", problem)
    if report.problems:
        sys.exit(1)


async def _copy(
    open_source: Callable[[], Source], target: RepoTarget, settings: CopySettings, wanted: Wanted
) -> CopyReport:
    async with contextlib.AsyncExitStack() as stack:
        shown = stack.enter_context(CopyProgress())
        source = open_source()
        stack.push_async_callback(source.aclose)
        backend = target.open()
        stack.push_async_callback(backend.aclose)
        kind, name = type_of(target.spec), target.spec.index_name

        async def write_index() -> Summary:
            return await update_index(backend, backend_type=kind, index_name=name, progress=lambda _n, _what: None)

        copier = Copier(
            source,
            backend,
            wanted=wanted,
            parallel=settings.parallel,
            max_file_bytes=target.spec.max_file_bytes,
            shown=shown,
            checkpoint=write_index if settings.update_index else None,
        )
        summary = await copier.run(dry_run=settings.dry_run)
        shown.end()
        index = await write_index() if settings.update_index and not settings.dry_run else None
        return CopyReport(**msgspec.structs.asdict(summary), index=index)


copy_command = click.Command(
    "copy",
    callback=_run,
    params=[
        click.Argument(["source"], metavar="FROM", envvar=environment_name("from")),
        click.Argument(["target"], metavar="TO", envvar=environment_name("to")),
        click.Argument(
            ["fields"], metavar="[--from_FIELD=VALUE | --to_FIELD=VALUE]...", nargs=-1, type=click.UNPROCESSED
        ),
        *options_of(CopySettings),
    ],
    context_settings={**CONTEXT, "ignore_unknown_options": True},
    help="""Copy packages into a repo, with their times and state, and write its index.

    FROM is a folder of wheels and sdists, the URL of a Simple index, or a repo as TYPE:NAME. TO is a repo. Fields of a
    backend's configuration are given as further flags (--from_FIELD=VALUE, --to_FIELD=VALUE), or with --config.
    What the target has is not copied again: run the same command again after an interruption.

    \b
    Examples:
      pywharf copy ./packages file_system:team-a --root=/var/lib/pywharf
      pywharf copy https://pypi.example.com/simple/ file_system:team-a --root=/var/lib/pywharf
      pywharf copy https://nexus.example.com/repository/pypi/simple/ file_system:team-a \\
          --root=/var/lib/pywharf --from_user=reader --from_secret_env=NEXUS_PASSWORD
      pywharf copy file_system:team-a github:team-a --config=config.toml --admin_secret=admin.toml

    On a terminal it shows progress; otherwise it prints a JSON summary. Exit status 1: something was left out.
    """,
)


def _for_people(report: CopyReport) -> str:
    done = "would be copied" if report.dry_run else "copied"
    parts = [
        f"{report.copied} files ({report.bytes} bytes) {done}",
        f"{report.present} were there",
        f"{report.changed} changes of state",
        f"{report.ignored} other files ignored",
        f"{report.unverified} without a digest at the source",
        f"{len(report.problems)} problems",
    ]
    index = "" if report.index is None else f" The index is {'written' if report.index.changed else 'unchanged'}."
    return ", ".join(parts) + "." + index
