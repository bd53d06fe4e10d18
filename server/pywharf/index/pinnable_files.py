"""The files of one repo as its pins see them: found under its policies, and kept in the cache."""

from pywharf.core.errors import UnavailableError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.repo_files import RepoFiles, UpstreamFile
from pywharf.index.upstream.pinning import FoundFile
from pywharf.index.upstream.upstream_cache import UpstreamCache


class PinnableFiles:
    """See `pywharf.index.upstream.pinning.Files`."""

    def __init__(self, files: RepoFiles, cache: UpstreamCache, max_file_bytes: int) -> None:
        self._files = files
        self._cache = cache
        self._max_file_bytes = max_file_bytes

    async def find(self, project: ProjectName, filename: str) -> FoundFile:
        found = await self._files.find(project, filename)
        return FoundFile(found, is_own=not isinstance(found, UpstreamFile))

    async def keep(self, project: ProjectName, file: File) -> str:
        if not isinstance(file, UpstreamFile):
            raise TypeError("a repo's own file is not kept")
        await self._cache.pages.keep(file.source, project)
        await self._cache.files.keep(file.source, project, file, max_bytes=self._max_file_bytes)
        known = await self._cache.files.known(file.source, project, file)
        if not known.sha256:
            raise UnavailableError(f"The cache has not noted the digest of {file.filename}; try again.")
        return known.sha256
