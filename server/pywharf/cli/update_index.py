"""The command `pywharf update_index TYPE NAME`: scan a repo's storage and write its index."""

import asyncio
import logging
import sys
import time
from typing import Any

import click
import msgspec

from pywharf.cli import report
from pywharf.cli.flags import CONTEXT, options_of
from pywharf.cli.repo_target import RepoTarget, parse_target, target_arguments
from pywharf.config.repo_config import type_of
from pywharf.config.settings import UpdateIndexSettings
from pywharf.core.errors import InvalidConfigError, PywharfError
from pywharf.core.os_errors import reason_of
from pywharf.core.struct_errors import convert
from pywharf.index.ports import Progress
from pywharf.index.update import Summary, update_index

_PROGRESS_EVERY_S = 0.2
_logger = logging.getLogger(__name__)


async def run_update(target: RepoTarget, progress: Progress = lambda _n, _what: None) -> Summary:
    """Open the repo's storage, write its index, close it. Raises PywharfError."""
    spec, backend = target.spec, target.open()
    try:
        return await update_index(backend, backend_type=type_of(spec), index_name=spec.index_name, progress=progress)
    finally:
        await backend.aclose()


def _run(backend_type: str, name: str, fields: tuple[str, ...], **values: Any) -> None:
    settings = convert(values, UpdateIndexSettings, "pywharf update_index")
    try:
        target = parse_target("update_index", backend_type, name, fields, settings)
        summary = asyncio.run(_with_progress(target))
    except Exception as error:
        # If neither the storage nor the call is at fault, the traceback is in the log.
        reason = str(error) if isinstance(error, PywharfError) else f"internal error ({type(error).__name__})."
        _report_failure(settings.report, reason)
        raise
    if settings.report is not None:
        _report_success(settings.report, summary)
    click.echo(_for_people(summary) if sys.stdout.isatty() else msgspec.json.encode(summary).decode())
    for problem in summary.problems:
        _logger.warning("%s", problem)


def _report_success(path: str, summary: Summary) -> None:
    try:
        report.write(path, report.of_summary(summary))
    except OSError as error:
        raise InvalidConfigError(f"--report: the index is written, but not {path!r}: {reason_of(error)}.") from error


def _report_failure(path: str | None, reason: str) -> None:
    if path is None:
        return
    try:
        report.write(path, report.of_failure(reason))
    except OSError as error:
        _logger.warning("--report: %r cannot be written: %s.", path, reason_of(error))


update_index_command = click.Command(
    "update_index",
    callback=_run,
    params=[*target_arguments(), *options_of(UpdateIndexSettings)],
    context_settings={**CONTEXT, "ignore_unknown_options": True},
    help="""Scan a repo's storage fully and write its index.

    TYPE is the backend's type, NAME the repo's name. Fields of the backend's configuration are given as further
    flags (--FIELD=VALUE), or with --config. A run that is interrupted leaves the old index whole.

    \b
    Examples:
      pywharf update_index file_system team-a --root=/var/lib/pywharf
      pywharf update_index file_system team-a --root=/var/lib/pywharf --index_filename=index.json
      pywharf update_index file_system team-a --root=/var/lib/pywharf --config=config.toml --secret_env=SECRET

    On a terminal it shows progress; otherwise it prints a JSON summary: projects, files, bytes, changed, problems.
    """,
)


async def _with_progress(target: RepoTarget) -> Summary:
    shown_at = 0.0

    def show(scanned: int, what: str) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _PROGRESS_EVERY_S:
            shown_at = time.monotonic()
            sys.stderr.write(f"\r\033[K{scanned} files scanned, now {what[:60]}")
            sys.stderr.flush()

    on_terminal = sys.stderr.isatty()
    try:
        return await run_update(target, show if on_terminal else lambda _n, _what: None)
    finally:
        if on_terminal:
            sys.stderr.write("\r\033[K")


def _for_people(summary: Summary) -> str:
    state = "written" if summary.changed else "unchanged"
    return f"{summary.projects} projects, {summary.files} files, {summary.bytes} bytes: the index is {state}."
