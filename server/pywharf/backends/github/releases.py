"""A release as GitHub describes it, and the package file that it holds. Pure.

Its tag is the file's name. Its body holds the flat strings of a `.meta` sidecar. Its assets are the file and, for a
wheel, `<file>.metadata`. The release of a deleted file stays without assets, so that its name does. The original's
releases can be read as well.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.filenames import METADATA_SUFFIX, extension_of
from pywharf.core.model import File
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps
from pywharf.index.limits import MAX_RECORD_BYTES, fault_of
from pywharf.index.ports import JournalEntry
from pywharf.index.sidecars import file_from_meta, meta_of, parse_meta
from pywharf.index.tombstones import CHANGING_KEYS, Tombstone, tombstone_from_meta

_UPLOADED = "uploaded"


@warmed_up
class Asset(msgspec.Struct, frozen=True):
    """A file of a release."""

    name: str
    size: int
    url: str = ""
    """The asset's URL in the API; empty if the asset came from GraphQL."""
    state: str = _UPLOADED
    """`uploaded`, or `starter` if its upload was cut off."""
    digest: str | None = None
    """`sha256:` and the hex digest, computed by GitHub itself; None for old assets and those from GraphQL."""

    @property
    def is_complete(self) -> bool:
        """Whether its content was uploaded completely."""
        return self.state == _UPLOADED

    @property
    def is_metadata(self) -> bool:
        """Whether its name says that it is a file's core metadata."""
        return self.name.endswith(METADATA_SUFFIX)

    @property
    def sha256(self) -> str | None:
        """The SHA-256 that GitHub computed of the content, as hex; None if unknown."""
        algorithm, _, digest = (self.digest or "").partition(":")
        return digest if algorithm == "sha256" else None


@warmed_up
class Release(msgspec.Struct, frozen=True):
    """One release, published or still a draft."""

    id: int
    tag_name: str
    body: str | None = None
    draft: bool = False
    published_at: str | None = None
    assets: tuple[Asset, ...] = ()

    @property
    def content(self) -> Asset | None:
        """The asset that is the file. GitHub renames some assets, so a single one is used under any name."""
        uploaded = [a for a in self.assets if a.is_complete and not a.is_metadata]
        named = [a for a in uploaded if a.name == self.tag_name] or uploaded
        return named[0] if len(named) == 1 else None

    @property
    def metadata(self) -> Asset | None:
        """The asset that is the core metadata."""
        found = [a for a in self.assets if a.is_complete and a.is_metadata]
        return found[0] if found else None


def decode_release(data: Any) -> Release:  # noqa: ANN401 - JSON
    """Decode a release. Raises msgspec.ValidationError if the data is not one."""
    return msgspec.convert(data, Release, strict=False)


def body_of(project: ProjectName, file: File) -> str:
    """Return the text of a file's release."""
    return dumps(meta_of(project, file))


def recorded_sha256(release: Release) -> str | None:
    """Return the digest in a release's text; None if the text is not a record of a file."""
    try:
        return file_from_meta(release.tag_name, parse_meta(release.body or "", "")).sha256
    except InvalidConfigError:
        return None


def tombstone_in(release: Release) -> Tombstone | None:
    """Return the record of a release's deleted file; None if the file was not deleted, or the text is no record."""
    try:
        return tombstone_from_meta(release.tag_name, parse_meta(release.body or "", ""))
    except InvalidConfigError:
        return None


def body_of_changed(release: Release, meta: Mapping[str, str]) -> str:
    """Return a release's text with a changed record, and with what else stands there: the original kept the form."""
    try:
        before = parse_meta(release.body or "", "")
    except InvalidConfigError:
        before = {}
    return dumps({key: value for key, value in before.items() if key not in CHANGING_KEYS} | dict(meta))


def upload_began(release: Release) -> float | None:
    """Return the start of the upload in Unix seconds; None if the body does not show that pywharf made the release."""
    try:
        meta = parse_meta(release.body or "", "")
        return datetime.fromisoformat(meta["upload_time"]).timestamp()
    except (InvalidConfigError, KeyError, ValueError):
        return None


def with_address(release: Release, url: str) -> Release:
    """Return the release with its file's address in the API, which GraphQL does not report."""
    content = release.content
    assets = tuple(msgspec.structs.replace(a, url=url) if a is content else a for a in release.assets)
    return msgspec.structs.replace(release, assets=assets)


def entry_of(release: Release) -> JournalEntry:
    """Return the journal entry of a release's file or deletion.

    Raises InvalidConfigError with a sentence on why there is none.
    """
    tag = release.tag_name
    if extension_of(tag) is None:
        raise InvalidConfigError(f"The release {tag[:250]!r} is left out: its tag is no distribution's file name.")
    if len(release.body or "") > MAX_RECORD_BYTES:
        raise InvalidConfigError(
            f"The release {tag[:250]!r} is left out: its text has over {MAX_RECORD_BYTES} characters. Shorten it."
        )
    meta = parse_meta(release.body or "", f"the release {tag!r}")
    if (tombstone := tombstone_from_meta(tag, meta)) is not None:
        return JournalEntry(_project_of(tag, meta), deletion=tombstone.deletion)
    asset = release.content
    if asset is None:
        raise InvalidConfigError(f"The release {tag!r} is left out: it must have one asset, the file.")
    project = _project_of(tag, meta)
    file = file_from_meta(tag, meta, asset.url or None)
    if asset.sha256 not in {None, file.sha256}:
        raise InvalidConfigError(
            f"The release {tag!r} is left out: its asset has the SHA-256 {asset.sha256}, its text says {file.sha256}; "
            "another file was put in its place. Put the published one back, or correct the text."
        )
    if release.metadata is None:
        file = msgspec.structs.replace(file, metadata_sha256=None)
    if (fault := fault_of(file)) is not None:
        raise InvalidConfigError(f"The release {tag!r} is left out: {fault}")
    # GitHub's own data about the content is newer than what was written into the body.
    return JournalEntry(project, file.completed(size=asset.size, upload_time=release.published_at))


def _project_of(tag: str, meta: Mapping[str, str]) -> ProjectName:
    try:
        return normalize(meta["distrib"])
    except InvalidNameError as error:
        raise InvalidConfigError(f"The release {tag!r} is left out: {error}") from None
