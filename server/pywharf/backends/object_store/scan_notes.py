"""What a scan notes in the bucket, so that the next one reads only what has changed.

A file's fingerprint stands for the versions of its objects. If it is the same as when an index was written, that index
has the file's record. The notes name the index that they belong to; with any other index, everything is read.
"""

from collections.abc import Mapping

import msgspec

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError
from pywharf.backends.object_store.layout import Layout
from pywharf.core.errors import PywharfError
from pywharf.core.model import File
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.index.codecs import EMPTY_INDEX, Index, decode_index
from pywharf.index.ports import StoredIndex

_MAX_BYTES = 128 * 1024 * 1024
TAKEN, FREED = "taken ", "freed "
"""What stands before the fingerprint of a deleted file."""


@warmed_up
class _Notes(msgspec.Struct, frozen=True):
    index: str
    """The version of the index that the notes belong to."""
    projects: dict[str, dict[str, str]]


class ScanNotes:
    """The notes of the last scan, which are dropped project by project, and those for the next one."""

    def __init__(self, notes: dict[str, dict[str, str]], index: Index, index_version: str | None) -> None:
        self._old = notes
        self._index = index
        self._index_version = index_version
        self._new: dict[str, dict[str, str]] = {}
        self._left = sum(len(files) for files in notes.values())
        """Old notes that were not noted again unchanged."""
        self._has_news = False

    def known(self, project: ProjectName, fingerprints: Mapping[str, str]) -> Mapping[str, File | str]:
        """Return what is known of files with these fingerprints: a record, or for a deleted one TAKEN or FREED.

        What is returned is noted. Ask once for each project.
        """
        old = self._old.pop(project, None)
        if old is None:
            return {}
        known: dict[str, File | str] = {}
        indexed = self._index.project(project)
        for filename, fingerprint in fingerprints.items():
            noted = old.get(filename)
            if noted == fingerprint:
                if indexed is None or (file := indexed.file(filename)) is None:
                    continue
                known[filename] = file
            elif noted is not None and noted.endswith(f" {fingerprint}"):
                known[filename] = noted[: len(TAKEN)]
            else:
                continue
            self._new.setdefault(project, {})[filename] = noted
            self._left -= 1
        return known

    def note(self, project: ProjectName, filename: str, fingerprint: str) -> None:
        """Note a file that was read."""
        self._new.setdefault(project, {})[filename] = fingerprint
        self._has_news = True

    async def save(self, client: ObjectClient, layout: Layout, index_version: str) -> None:
        """Write the new notes, unless the bucket has them already."""
        if index_version == self._index_version and not self._left and not self._has_news:
            return
        await client.put(layout.scan, msgspec.json.encode(_Notes(index_version, self._new)))


async def read_notes(client: ObjectClient, layout: Layout, stored: StoredIndex | None) -> ScanNotes:
    """Read the notes that belong to the index; empty ones if they are missing, unreadable or another index's."""
    empty = ScanNotes({}, EMPTY_INDEX, None)
    if stored is None:
        return empty
    try:
        got = await client.get(layout.scan, _MAX_BYTES)
        notes = msgspec.json.decode(got.content, type=_Notes)
        if notes.index != stored.version:
            return empty
        return ScanNotes(notes.projects, decode_index(stored.content, stored.filename), notes.index)
    except (ObjectMissingError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, PywharfError):
        return empty
