"""A file's content and core metadata, which are assets of its release."""

import hashlib
from collections.abc import Callable

from cachetools import FIFOCache

from pywharf.backends.github.assets import Assets
from pywharf.backends.github.finding import ReleaseFinder
from pywharf.backends.github.releases import Asset
from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File
from pywharf.index.ports import Content, RedirectContent, StreamContent

_METADATA_BYTES = 16 * 1024 * 1024
_METADATA_KEPT = 256


class ReleaseContents:
    """The contents of one repository's files."""

    def __init__(
        self, assets: Assets, finder: ReleaseFinder, *, redirects: bool, address_of: Callable[[str], str | None]
    ) -> None:
        self._assets = assets
        self._finder = finder
        self._redirects = redirects
        """Whether clients fetch files themselves."""
        self._address_of = address_of
        """Returns the asset's address of a file that is not in the index yet, if it is known."""
        self._metadata: FIFOCache[str, bytes] = FIFOCache(_METADATA_KEPT)

    async def open(self, file: File) -> Content:
        """See Packages.open_file."""
        asset = file.location or self._address_of(file.filename) or (await self._asset(file.filename)).url
        url = await self._assets.signed_url(asset)  # raises for a missing file before the response begins
        if url is not None and self._redirects:
            return RedirectContent(url)
        size = file.size
        if size is None:
            content = await self._asset(file.filename)
            asset, size = content.url, content.size
        return StreamContent(size, lambda first, last: self._assets.stream(asset, first, last))

    async def metadata(self, file: File) -> bytes:
        """See Packages.read_metadata."""
        digest = file.metadata_sha256 or ""
        kept = self._metadata.get(digest)
        if kept is not None:
            return kept
        release = await self._finder.find(file.filename)
        if release is None or release.metadata is None:
            raise NotFoundError.no_core_metadata(file.filename)
        raw = await self._assets.read(release.metadata.url, _METADATA_BYTES)
        if hashlib.sha256(raw).hexdigest() != digest:
            raise BackendUnavailableError(
                f"The asset {file.filename + METADATA_SUFFIX!r} is not what the index says; run update_index."
            )
        self._metadata[digest] = raw
        return raw

    async def _asset(self, filename: str) -> Asset:
        """Ask GitHub for the asset that is the file. Raises NotFoundError."""
        release = await self._finder.find(filename)
        if release is None or release.content is None:
            raise NotFoundError.file_removed(filename)
        return release.content
