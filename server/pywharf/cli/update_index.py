"""`pywharf update_index TYPE NAME`: scan a repo's storage and write its index."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from pywharf.backends.opening import open_backend, spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.cli.flags import CONTEXT, environment_name, nearest
from pywharf.config import BackendSpec, ServerSettings, parse_spec, type_of
from pywharf.core.access import Credentials, Permission, permission_of
from pywharf.core.errors import ForbiddenError, InvalidConfigError, InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.index.update import Progress, Summary, update_index
from pywharf.web.config_source import ConfigSource

_PROGRESS_EVERY_S = 0.2
_logger = logging.getLogger(__name__)


async def run_update(
    spec: BackendSpec, *, name: RepoName, root: Path, secret: str | None, progress: Progress = lambda _n, _what: None
) -> Summary:
    """Open the repo's storage, write its index, close it. Raises PywharfError."""
    backend = open_backend(OpenBackend(spec, name, root, secret))
    try:
        return await update_index(
            backend, backend_type=type_of(spec), index_name=spec.index_name, progress=progress
        )
    finally:
        await backend.aclose()


@click.command(
    "update_index",
    context_settings={**CONTEXT, "ignore_unknown_options": True, "allow_interspersed_args": True},
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
@click.argument("backend_type", metavar="TYPE", envvar=environment_name("type"))
@click.argument("name", metavar="NAME", envvar=environment_name("name"))
@click.argument("fields", metavar="[--FIELD=VALUE]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--secret", envvar=environment_name("secret"), help="The secret with write permission. Visible in process lists: prefer --secret_env.")  # fmt: skip
@click.option("--secret_env", envvar=environment_name("secret_env"), help="Environment variable that holds the secret.")
@click.option("--root", envvar=environment_name("root"), default=".", show_default=True, help="The server's ROOT.")
@click.option("--config", envvar=environment_name("config"), help="Path of a configuration with the repo's table.")
@click.option("--admin_secret", envvar=environment_name("admin_secret"), help="Path of the admin secrets.")
@click.option("--report", envvar=environment_name("report"), help="Path of a file to which the JSON summary is written, too.")  # fmt: skip
def update_index_command(  # noqa: PLR0913 - one a flag
    backend_type: str,
    name: str,
    fields: tuple[str, ...],
    secret: str | None,
    secret_env: str | None,
    root: str,
    config: str | None,
    admin_secret: str | None,
    report: str | None,
) -> None:
    """See the command's help."""
    try:
        repo = parse_repo_name(name)
    except InvalidNameError as error:
        msg = f"NAME: {error}"
        raise InvalidConfigError(msg) from error
    given = _fields(fields, backend_type)
    spec, credentials, admin = _configured(backend_type, repo, given, root, config, admin_secret)
    secret = _secret(secret, secret_env)
    if secret is not None and credentials.write is not None:
        _check(secret, credentials, repo)
    summary = asyncio.run(_with_progress(spec, repo, Path(root), secret if secret is not None else admin))
    text = msgspec.json.encode(summary).decode()
    if report is not None:
        Path(report).write_text(text + "\n", encoding="utf-8")
    click.echo(_for_people(summary) if sys.stdout.isatty() else text)
    for problem in summary.problems:
        _logger.warning("%s", problem)


def _fields(arguments: Sequence[str], backend_type: str) -> dict[str, object]:
    """The backend's fields from `--field value` and `--field=value`, and from the environment."""
    specs = spec_types()
    if backend_type not in specs:
        hint = nearest(backend_type, list(specs))
        msg = f"TYPE is {backend_type!r}; the backends installed here are {', '.join(sorted(specs))}.{hint}"
        raise InvalidConfigError(msg)
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
        if not flag.startswith("--") or field not in kinds:
            known = [f"--{f}" for f in (*kinds, "secret", "secret_env", "root", "config", "admin_secret", "report")]
            shown = flag if flag.startswith("--") else "that"
            msg = f"update_index {backend_type} has no flag {shown!r}.{nearest(f'--{field}', known)}"
            raise InvalidConfigError(msg)
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        given[field] = _typed(value, kinds[field])
    return given


def _typed(value: str, kind: object) -> object:
    """A flag's text as the number or switch that its field is; texts stay texts."""
    shown = str(kind)
    if kind is int or "int" in shown:
        try:
            return int(value)
        except ValueError:
            return value
    if kind is bool or "bool" in shown:
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    return value


def _configured(  # noqa: PLR0913 - what the flags say
    backend_type: str,
    repo: RepoName,
    given: Mapping[str, object],
    root: str,
    config: str | None,
    admin_secret: str | None,
) -> tuple[BackendSpec, Credentials, str | None]:
    """The repo's configuration, its secrets, and the admin secret."""
    if config is None:
        spec = parse_spec({"type": backend_type, **given}, spec_types(), f"update_index {backend_type}")
        texts = {f: v for f in ("read_secret", "write_secret") if isinstance(v := getattr(spec, f), str)}
        return spec, Credentials(read=texts.get("read_secret"), write=texts.get("write_secret")), None
    if given:
        msg = f"--config and --{next(iter(given))} do not go together: write the field into the configuration."
        raise InvalidConfigError(msg)
    loaded = ConfigSource(ServerSettings(root=root, config=config, admin_secret=admin_secret), spec_types()).load()
    definition = loaded.repos.get(repo)
    if definition is None:
        hint = nearest(repo, list(loaded.repos))
        msg = f"{config} has no table [{repo}].{hint}"
        raise InvalidConfigError(msg)
    if type_of(definition.spec) != backend_type:
        msg = f"TYPE is {backend_type!r}, but the repo {repo!r} in {config} has the type {type_of(definition.spec)!r}."
        raise InvalidConfigError(msg)
    return definition.spec, definition.credentials, definition.admin_secret


def _secret(secret: str | None, secret_env: str | None) -> str | None:
    if secret is not None and secret_env is not None:
        msg = "--secret and --secret_env do not go together; give one."
        raise InvalidConfigError(msg)
    if secret_env is None:
        return secret
    value = os.environ.get(secret_env)
    if not value:
        msg = f"--secret_env: the environment variable {secret_env} is empty or not set."
        raise InvalidConfigError(msg)
    return value


def _check(secret: str, credentials: Credentials, repo: RepoName) -> None:
    if permission_of(secret, credentials) is not Permission.WRITE:
        msg = f"The secret given is not the write secret of the repo {repo!r}."
        raise ForbiddenError(msg)


async def _with_progress(spec: BackendSpec, repo: RepoName, root: Path, secret: str | None) -> Summary:
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
            spec, name=repo, root=root, secret=secret, progress=show if on_terminal else lambda _n, _what: None
        )
    finally:
        if on_terminal:
            sys.stderr.write("\r\033[K")


def _for_people(summary: Summary) -> str:
    state = "written" if summary.changed else "unchanged"
    return f"{summary.projects} projects, {summary.files} files, {summary.bytes} bytes: the index is {state}."
