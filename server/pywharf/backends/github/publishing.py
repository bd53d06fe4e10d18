"""Publish a file as a release: create a draft, add its assets, then make it visible to others in one step."""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from pywharf.backends.github.answer import Answer
from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.refusals import Step, refusal
from pywharf.backends.github.releases import (
    Release,
    body_of,
    decode_release,
    recorded_sha256,
    tombstone_in,
)
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    PywharfError,
)
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import rfc3339
from pywharf.index.ports import Upload

_logger = logging.getLogger(__name__)


class Published(msgspec.Struct, frozen=True):
    """A file's release after publishing."""

    release: Release
    is_new: bool
    """Whether this upload created it. Otherwise the same bytes had been published before."""


async def publish_release(api: GithubApi, releases: str, branch: str, upload: Upload) -> Published:
    """Publish an upload in at most five calls. If this raises, no release is left that others can see.

    If a release already holds the same bytes, complete what an interrupted upload left out.

    `releases` is the path of the repository's releases. Raises FileExistsInRepoError, RateLimitedError,
    ForbiddenError, BackendUnavailableError.
    """
    there = await _published_again(api, releases, upload)
    if there is not None:
        return there
    try:
        return await _publish_new(api, releases, branch, upload)
    except FileExistsInRepoError:
        # Another upload was faster, and may have published the same bytes.
        there = await _published_again(api, releases, upload)
        if there is None:
            raise
        return there


async def _published_again(api: GithubApi, releases: str, upload: Upload) -> Published | None:
    """Complete and return the release that has the tag, if any. Raises FileExistsInRepoError if its bytes differ."""
    there = await api.get(f"{releases}/tags/{quote(upload.file.filename, safe='')}")
    if there.status != HTTPStatus.OK:
        return None
    tombstone = tombstone_in(decode_release(there.data))
    if tombstone is None:
        return Published(await _completed(api, releases, upload, there.data), is_new=False)
    if not tombstone.is_free:
        raise FileExistsInRepoError(upload.file.filename, is_deleted=True)
    # The revisions of a freed name go on, so that its deletion does not hide the new file.
    file = msgspec.structs.replace(upload.file, revision=tombstone.file.revision + 1)
    for asset in decode_release(there.data).assets:
        if asset.sha256 == tombstone.file.sha256 != file.sha256:  # left by a killed deletion
            await api.send("DELETE", f"{releases}/assets/{asset.url.rpartition('/')[2]}")
            there = await api.get(f"{releases}/{there.data['id']}")
    return Published(
        await _completed(api, releases, msgspec.structs.replace(upload, file=file), there.data), is_new=False
    )


async def _publish_new(api: GithubApi, releases: str, branch: str, upload: Upload) -> Published:
    tag = upload.file.filename
    # The draft's text says when this upload began, which shows update_index that it is under way. A copied file's own
    # time may be years ago.
    begun = msgspec.structs.replace(upload.file, upload_time=rfc3339(time.time()))
    draft = {"tag_name": tag, "name": tag, "body": body_of(upload.project, begun), "draft": True}
    made = await api.send("POST", releases, {**draft, "target_commitish": branch})
    if made.status != HTTPStatus.CREATED:
        raise refusal(Step.PUBLISH, made, tag=tag)
    number = int(made.data["id"])
    try:
        await _add_assets(api, str(made.data["upload_url"]), upload)
        return Published(await _make_visible(api, f"{releases}/{number}", upload), is_new=True)
    except BaseException:
        # Also if the client has gone: apart from update_index, nobody else removes the draft.
        await asyncio.shield(asyncio.ensure_future(_discard(api, f"{releases}/{number}", tag)))
        raise


