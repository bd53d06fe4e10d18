"""The repo that a command works on, given by TYPE, NAME and the backend's fields, or by a configuration file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import click
import msgspec

from pywharf.backends.opening import open_backend, spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.backends.secret_flags import given_secret
from pywharf.cli.flags import environment_name, nearest
from pywharf.config.repo_config import BackendSpec, parse_spec, type_of
from pywharf.config.settings import TargetSettings
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials, permission_of
from pywharf.core.errors import ForbiddenError, InvalidConfigError, InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.redaction import Redacted
from pywharf.core.secret_text import secret_text
from pywharf.egress.policy import Egress, egress_of
from pywharf.index.ports import Backend
from pywharf.serving.config_source import ConfigGiven, ConfigSource


class RepoTarget(Redacted, frozen=True):
    """One repo's storage, with what opens it."""

    name: RepoName
    spec: BackendSpec
    root: Path
    secret: str | None
    """What the storage is opened with, in plain text."""
    egress: Egress

    def open(self, *, is_job: bool = True) -> Backend:
        """Open the storage for a command. The caller closes it.

        `is_job`: the command scans the whole storage, as update_index does, so the journal need not be current.
        """
        return open_backend(
            OpenBackend(self.spec, self.name, self.root, self.secret, is_job=is_job, egress=self.egress)
        )


def target_arguments(*others: click.Argument) -> list[click.Parameter]:
    """Return the arguments TYPE and NAME, then `others`, then the backend's fields, which `parse_target` reads.

    A command that has them needs `ignore_unknown_options` in its context settings.
    """
    return [
        click.Argument(["backend_type"], metavar="TYPE", envvar=environment_name("type")),
        click.Argument(["name"], metavar="NAME", envvar=environment_name("name")),
        *others,
        click.Argument(["fields"], metavar="[--FIELD=VALUE]...", nargs=-1, type=click.UNPROCESSED),
    ]


def parse_target(
    command: str, backend_type: str, name: str, fields: Sequence[str], settings: TargetSettings
) -> RepoTarget:
    """Find the repo that a command's arguments and flags describe.

    Parameters:
        command: The command's name, for messages.
        backend_type: TYPE.
        name: NAME.
        fields: The arguments that the command itself does not know: the backend's fields as flags.
        settings: The command's flags.

    Raises:
        InvalidConfigError: An argument or flag cannot be used.
        ForbiddenError: The repo has a write secret, and another one was given.
    """
    if backend_type.startswith("-") or name.startswith("-"):  # not shown: it may be a secret
        raise InvalidConfigError(
            "TYPE and NAME come before the backend's flags, for example file_system demo --index_filename=index.json."
        )
    try:
        repo = parse_repo_name(name)
    except InvalidNameError as error:
        raise InvalidConfigError(f"NAME: {error}") from error
    given = _fields(command, backend_type, fields, type(settings).__struct_fields__)
    described = _described(command, settings, backend_type, repo, given)
    secret = given_secret(settings)
    if secret is not None and described.credentials.write is not None:
        _check(secret, described.credentials, repo)
    root = Path(settings.root)
    if not root.is_dir():
        raise InvalidConfigError(f"--root: there is no folder {settings.root!r}; give the ROOT of the server.")
    admin_secret = described.admin_secret if secret is None else secret
    return RepoTarget(repo, described.spec, root, admin_secret, egress_of(settings.allowed_endpoints))


def _fields(command: str, backend_type: str, arguments: Sequence[str], known_flags: Sequence[str]) -> dict[str, object]:
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
    after = "After TYPE and NAME" if command == "update_index" else "After the names"
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        field = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--"):  # not shown: it may be a secret
            raise InvalidConfigError(f"{after} come flags only, for example --index_filename=index.json.")
        if field not in kinds:
            known = [f"--{f}" for f in (*kinds, *known_flags)]
            raise InvalidConfigError(f"{command} {backend_type} has no flag {flag!r}.{nearest(f'--{field}', known)}")
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


class _Described(Redacted, frozen=True):
    """A repo as flags or a configuration describe it, with its secrets in plain text."""

    spec: BackendSpec
    credentials: Credentials
    admin_secret: str | None = None


def _described(
    command: str, settings: TargetSettings, backend_type: str, repo: RepoName, given: Mapping[str, object]
) -> _Described:
    if settings.config is None:
        if settings.admin_secret is not None:
            raise InvalidConfigError("--admin_secret goes with --config; give both, or the secret with --secret_env.")
        spec = parse_spec({"type": backend_type, **given}, spec_types(), f"{command} {backend_type}")
        read, write = (secret_text(s) if isinstance(s, str) else None for s in (spec.read_secret, spec.write_secret))
        return _Described(spec, Credentials(read=read, write=write))
    if given:
        raise InvalidConfigError(
            f"--config and --{next(iter(given))} do not go together: write the field into the configuration."
        )
    source = ConfigGiven(config=settings.config, admin_secret=settings.admin_secret)
    loaded = ConfigSource(source, spec_types(), with_policies=False).load()
    definition = loaded.repos.get(repo)
    if definition is None:
        raise InvalidConfigError(f"{settings.config} has no table [{repo}].{nearest(repo, list(loaded.repos))}")
    if type_of(definition.spec) != backend_type:
        raise InvalidConfigError(
            f"TYPE is {backend_type!r}, but the repo {repo!r} in {settings.config} has the type "
            f"{type_of(definition.spec)!r}."
        )
    return _Described(definition.spec, definition.credentials, definition.admin_secret)


def _check(secret: str, credentials: Credentials, repo: RepoName) -> None:
    if permission_of(secret, credentials) is not Permission.WRITE:
        raise ForbiddenError(f"The secret given is not the write secret of the repo {repo!r}.")
