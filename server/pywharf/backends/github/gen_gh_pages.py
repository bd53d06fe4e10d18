"""The command `pywharf github.gen_gh_pages`: write the static site into a folder."""

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import click

from pywharf.backends.github.settings import GenGhPagesSettings
from pywharf.backends.github.static_site import HTML, JSON, download_base, pages
from pywharf.backends.secret_flags import given_secret
from pywharf.config.repo_config import GithubSpec
from pywharf.core.errors import InvalidConfigError, NotFoundError
from pywharf.core.os_errors import of_writing, reason_of
from pywharf.core.urls import check_url
from pywharf.index.codecs import Index, decode_index
from pywharf.index.ports import StoredIndex

_SIMPLE = "simple"
_READABLE = 0o644
_MAX_WAIT_S = 300.0
"""Most seconds to wait for a rate limit to end."""


def gen_gh_pages(settings: GenGhPagesSettings) -> None:
    """Run the command. Raises PywharfError."""
    spec = settings.spec
    base = settings.download_base or download_base(spec)
    try:
        check_url(base, "--download_base")
    except ValueError as error:
        raise InvalidConfigError(f"{error}.") from None
    index = _local(settings.index) if settings.index is not None else _remote(settings, spec)
    folder = Path(settings.folder) / _SIMPLE
    try:
        files = write_site(index, base, folder)
    except OSError as error:
        raise of_writing(error, "--folder") from error
    sys.stderr.write(f"{len(index)} projects: {files} files written, the others were as they should be.\n")
    click.echo(str(folder))


def _local(path: str) -> Index:
    try:
        return decode_index(Path(path).read_bytes(), Path(path).name)
    except OSError as error:
        raise InvalidConfigError(f"--index: {path!r} cannot be read: {reason_of(error)}.") from error


def _remote(settings: GenGhPagesSettings, spec: GithubSpec) -> Index:
    secret = given_secret(settings)
    if secret is None:
        raise InvalidConfigError(
            "Give --secret_env or --secret_file for the token that the index is read with, or --index for a local one."
        )
    return asyncio.run(_read(spec, secret))


async def _read(spec: GithubSpec, secret: str) -> Index:
    # Imported here, because a local index does not need PyGithub.
    from pywharf.backends.github.api import GithubApi  # noqa: PLC0415
    from pywharf.backends.github.branch import BranchFolder  # noqa: PLC0415
    from pywharf.backends.github.credentials import parse_credentials  # noqa: PLC0415
    from pywharf.backends.github.index_file import IndexFile, index_names  # noqa: PLC0415

    parse_credentials(secret)
    api = GithubApi(spec.api_url, lambda: parse_credentials(secret), threads=1)
    api.max_wait_s = _MAX_WAIT_S
    try:
        folder = BranchFolder(api, spec.owner, spec.repo, spec.branch, index_names(spec.index_name))
        stored = await IndexFile(folder, spec.index_name).read(None)
    finally:
        await api.aclose()
    if not isinstance(stored, StoredIndex):
        raise NotFoundError(
            f"There is no {spec.index_name} in the branch {spec.branch!r} of {spec.owner}/{spec.repo}, or the token "
            "may not read it; run update_index, or check --branch and --index_filename."
        )
    return decode_index(stored.content, stored.filename)


def write_site(index: Index, base: str, folder: Path) -> int:
    """Write the index's site into the folder. Return the number of files that were written.

    Each file is replaced atomically, so a site is usable while it is served. Raises OSError, PywharfError.
    """
    whole = dict(pages(index, base))  # all pages first: nothing is written if this is not a pywharf index
    targets = {folder if name is None else folder / name: files for name, files in whole.items()}
    link = next((target for target in (folder, *targets) if target.is_symlink()), None)
    if link is not None:
        raise InvalidConfigError(f"--folder: {str(link)!r} is a link, which may lead anywhere; remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for target, files in targets.items():
        target.mkdir(exist_ok=True)
        written += sum(_replace(target / file, content) for file, content in files.items())
    for stale in folder.iterdir():
        if stale.is_dir() and not stale.is_symlink() and stale.name not in whole:
            _remove_project(stale)
    return written


def _replace(path: Path, content: bytes) -> bool:
    """Replace a file unless its content is the same. Return whether it was replaced."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    handle, temporary = tempfile.mkstemp(prefix=".pywharf-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), _READABLE)
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def _remove_project(folder: Path) -> None:
    """Remove a project's pages and its folder. A folder that holds anything else stays, with that content."""
    for name in (HTML, JSON):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
