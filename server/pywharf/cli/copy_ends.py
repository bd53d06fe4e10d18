"""FROM and TO of `pywharf copy`: a repo, a folder, or an index by URL, with the flags of its side."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from pywharf import __version__
from pywharf.backends.opening import spec_types
from pywharf.backends.secret_flags import given_secret
from pywharf.cli.flags import ENVIRONMENT_PREFIX, nearest
from pywharf.cli.repo_target import RepoTarget, parse_target
from pywharf.config.copy_settings import CopySettings
from pywharf.config.settings import TargetSettings
from pywharf.core.addresses import is_own
from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.names import ProjectName, normalize
from pywharf.core.urls import check_url
from pywharf.egress.copied_index import CopiedIndexClient
from pywharf.egress.policy import egress_of
from pywharf.index.copying.folder import FolderSource
from pywharf.index.copying.repo import RepoSource
from pywharf.index.copying.retrying import Retrying
from pywharf.index.copying.simple_index import SimpleIndexSource
from pywharf.index.copying.source import Source
from pywharf.index.upstream.pages import matches

_URL = re.compile(r"https?://", re.IGNORECASE)
_REPO = re.compile(r"(?P<type>[A-Za-z0-9_.-]+):(?P<name>[^/\\]+)\Z")
_AGENT = f"pywharf/{__version__}"
_FLAG = "--"
_logger = logging.getLogger(__name__)


class Wanted(msgspec.Struct, frozen=True):
    """The projects to copy."""

    patterns: tuple[str, ...] = ()
    """Names or patterns; none: all projects."""

    def __call__(self, name: ProjectName) -> bool:
        return not self.patterns or matches(name, self.patterns)

    @property
    def names(self) -> tuple[ProjectName, ...]:
        """The projects, if each is named; otherwise none."""
        return () if any("*" in p for p in self.patterns) else tuple(normalize(p) for p in self.patterns)


def parse_wanted(text: str | None) -> Wanted:
    """Read `--projects`. Raises InvalidConfigError."""
    if text is None:
        return Wanted()
    patterns = tuple(part for raw in text.split(",") if (part := raw.strip()))
    if not patterns:
        raise InvalidConfigError("--projects is empty; leave it out to copy all projects.")
    for pattern in patterns:
        try:
            normalize(pattern.replace("*", "x"))
        except InvalidNameError:
            raise InvalidConfigError(
                f"--projects holds {pattern[:80]!r}; write a project's name, in which * stands for any characters."
            ) from None
    return Wanted(patterns)


def parse_source(given: str, fields: Sequence[str], settings: CopySettings, wanted: Wanted) -> Callable[[], Source]:
    """Return what opens the source, in the event loop that uses it. Raises InvalidConfigError."""
    kind = _repo(given)
    if kind is not None and not _URL.match(given):
        return _repo_source(*kind, fields, settings)
    if fields:
        flag = fields[0].partition("=")[0].replace("--", "--from_", 1)
        raise InvalidConfigError(f"{flag}: only a repo (TYPE:NAME) has fields, not this FROM.")
    if _URL.match(given):
        return _index_source(given, settings, wanted)
    for flag in ("from_secret_env", "from_secret_file", "from_user"):
        if getattr(settings, flag) is not None:
            raise InvalidConfigError(f"--{flag}: a folder needs no credentials; leave it out.")
    folder = Path(given)
    if not folder.is_dir():
        raise InvalidConfigError(
            f"FROM: there is no folder {given[:200]!r}. Give a folder, the URL of a Simple index, or TYPE:NAME for a "
            f"repo, where TYPE is one of {', '.join(sorted(spec_types()))}."
        )
    return lambda: FolderSource(folder)


def parse_repo(given: str, fields: Sequence[str], settings: CopySettings) -> RepoTarget:
    """Return the target. Raises InvalidConfigError."""
    kind = _repo(given)
    if kind is None:
        raise InvalidConfigError(
            "TO must be TYPE:NAME, such as file_system:team-a; TYPE is one of " + f"{', '.join(sorted(spec_types()))}."
        )
    return _target("to_", *kind, fields, settings)


def split_fields(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the backends' fields (`--from_FIELD`, `--to_FIELD`) by side. Raises InvalidConfigError for other flags."""
    sides: dict[str, list[str]] = {"from_": _of_environment("from_"), "to_": _of_environment("to_")}
    side: list[str] | None = None
    for argument in arguments:
        if not argument.startswith(_FLAG):
            if side is None:  # not shown: it may be a secret
                raise InvalidConfigError("After FROM and TO come flags only, for example --to_root=/var/lib/pywharf.")
            side.append(argument)
            continue
        flag = argument.removeprefix(_FLAG).replace("-", "_") if "=" not in argument else _dashed(argument)
        prefix = next((p for p in sides if flag.startswith(p)), None)
        if prefix is None:
            name = flag.partition("=")[0]
            known = list(CopySettings.__struct_fields__)
            raise InvalidConfigError(
                f"copy has no flag '--{name}'.{nearest(name, known, _FLAG)} A backend's fields are --from_FIELD and "
                "--to_FIELD."
            )
        if flag.removeprefix(prefix).partition("=")[0] == "secret":
            raise InvalidConfigError(
                f"copy has no flag '--{prefix}secret', because process lists would show the secret; "
                f"use --{prefix}secret_env or --{prefix}secret_file."
            )
        side = sides[prefix]
        side.append(_FLAG + flag.removeprefix(prefix))
    return sides["from_"], sides["to_"]


