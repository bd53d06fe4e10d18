"""Files of other indexes: kept once they were fetched and verified, and streamed while they are fetched."""

from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports.cache_store import CacheStore
from pywharf.index.ports.served_content import ServedContent
from pywharf.index.upstream.source import Source

MAX_FILE_BYTES = 5 * 1024 * 1024 * 1024


class KeptFiles:
    """The files of other indexes."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store

    async def known(self, source: Source, project: ProjectName, file: File) -> File:
        """Return the record with the digest of the first fetch, if the other index says none and the file was fetched.

        A record with a digest is returned as it is. Without one, `sha256` is empty until the file was fetched once.
        """
        raise NotImplementedError

    async def open(
        self, source: Source, project: ProjectName, file: File, *, max_bytes: int = MAX_FILE_BYTES
    ) -> ServedContent:
        """Open a file. What is not kept is fetched when the content's bytes are asked for.

        Raises UpstreamError.
        """
        raise NotImplementedError

    async def metadata(self, source: Source, project: ProjectName, file: File) -> bytes:
        """Return a file's core metadata, verified. Raises NotFoundError, UpstreamError."""
        raise NotImplementedError

    async def keep(self, source: Source, project: ProjectName, file: File, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        """Fetch a file and its core metadata unless they are kept, and wait until they are.

        Raises NotFoundError, UpstreamError, StorageFullError, BackendUnavailableError.
        """
        raise NotImplementedError
