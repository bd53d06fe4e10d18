"""Give a file's content and its core metadata. How content is given, says `found_objects`."""

import time
from collections.abc import Callable

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError, Stat
from pywharf.backends.object_store.found_objects import FoundObjects, UrlLife
from pywharf.backends.object_store.layout import Layout
from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.core.filenames import names_stored_file
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports import Content

_SEEN_S = 600.0
"""Seconds for which a file that was found counts as there, when it is passed on."""


class BucketContents:
    """The contents and core metadata of one repo."""

    def __init__(
        self,
        client: ObjectClient,
        layout: Layout,
        life: UrlLife | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._layout = layout
        # A signed URL is given out for its time: the file's name and digest stay.
        self._found = FoundObjects(client, life, _SEEN_S if life is None else float("inf"), clock)

    async def open(self, project: ProjectName, file: File) -> Content:
        """See Packages.open_file."""
        name = (project, file.filename, file.sha256)
        found = self._found.known(name)
        if found is not None:
            return found.content

        def check(stat: Stat) -> None:
            if file.size is not None and stat.size != file.size:
                raise BackendUnavailableError(
                    f"The object of {file.filename!r} has {stat.size} bytes, its record says {file.size}; remove one."
                )

        key = self._key(project, file)
        try:
            found = await self._found.find(name, key, lambda: NotFoundError.file_removed(file.filename), check)
        except ObjectMissingError as error:
            raise NotFoundError.file_removed(file.filename) from error
        return found.content

    async def metadata(self, project: ProjectName, file: File) -> bytes:
        """See Packages.read_metadata."""
        self._key(project, file)
        try:
            got = await self._client.get(self._layout.metadata(project, file.filename), MAX_METADATA_BYTES)
        except ObjectMissingError as error:
            raise NotFoundError.no_core_metadata(file.filename) from error
        if got.stat.size > MAX_METADATA_BYTES:
            raise BackendUnavailableError(
                f"The core metadata of {file.filename!r} in the storage has more than {MAX_METADATA_BYTES} bytes; "
                "remove or replace it."
            )
        return got.content

    def _key(self, project: ProjectName, file: File) -> str:
        if not names_stored_file(file.filename):
            raise NotFoundError(f"{file.filename[:240]!r} is not a file of {project!r}.")
        return self._layout.content(project, file.filename)
