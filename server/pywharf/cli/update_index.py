"""The command `pywharf update_index TYPE NAME`: scan a repo's storage and write its index."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import click
import msgspec

from pywharf.backends.opening import open_backend, spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.backends.secret_flags import given_secret
from pywharf.cli import report
from pywharf.cli.flags import CONTEXT, environment_name, nearest, options_of
from pywharf.config.repo_config import BackendSpec, parse_spec, type_of
from pywharf.config.settings import UpdateIndexSettings
from pywharf.core.access import Credentials, Permission, permission_of
from pywharf.core.errors import ForbiddenError, InvalidConfigError, InvalidNameError, PywharfError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.os_errors import reason_of
from pywharf.core.redaction import Redacted
from pywharf.core.secret_text import secret_text
from pywharf.core.struct_errors import convert
from pywharf.egress.sessions import Egress, egress_of
from pywharf.index.ports import Progress
from pywharf.index.update import Summary, update_index
from pywharf.serving.config_source import ConfigGiven, ConfigSource

_PROGRESS_EVERY_S = 0.2
_logger = logging.getLogger(__name__)


async def run_update(  # noqa: PLR0913 - all by name
    spec: BackendSpec,
    *,
    name: RepoName,
    root: Path,
    secret: str | None,
    egress: Egress | None = None,
    progress: Progress = lambda _n, _what: None,
) -> Summary:
    """Open the repo's storage, write its index, close it. Raises PywharfError."""
    backend = open_backend(OpenBackend(spec, name, root, secret, is_job=True, egress=egress or Egress()))
    try:
        return await update_index(backend, backend_type=type_of(spec), index_name=spec.index_name, progress=progress)
    finally:
        await backend.aclose()


def _run(backend_type: str, name: str, fields: tuple[str, ...], **values: Any) -> None:
    settings = convert(values, UpdateIndexSettings, "pywharf update_index")
    try:
        summary = _update(backend_type, name, fields, settings)
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


def _update(backend_type: str, name: str, fields: tuple[str, ...], settings: UpdateIndexSettings) -> Summary:
    if backend_type.startswith("-") or name.startswith("-"):  # not shown: it may be a secret
        raise InvalidConfigError(
            "TYPE and NAME come before the backend's flags, for example file_system demo --index_filename=index.json."
        )
    try:
        repo = parse_repo_name(name)
    except InvalidNameError as error:
        raise InvalidConfigError(f"NAME: {error}") from error
    target = _target(settings, backend_type, repo, _fields(fields, backend_type))
    secret = given_secret(settings)
    if secret is not None and target.credentials.write is not None:
        _check(secret, target.credentials, repo)
    root = Path(settings.root)
    if not root.is_dir():
        raise InvalidConfigError(f"--root: there is no folder {settings.root!r}; give the ROOT of the server.")
    return asyncio.run(
        _with_progress(
            target.spec,
            repo,
            root,
            target.admin_secret if secret is None else secret,
            egress_of(settings.allowed_endpoints),
        )
    )


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
    params=[
        click.Argument(["backend_type"], metavar="TYPE", envvar=environment_name("type")),
        click.Argument(["name"], metavar="NAME", envvar=environment_name("name")),
        click.Argument(["fields"], metavar="[--FIELD=VALUE]...", nargs=-1, type=click.UNPROCESSED),
        *options_of(UpdateIndexSettings),
    ],
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


def _fields(arguments: Sequence[str], backend_type: str) -> dict[str, object]:
    """Read the backend's fields from `--field value`, `--field=value` and the environment."""
    specs = spec_types()
    if backend_type not in specs:
        hint = nearest(backend_type, list(specs))
        raise InvalidConfigError(
            f"TYPE is {backend_type!r}; the backends installed here are {', '.join(sorted(specs))}.{hint}"
        )
    kinds = {f.name: f.type for f in msgspec.structs.fields(specs[backend_type])}
    given: dict[str, object] = {
        field: _typed(os.environ[environment_name(field)], kind)
        for field, kind in kinds.items()
        if environment_name(field) in os.environ
    }
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        field = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--"):  # not shown: it may be a secret
            raise InvalidConfigError("After TYPE and NAME come flags only, for example --index_filename=index.json.")
        if field not in kinds:
            known = [f"--{f}" for f in (*kinds, *UpdateIndexSettings.__struct_fields__)]
            raise InvalidConfigError(f"update_index {backend_type} has no flag {flag!r}.{nearest(f'--{field}', known)}")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        given[field] = _typed(value, kinds[field])
    return given


def _typed(value: str, kind: object) -> object:
    """Convert a flag's text to the number or switch that its field holds; other text stays as is."""
    types = _types_in(kind)
    if int in types:
        try:
            return int(value)
        except ValueError:
            return value
    if bool in types:
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    return value


def _types_in(kind: object) -> set[object]:
    """Return the plain types that an annotation is made of."""
    if get_origin(kind) is Annotated:
        return _types_in(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return {plain for part in get_args(kind) for plain in _types_in(part)}
    return {kind}


class _Target(Redacted, frozen=True):
    """The repo to scan, with its secrets in plain text."""

    spec: BackendSpec
    credentials: Credentials
    admin_secret: str | None = None


def _target(settings: UpdateIndexSettings, backend_type: str, repo: RepoName, given: Mapping[str, object]) -> _Target:
    if settings.config is None:
        if settings.admin_secret is not None:
            raise InvalidConfigError("--admin_secret goes with --config; give both, or the secret with --secret_env.")
        spec = parse_spec({"type": backend_type, **given}, spec_types(), f"update_index {backend_type}")
        read, write = (secret_text(s) if isinstance(s, str) else None for s in (spec.read_secret, spec.write_secret))
        return _Target(spec, Credentials(read=read, write=write))
    if given:
        raise InvalidConfigError(
            f"--config and --{next(iter(given))} do not go together: write the field into the configuration."
        )
    source = ConfigGiven(config=settings.config, admin_secret=settings.admin_secret)
    loaded = ConfigSource(source, spec_types()).load()
    definition = loaded.repos.get(repo)
    if definition is None:
        raise InvalidConfigError(f"{settings.config} has no table [{repo}].{nearest(repo, list(loaded.repos))}")
    if type_of(definition.spec) != backend_type:
        raise InvalidConfigError(
            f"TYPE is {backend_type!r}, but the repo {repo!r} in {settings.config} has the type "
            f"{type_of(definition.spec)!r}."
        )
    return _Target(definition.spec, definition.credentials, definition.admin_secret)


def _check(secret: str, credentials: Credentials, repo: RepoName) -> None:
    if permission_of(secret, credentials) is not Permission.WRITE:
        raise ForbiddenError(f"The secret given is not the write secret of the repo {repo!r}.")


async def _with_progress(spec: BackendSpec, repo: RepoName, root: Path, secret: str | None, egress: Egress) -> Summary:
    shown_at = 0.0

    def show(scanned: int, what: str) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _PROGRESS_EVERY_S:
            shown_at = time.monotonic()
            sys.stderr.write(f"\r\033[K{scanned} files scanned, now {what[:60]}")
            sys.stderr.flush()

    on_terminal = sys.stderr.isatty()
    try:
        return await run_update(
            spec,
            name=repo,
            root=root,
            secret=secret,
            egress=egress,
            progress=show if on_terminal else lambda _n, _what: None,
        )
    finally:
        if on_terminal:
            sys.stderr.write("\r\033[K")


def _for_people(summary: Summary) -> str:
    state = "written" if summary.changed else "unchanged"
    return f"{summary.projects} projects, {summary.files} files, {summary.bytes} bytes: the index is {state}."