def _dashed(argument: str) -> str:
    name, _, value = argument.removeprefix(_FLAG).partition("=")
    return f"{name.replace('-', '_')}={value}"


def _of_environment(prefix: str) -> list[str]:
    """Return the fields that the environment gives one side, such as PYWHARF_COMMAND_TO_OWNER."""
    start = ENVIRONMENT_PREFIX + prefix.upper()
    flags = {name.upper() for name in CopySettings.__struct_fields__}
    found = (name for name in sorted(os.environ) if name.startswith(start))
    return [
        f"--{name.removeprefix(start).lower()}={os.environ[name]}"
        for name in found
        if name.removeprefix(ENVIRONMENT_PREFIX) not in flags
    ]


def _repo(given: str) -> tuple[str, str] | None:
    """Return type and name if the text has the form TYPE:NAME."""
    matched = _REPO.match(given)
    return (matched["type"], matched["name"]) if matched is not None else None


def _target(prefix: str, backend_type: str, name: str, fields: Sequence[str], settings: CopySettings) -> RepoTarget:
    own = {
        field: getattr(settings, prefix + field) or getattr(settings, field)
        for field in ("root", "config", "admin_secret")
    }
    given = TargetSettings(secret=given_secret(settings, prefix), allowed_endpoints=settings.allowed_endpoints, **own)
    try:
        return parse_target("copy", backend_type, name, fields, given)
    except InvalidConfigError as error:
        # The other commands' flags, as this command has them for one side.
        message = re.sub(r"--(?=[a-z])", f"--{prefix}", str(error))
        raise InvalidConfigError(f"{prefix.removesuffix('_').upper()}: {message}") from error


def _repo_source(backend_type: str, name: str, fields: Sequence[str], settings: CopySettings) -> Callable[[], Source]:
    if settings.from_user is not None:
        raise InvalidConfigError("--from_user: only an index by URL has a user name; leave it out.")
    target = _target("from_", backend_type, name, fields, settings)
    if "download" in target.spec.__struct_fields__:
        # A redirect serves clients that cannot reach the storage otherwise.
        spec = msgspec.structs.replace(target.spec, download="stream")
        target = msgspec.structs.replace(target, spec=spec)
    return lambda: RepoSource(target.open(), CopiedIndexClient(None, _AGENT, target.egress))


def _index_source(url: str, settings: CopySettings, wanted: Wanted) -> Callable[[], Source]:
    try:
        check_url(url, "FROM")
    except ValueError as error:
        hint = " Give credentials with --from_user and --from_secret_env." if "@" in url else ""
        raise InvalidConfigError(f"{error}.{hint}") from None
    secret = given_secret(settings, "from_")
    if (secret is None) != (settings.from_user is None):
        raise InvalidConfigError("--from_user goes with --from_secret_env or --from_secret_file; give both or neither.")
    credentials = None if secret is None or settings.from_user is None else (settings.from_user, secret)
    parts = urlsplit(url)
    if credentials is not None and parts.scheme == "http" and not is_own(parts.hostname or ""):
        _logger.warning("FROM is without TLS, so everybody on the way can read the password.")
    egress = egress_of(settings.allowed_endpoints)

    def open_() -> Source:
        client = CopiedIndexClient(url, _AGENT, egress, credentials)
        return SimpleIndexSource(
            url, client, parallel=settings.parallel, wanted=wanted, names=wanted.names, reading=Retrying()
        )

    return open_
