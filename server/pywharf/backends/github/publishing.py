"""Publishing a file as a release: a draft, its assets, and then, in one step, the release that others see."""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pywharf.backends.github.api import Answer, GithubApi
from pywharf.backends.github.releases import Release, body_of, decode_release
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    ForbiddenError,
    InvalidUploadError,
    PywharfError,
)
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.index.ports import Upload

_logger = logging.getLogger(__name__)
_EXISTS = "already_exists"


async def publish_release(api: GithubApi, releases: str, branch: str, upload: Upload) -> Release:
    """Five calls at most. Where it raises no release is left that others see.

    `releases` is the path of the repository's. Raises FileExistsInRepoError, RateLimitedError, ForbiddenError,
    BackendUnavailableError.
    """
    tag = upload.file.filename
    there = await api.get(f"{releases}/tags/{quote(tag, safe='')}")
    if there.status == 200:  # noqa: PLR2004
        raise _exists(tag)
    draft = {"tag_name": tag, "name": tag, "body": body_of(upload.project, upload.file), "draft": True}
    made = await api.send("POST", releases, {**draft, "target_commitish": branch})
    if made.status != 201:  # noqa: PLR2004
        raise _refused(made, tag)
    number = int(made.data["id"])
    try:
        await _add_assets(api, str(made.data["upload_url"]), upload)
        return await _make_visible(api, f"{releases}/{number}", tag)
    except BaseException:
        # Also where the client has gone: a draft is nobody's else to remove, but by update_index.
        await asyncio.shield(asyncio.ensure_future(_discard(api, f"{releases}/{number}", tag)))
        raise


async def _add_assets(api: GithubApi, upload_url: str, upload: Upload) -> None:
    tag = upload.file.filename
    added = await api.upload(upload_url, tag, upload.staged)
    _check(added, tag, upload.file.size, upload.file.sha256)
    if upload.file.metadata_sha256 is None:
        return
    with _as_file(upload.metadata) as path:
        added = await api.upload(upload_url, tag + METADATA_SUFFIX, path)
    _check(added, tag, len(upload.metadata), upload.file.metadata_sha256)


def _check(added: Answer, tag: str, size: int | None, sha256: str) -> None:
    """Whether GitHub has what was sent."""
    if added.status != 201:  # noqa: PLR2004
        raise _refused(added, tag)
    digest = added.data.get("digest")
    if added.data.get("size") != size or (digest and digest != f"sha256:{sha256}"):
        msg = f"GitHub did not store {tag!r} as it was sent; upload it again."
        raise BackendUnavailableError(msg)


async def _make_visible(api: GithubApi, release: str, tag: str) -> Release:
    try:
        answer = await api.send("PATCH", release, {"draft": False})
    except BackendUnavailableError:
        # It may have taken effect all the same; only GitHub knows.
        seen = await api.get(release)
        if seen.status == 200 and not seen.data["draft"]:  # noqa: PLR2004
            return decode_release(seen.data)
        raise
    if answer.status != 200:  # noqa: PLR2004
        raise _refused(answer, tag)
    return decode_release(answer.data)


async def _discard(api: GithubApi, release: str, tag: str) -> None:
    """Remove a draft; never what is published by now."""
    try:
        seen = await api.get(release)
        if seen.status == 200 and seen.data["draft"]:  # noqa: PLR2004
            await api.send("DELETE", release)
    except PywharfError as error:
        _logger.warning("The draft of %s is left for update_index to remove: %s", tag, error)


def _exists(tag: str) -> FileExistsInRepoError:
    return FileExistsInRepoError(f"File already exists: {tag}")


def _refused(answer: Answer, tag: str) -> PywharfError:
    """What GitHub means by a status that says something of the request."""
    if _EXISTS in answer.codes:
        return _exists(tag)
    said = answer.message or f"status {answer.status}"
    if answer.status == 404:  # noqa: PLR2004 - what a token may not write, GitHub calls not found
        return ForbiddenError(f"This token may not publish in the GitHub repository ({said}).")
    if "empty" in said.lower():
        return BackendUnavailableError("The GitHub repository is empty: a release needs a first commit to point at.")
    return InvalidUploadError(f"GitHub does not take {tag!r}: {said}.")


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(prefix="pywharf-") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)
