"""The commands `pywharf cache list` and `pywharf cache remove`: what the pull-through cache keeps.

They work on the store itself, without a server. Running servers fetch a removed file again when a client needs it.
"""

import asyncio
import contextlib
import datetime as dt
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import msgspec

from pywharf.backends.file_system.cache_store import DEFAULT_FOLDER
from pywharf.backends.opening import open_cache
from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.config.cache_config import CacheConfig, FileSystemCache
from pywharf.config.settings import CacheListSettings, CacheRemoveSettings, CacheSettings
from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.log_text import log_text
from pywharf.core.names import normalize, parse_repo_name
from pywharf.core.struct_errors import convert
from pywharf.index.ports import CacheStore
from pywharf.index.sidecars import is_sha256
from pywharf.index.upstream.kept_listing import Entry, Found, Selection, entries, find, remove
from pywharf.serving.cache_file import read_cache_config

_SORTED = 10_000
"""Lines of a table that are sorted together. A longer one is sorted in pieces."""
_MOST_FILENAME = 240


class Removed(msgspec.Struct, frozen=True):
    """What `pywharf cache remove` did."""

    files: int
    bytes: int
    pins: int
    pinned: int
    """Files that fit and were left, because they are pinned."""


@contextlib.asynccontextmanager
async def _opened(root: str | None, settings: CacheSettings) -> AsyncIterator[CacheStore]:
    config: CacheConfig = FileSystemCache()
    secret: str | None = None
    if settings.cache_config is not None:
        config, secret = read_cache_config(settings.cache_config)
    elif root is None:
        raise InvalidConfigError("Give the ROOT of the server, or its --cache_config.")
    if isinstance(config, FileSystemCache):
        if config.folder is None and root is None:
            raise InvalidConfigError("--cache_config names no folder, so the cache lies in ROOT; give ROOT, too.")
        folder = Path(root or ".") / DEFAULT_FOLDER if config.folder is None else Path(config.folder)
        if not folder.is_dir():
            raise InvalidConfigError(f"There is no cache in the folder {str(folder)[:300]!r}.")
    store = open_cache(config, Path(root or "."), secret)
    try:
        yield store
    finally:
        await store.aclose()


def _selection(settings: CacheSettings) -> Selection:
    try:
        project = None if settings.project is None else normalize(settings.project)
        repo = None if settings.repo is None else parse_repo_name(settings.repo)
    except InvalidNameError as error:
        raise InvalidConfigError(str(error)) from error
    digest = None if settings.digest is None else settings.digest.removeprefix("sha256:").lower()
    if digest is not None and not is_sha256(digest):
        raise InvalidConfigError("--digest is no SHA-256: 64 hex digits.")
    return Selection(project, settings.filename, digest, repo)


def _list(root: str | None, **values: Any) -> None:
    settings = convert(values, CacheListSettings, "pywharf cache list")
    as_table = sys.stdout.isatty() if settings.format is None else settings.format == "table"
    asyncio.run(_print(root, settings, as_table=as_table))


async def _print(root: str | None, settings: CacheSettings, *, as_table: bool) -> None:
    selection, files, size = _selection(settings), 0, 0
    table = _Table()
    async with _opened(root, settings) as store:
        async for portion in entries(store, selection):
            files += len(portion)
            size += sum(entry.size for entry in portion)
            if as_table:
                table.add(portion)
            else:
                click.echo(b"\n".join(msgspec.json.encode(entry) for entry in portion))
    if as_table:
        table.flush()
        click.echo(f"{files:,} files, {size:,} bytes", err=True)


class _Table:
    """A table whose rows are printed as they come, some thousands of them at a time."""

    def __init__(self) -> None:
        self._rows: list[Entry] = []
        self._has_head = False

    def add(self, portion: list[Entry]) -> None:
        self._rows += portion
        if len(self._rows) >= _SORTED:
            self.flush()

    def flush(self) -> None:
        if not self._has_head:
            click.echo(f"{'SIZE':>14}  {'LAST USED':16}  {'SHA-256':12}  FILE")
            self._has_head = True
        for entry in sorted(self._rows, key=lambda e: (e.project, e.filename, e.sha256)):
            click.echo(_row(entry))
        self._rows.clear()


def _row(entry: Entry) -> str:
    # An index chooses the name, so it may hold what controls a terminal.
    name = log_text(entry.filename, _MOST_FILENAME) or "(it is not known where it came from)"
    pins = f"  pinned by {', '.join(entry.pinned_by)}" if entry.pinned_by else ""
    return f"{entry.size:>14,}  {_time(entry.last_used)}  {entry.sha256[:12]}  {name}{pins}"


def _time(seconds: float) -> str:
    try:
        return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):  # a wrong clock set it
        return f"{'?':16}"


def _remove(root: str | None, **values: Any) -> None:
    settings = convert(values, CacheRemoveSettings, "pywharf cache remove")
    selection = _selection(settings)
    if selection == Selection():
        raise InvalidConfigError("Say what to remove: by --project, --filename, --digest or --repo.")
    if selection.repo is not None and not settings.pinned:
        raise InvalidConfigError("--repo means files that are pinned; give --pinned, too, to remove these.")
    removed = asyncio.run(_removed(root, settings, selection))
    if not sys.stdout.isatty():
        click.echo(msgspec.json.encode(removed))
        return
    click.echo(f"{removed.files:,} files of {removed.bytes:,} bytes removed, and {removed.pins:,} pins.")
    if removed.pinned:
        click.echo(f"{removed.pinned:,} files are pinned and stay.")


async def _removed(root: str | None, settings: CacheRemoveSettings, selection: Selection) -> Removed:
    async with _opened(root, settings) as store:
        found = await find(store, selection, with_pinned=settings.pinned)
        if found.files and not settings.yes:
            _confirm(found)
        pins = await remove(store, selection, found, with_pinned=settings.pinned)
    return Removed(len(found.files), found.size, pins, found.pinned)


def _confirm(found: Found) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidConfigError("cache remove asks before it removes, and there is no terminal: give --yes.")
    rest = f"\n  … and {len(found.files) - len(found.shown):,} more" if len(found.files) > len(found.shown) else ""
    click.echo("\n".join(f"  {log_text(name, _MOST_FILENAME)}" for name in found.shown) + rest, err=True)
    click.confirm(f"Remove {len(found.files):,} files of {found.size:,} bytes?", abort=True, err=True)


_ROOT = click.Argument(["root"], required=False, envvar=environment_name("root"))

cache = click.Group(
    "cache",
    help="List and remove what the pull-through cache keeps. ROOT is the server's; --cache_config names another cache.",
    context_settings=CONTEXT,
    commands=[
        Command(
            "list",
            callback=_list,
            params=[_ROOT, *options_of(CacheListSettings)],
            context_settings=CONTEXT,
            help="""List the kept files: on a terminal as a table, otherwise as JSON, an object a line.

            \b
            Example:
              pywharf cache list /var/lib/pywharf --project=torch
            """,
        ),
        Command(
            "remove",
            callback=_remove,
            params=[_ROOT, *options_of(CacheRemoveSettings)],
            context_settings=CONTEXT,
            help="""Remove kept files. A server fetches one again when a client needs it.

            \b
            Example:
              pywharf cache remove /var/lib/pywharf --project=torch --yes
            """,
        ),
    ],
)