async def withdraw_release(api: GithubApi, repository: str, release: Release) -> None:
    """Remove a release that was just published, and its tag. Log a warning if GitHub refuses."""
    try:
        await api.send("DELETE", f"{repository}/releases/{release.id}")
        await api.send("DELETE", f"{repository}/git/refs/tags/{quote(release.tag_name, safe='')}")
    except PywharfError as error:
        _logger.warning("The release %s, a second of its distribution, is left: %s", release.tag_name, error)


async def _completed(api: GithubApi, releases: str, upload: Upload, data: Any) -> Release:  # noqa: ANN401 - JSON
    """Complete a published release and return it. Raises FileExistsInRepoError if it holds other bytes.

    A release may be incomplete although pywharf publishes it last: the original published it first, and people may
    edit it.
    """
    release = decode_release(data)
    asset = release.content
    file = upload.file
    if asset is None:
        if any(one.is_complete and not one.is_metadata for one in release.assets):
            raise FileExistsInRepoError(file.filename)  # several assets, none with the file's name
        for one in release.assets:
            await api.send("DELETE", f"{releases}/assets/{one.url.rpartition('/')[2]}")
        await _add_assets(api, str(data["upload_url"]), upload)
    elif asset.size != file.size or (asset.sha256 or recorded_sha256(release)) != file.sha256:
        raise FileExistsInRepoError(file.filename)
    elif recorded_sha256(release) == file.sha256 and tombstone_in(release) is None:
        return release
    elif release.metadata is None:
        await _add_metadata(api, str(data["upload_url"]), upload)
    # The text comes last: the file is not listed before the text states its digest.
    body = {"body": body_of(upload.project, file)}
    answer = await api.send("PATCH", f"{releases}/{release.id}", body)
    if answer.status != HTTPStatus.OK:
        raise refusal(Step.PUBLISH, answer, tag=file.filename)
    return decode_release(answer.data)


async def _add_assets(api: GithubApi, upload_url: str, upload: Upload) -> None:
    tag = upload.file.filename
    added = await api.upload(upload_url, tag, upload.staged)
    _check(added, tag, upload.file.size, upload.file.sha256)
    await _add_metadata(api, upload_url, upload)


async def _add_metadata(api: GithubApi, upload_url: str, upload: Upload) -> None:
    tag = upload.file.filename
    if upload.file.metadata_sha256 is None:
        return
    with _as_file(upload.metadata) as path:
        added = await api.upload(upload_url, tag + METADATA_SUFFIX, path)
    _check(added, tag, len(upload.metadata), upload.file.metadata_sha256)


def _check(added: Answer, tag: str, size: int | None, sha256: str) -> None:
    """Raise an error if GitHub did not store what was sent."""
    if added.status != HTTPStatus.CREATED:
        raise refusal(Step.PUBLISH, added, tag=tag)
    digest = added.data.get("digest")
    if added.data.get("size") != size or (digest and digest != f"sha256:{sha256}"):
        raise BackendUnavailableError(f"GitHub did not store {tag!r} as it was sent; upload it again.")


async def _make_visible(api: GithubApi, release: str, upload: Upload) -> Release:
    try:
        answer = await api.send("PATCH", release, {"draft": False, "body": body_of(upload.project, upload.file)})
    except BackendUnavailableError:
        # The change may have taken effect anyway; only GitHub knows.
        seen = await api.get(release)
        if seen.status == HTTPStatus.OK and not seen.data["draft"]:
            return decode_release(seen.data)
        raise
    if answer.status != HTTPStatus.OK:
        raise refusal(Step.PUBLISH, answer, tag=upload.file.filename)
    return decode_release(answer.data)


async def _discard(api: GithubApi, release: str, tag: str) -> None:
    """Remove a draft, but never a release that has been published meanwhile."""
    try:
        seen = await api.get(release)
        if seen.status == HTTPStatus.OK and seen.data["draft"]:
            await api.send("DELETE", release)
    except PywharfError as error:
        _logger.warning("The draft of %s is left for update_index to remove: %s", tag, error)


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(prefix="pywharf-") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)
