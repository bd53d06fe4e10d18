"""A release as GitHub tells of it, and the file that it is. Pure.

Its tag is the file's name; its body holds the flat strings of a `.meta` sidecar; its assets are the file and, for a
wheel, `<file>.metadata`. The original's releases are read as well.
"""

from datetime import datetime
from typing import Any

import msgspec

from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.filenames import METADATA_SUFFIX, extension_of
from pywharf.core.model import File
from pywharf.core.msgspec_warmup import decodable
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps
from pywharf.index.codecs import file_from_meta, meta_of, parse_meta
from pywharf.index.limits import MAX_RECORD_BYTES, fault_of
from pywharf.index.ports import JournalEntry

_UPLOADED = "uploaded"


@decodable
class Asset(msgspec.Struct, frozen=True):
    """A file of a release."""

    name: str
    size: int
    url: str = ""
    """Of the API; empty where GraphQL told of it."""
    state: str = _UPLOADED
    """Else `starter`: its upload was cut off."""
    digest: str | None = None
    """`sha256:` and the hex digest, as GitHub itself took it; of old assets, and where GraphQL told of them, None."""

    @property
    def is_complete(self) -> bool:
        """Whether its content was uploaded whole."""
        return self.state == _UPLOADED

    @property
    def is_metadata(self) -> bool:
        """Whether its name says that it is a file's core metadata."""
        return self.name.endswith(METADATA_SUFFIX)

    @property
    def sha256(self) -> str | None:
        """The digest that GitHub took of the content."""
        algorithm, _, digest = (self.digest or "").partition(":")
        return digest if algorithm == "sha256" else None


@decodable
class Release(msgspec.Struct, frozen=True):
    """One release, published or still a draft."""

    id: int
    tag_name: str
    body: str | None = None
    draft: bool = False
    created_at: str | None = None
    """Of the commit that it names, so it says nothing of when it was published."""
    published_at: str | None = None
    assets: tuple[Asset, ...] = ()

    @property
    def content(self) -> Asset | None:
        """The asset that is the file; GitHub renames some, so a single one counts whatever its name."""
        uploaded = [a for a in self.assets if a.is_complete and not a.is_metadata]
        named = [a for a in uploaded if a.name == self.tag_name] or uploaded
        return named[0] if len(named) == 1 else None

    @property
    def metadata(self) -> Asset | None:
        """The asset that is the core metadata."""
        found = [a for a in self.assets if a.is_complete and a.is_metadata]
        return found[0] if found else None


def decode_release(data: Any) -> Release:  # noqa: ANN401 - JSON
    """Raises msgspec.ValidationError where it is none."""
    return msgspec.convert(data, Release, strict=False)


def body_of(project: ProjectName, file: File) -> str:
    """The text of a release."""
    return dumps(meta_of(project, file))


def recorded_sha256(release: Release) -> str | None:
    """The digest that its text says; None where the text is no record of a file."""
    try:
        return file_from_meta(release.tag_name, parse_meta(release.body or "", "")).sha256
    except InvalidConfigError:
        return None


def upload_began(release: Release) -> float | None:
    """Unix seconds; None where its body does not say that an upload to pywharf made it."""
    try:
        meta = parse_meta(release.body or "", "")
        return datetime.fromisoformat(meta["upload_time"]).timestamp()
    except (InvalidConfigError, KeyError, ValueError):
        return None


def with_address(release: Release, url: str) -> Release:
    """The release with the API's address of its file, which GraphQL does not tell."""
    content = release.content
    assets = tuple(msgspec.structs.replace(a, url=url) if a is content else a for a in release.assets)
    return msgspec.structs.replace(release, assets=assets)


def entry_of(release: Release) -> JournalEntry:
    """The file that it is. Raises InvalidConfigError with a sentence on why it is none."""
    tag = release.tag_name
    if extension_of(tag) is None:
        raise InvalidConfigError(f"The release {tag[:250]!r} is left out: its tag is no distribution's file name.")
    if len(release.body or "") > MAX_RECORD_BYTES:
        raise InvalidConfigError(
            f"The release {tag[:250]!r} is left out: its text has over {MAX_RECORD_BYTES} characters. Shorten it."
        )
    meta = parse_meta(release.body or "", f"the release {tag!r}")
    asset = release.content
    if asset is None:
        raise InvalidConfigError(f"The release {tag!r} is left out: it must have one asset, the file.")
    try:
        project = normalize(meta["distrib"])
    except InvalidNameError as error:
        raise InvalidConfigError(f"The release {tag!r} is left out: {error}") from None
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
    # What GitHub itself says of the content is newer than what was written into the body.
    return JournalEntry(
        project, msgspec.structs.replace(file, size=asset.size, upload_time=file.upload_time or release.published_at)
    )
