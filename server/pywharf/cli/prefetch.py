"""The command `pywharf prefetch`: have a server keep and pin what lock files name, for builds without upstream."""

import asyncio
import logging
import os
import ssl
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from pywharf.backends.secret_flags import given_secret
from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.cli.progress import CopyProgress
from pywharf.cli.repo_client import (
    Credentials,
    RepoAddress,
    RepoClient,
    credentials_of_netrc,
    parse_address,
)
from pywharf.config.prefetch_settings import PrefetchSettings
from pywharf.core.addresses import is_own
from pywharf.core.errors import InvalidConfigError, NotFoundError, PywharfError, StorageFullError, UpstreamError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.core.os_errors import reason_of
from pywharf.core.struct_errors import convert
from pywharf.index.copying.retrying import TRANSIENT, Retrying
from pywharf.index.ports.cache_store import Pin
from pywharf.lock_files import Pin as LockPin
from pywharf.lock_files import read_lock
from pywharf.lock_files.platforms import Target, parse_platform, tags_of_python
from pywharf.lock_files.wanted import Resolved, Wanted, WantedFile, resolve, wanted_of

_logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
_CREATED: Final = 201
_ATTEMPTS: Final = 4
_MAX_LOST: Final = 16
"""Files in a row that failed although they were tried several times, after which the server or the index is gone."""
_MAX_LISTED: Final = 1_000
"""Problems and notes that are printed."""


class PrefetchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the command."""

    repo: str
    wanted: int
    """Files that the locks want for the chosen platforms."""
    pinned: int = 0
    """Files that were pinned by this run."""
    present: int = 0
    """Files that were pinned before, or are the repo's own."""
    unpinned: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Run:
    """One run of the command against one repo."""

    def __init__(self, client: RepoClient, settings: PrefetchSettings, target: Target, shown: CopyProgress) -> None:
        self._client = client
        self._settings = settings
        self._target = target
        self._shown = shown
        self._retrying = Retrying(attempts=_ATTEMPTS)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.wanted = self.pinned = self.present = self.unpinned = 0
        self._lost = 0

    async def run(self, wanted: Wanted) -> None:
        """Pin or unpin what is wanted. Raises what ends the run early."""
        self.problems += wanted.problems
        self.notes += wanted.notes
        pins = await self._retrying.run(self._client.pins)
        if self._settings.unpin:
            await self._unpin(wanted, pins)
            return
        files = sorted({*wanted.files, *await self._resolved(wanted.open)})
        known = {WantedFile(pin.project, pin.filename, pin.sha256) for pin in pins}
        missing = files if self._settings.again else [file for file in files if file not in known]
        self.wanted = len(files)
        self.present += len(files) - len(missing)
        self._shown.begin(len(missing))
        await self._each(missing, self._pin)

    async def _pin(self, file: WantedFile) -> None:
        status = await self._retrying.run(lambda: self._client.pin(file.project, file.filename, file.sha256))
        if status == _CREATED:
            self.pinned += 1
        else:
            self.present += 1

    async def _unpin(self, wanted: Wanted, pins: Iterable[Pin]) -> None:
        """Remove the pins that the locks mean. The pins themselves say what is there, so no page is needed."""
        by_project: defaultdict[ProjectName, list[File]] = defaultdict(list)
        for pin in pins:
            by_project[pin.project].append(File(filename=pin.filename, sha256=pin.sha256))
        named = {(file.project, file.filename) for file in wanted.files}
        for open_pin in wanted.open:
            found = resolve(open_pin, by_project[open_pin.project], self._target).files
            named |= {(file.project, file.filename) for file in found}
        there = sorted(
            WantedFile(name, file.filename, file.sha256)
            for name, files in by_project.items()
            for file in files
            if (name, file.filename) in named
        )
        self.wanted = len(named)
        self._shown.begin(len(there))
        await self._each(there, self._unpin_one)

    async def _unpin_one(self, file: WantedFile) -> None:
        await self._retrying.run(lambda: self._client.unpin(file.project, file.filename))
        self.unpinned += 1

    async def _resolved(self, pins: Iterable[LockPin]) -> list[WantedFile]:
        """Return the files that the repo's pages name for pins that a lock does not describe in full."""
        by_project: defaultdict[ProjectName, list[LockPin]] = defaultdict(list)
        for pin in pins:
            by_project[pin.project].append(pin)
        files: list[WantedFile] = []

        async def ask(name: ProjectName) -> None:
            try:
                page = await self._retrying.run(lambda: self._client.page(name))
            except NotFoundError:
                page = ()
            for pin in by_project[name]:
                found: Resolved = resolve(pin, page, self._target)
                files.extend(found.files)
                self.problems += [found.problem] if found.problem is not None else []
                self.notes += [found.note] if found.note is not None else []

        await self._each(sorted(by_project), ask)
        return files

    async def _each(self, items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
        """Do it for each, a few concurrently. Raises what concerns all of them; collects what concerns one."""
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                try:
                    await do(item)
                except (InvalidConfigError, StorageFullError):
                    raise
                except PywharfError as error:
                    self._note(item, error)
                else:
                    self._lost = 0
                self._shown.copied()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.parallel):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def _note(self, item: object, error: PywharfError) -> None:
        what = f"{item.project}/{item.filename}" if isinstance(item, WantedFile) else str(item)
        self._lost += isinstance(error, (*TRANSIENT, UpstreamError))
        if self._lost >= _MAX_LOST:
            raise error
        self.problems.append(f"{what}: {error}")


async def prefetch(
    address: RepoAddress, credentials: Credentials | None, wanted: Wanted, settings: PrefetchSettings, target: Target
) -> PrefetchReport:
    """Pin or unpin what is wanted. Raises InvalidConfigError; other errors become problems of the report."""
    problem: PywharfError | None = None
    with CopyProgress("Unpinning" if settings.unpin else "Prefetching") as shown:
        async with RepoClient(address, credentials, _context(settings.ca)) as client:
            run = _Run(client, settings, target, shown)
            try:
                await run.run(wanted)
            except InvalidConfigError:
                raise
            except PywharfError as error:
                problem = error
    ended = () if problem is None else (f"It ended early: {problem}",)
    return PrefetchReport(
        repo=address.repo,
        wanted=run.wanted,
        pinned=run.pinned,
        present=run.present,
        unpinned=run.unpinned,
        problems=(*ended, *run.problems)[:_MAX_LISTED],
        notes=tuple(dict.fromkeys(run.notes))[:_MAX_LISTED],
    )


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise InvalidConfigError(f"--ca cannot be read: {reason_of(error)}.") from None


def _target(settings: PrefetchSettings) -> Target:
    platforms = []
    for text in settings.platform:
        platform = parse_platform(text)
        if platform is None:
            raise InvalidConfigError(
                f"--platform is {text[:80]!r}; write linux, musllinux, macos or windows, perhaps with an architecture "
                "(linux_x86_64), or a wheel's tag such as manylinux_2_28_x86_64."
            )
        platforms.append(platform)
    pythons: set[tuple[str, str]] = set()
    for text in settings.python:
        tags = tags_of_python(text)
        if tags is None:
            raise InvalidConfigError(f"--python is {text[:80]!r}; write a version such as 3.12, or 3.14t.")
        pythons.update(tags)
    return Target(tuple(platforms), frozenset(pythons) if settings.python else None)


def _credentials(address: RepoAddress, settings: PrefetchSettings) -> Credentials | None:
    """Return what the flags give, otherwise netrc's entry of the host, otherwise None. Raises InvalidConfigError."""
    parts = urlsplit(address.base)
    host = parts.hostname or ""
    found: Credentials | None = None
    if given_secret(settings) is not None:
        found = Credentials(settings.user or address.repo, lambda: given_secret(settings) or "")
    else:
        entry = credentials_of_netrc(host, os.environ.get("NETRC"))
        if entry is not None:
            user, password = entry
            found = Credentials(settings.user or user or address.repo, lambda: password)
    if found is not None and parts.scheme == "http" and not is_own(host):
        _logger.warning("URL is without TLS, so everybody on the way can read the password.")
    return found


def _run(url: str, **values: Any) -> None:
    settings = convert(values, PrefetchSettings, "pywharf prefetch")
    if url.startswith("-"):  # not shown: it may be a secret
        raise InvalidConfigError("URL comes before the flags: pywharf prefetch https://HOST/repo/NAME/simple/ --lock=…")
    address, target = parse_address(url), _target(settings)
    credentials = _credentials(address, settings)
    wanted = wanted_of([read_lock(Path(path)) for path in settings.lock], target)
    report = asyncio.run(prefetch(address, credentials, wanted, settings, target))
    click.echo(_for_people(report, settings) if sys.stdout.isatty() else msgspec.json.encode(report).decode())
    for note in report.notes:
        _logger.info("%s", note)
    for problem in report.problems:
        _logger.warning("%s", problem)
    if report.problems:
        sys.exit(1)


def _for_people(report: PrefetchReport, settings: PrefetchSettings) -> str:
    if settings.unpin:
        return f"{report.unpinned} files unpinned, {len(report.problems)} problems."
    return (
        f"{report.wanted} files wanted: {report.pinned} pinned now, {report.present} were there, "
        f"{len(report.problems)} problems."
    )


def _several(name: str, required: bool = False) -> click.Option:  # noqa: FBT001, FBT002 - of an option
    field = next(one for one in options_of(PrefetchSettings) if one.name == name)
    assert isinstance(field, click.Option)  # noqa: S101 - a setting makes an option
    return click.Option([f"--{name}"], multiple=True, required=required, help=field.help, envvar=environment_name(name))


_SEVERAL: Final = ("lock", "platform", "python")

prefetch_command = Command(
    "prefetch",
    callback=_run,
    params=[
        click.Argument(["url"], metavar="URL", envvar=environment_name("url")),
        _several("lock", required=True),
        _several("platform"),
        _several("python"),
        *options_of(PrefetchSettings, leave_out=_SEVERAL),
    ],
    context_settings=CONTEXT,
    help="""Have a server fetch, keep and pin the files that lock files name, so that they install without upstream.

    URL is that of a repo with upstream.mode Cached: https://HOST/repo/NAME/simple/. The server fetches and verifies the
    files; none passes through this command. What is pinned is skipped: run the same command again after an
    interruption. Credentials come from --secret_env, --secret_file or netrc.

    \b
    Examples:
      pywharf prefetch https://packages.example.com/repo/team-a/simple/ --lock=uv.lock --secret_env=SECRET
      pywharf prefetch https://packages.example.com/repo/team-a/simple/ --lock=uv.lock \\
          --platform=linux_x86_64 --python=3.12 --secret_file=/var/run/secrets/pywharf/token
      pywharf prefetch https://packages.example.com/repo/team-a/simple/ --lock=uv.lock --unpin

    On a terminal it shows progress; otherwise it prints a JSON summary. Exit status 1: something is not pinned; 2: a
    wrong flag, lock file or credential.
    """,
)
