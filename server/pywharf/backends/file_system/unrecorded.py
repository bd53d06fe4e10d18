"""Read files that have no record, put there by hand or by a crashed upload, and write their records.

Reading takes the processor, so many files are read in processes of their own. Blocking; call it in a thread.
"""

import concurrent.futures
import functools
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from pywharf.backends.file_system.new_records import Written, write_new
from pywharf.backends.file_system.project_folder import UNRECORDED, regular, within_limits
from pywharf.backends.file_system.stamp import digest_of, stamp_of
from pywharf.backends.file_system.tombstones import META_SUFFIX
from pywharf.core.distribution import read_distribution, record_of
from pywharf.core.errors import InvalidConfigError
from pywharf.core.filenames import METADATA_SUFFIX, parse_upload_filename
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps_flat
from pywharf.index.codecs import meta_of

_MANY = 500
"""Files from which on further processes take less time than their start."""
_MAX_PROCESSES = 4
_CHUNK = 16
"""Files that a process is given in one go."""
_logger = logging.getLogger(__name__)


class Unrecorded(msgspec.Struct, frozen=True):
    """A file that was read. One of `file` and `fault` is set, or neither if the file is gone."""

    file: File | None = None
    notes: tuple[str, ...] = ()
    """Remarks on an old sdist that is accepted, a sentence each."""
    written: tuple[Written, ...] = ()
    """Its core metadata and its record, under temporary names."""
    fault: str | None = None
    """Why it cannot be published."""


class UnrecordedReader:
    """A reader of one scan's files. `close` ends its processes."""

    def __init__(self, staging: Path) -> None:
        self._staging = staging
        self._seen = 0
        self._may_start = True
        self._processes: concurrent.futures.ProcessPoolExecutor | None = None

    def read(self, files: Iterable[tuple[ProjectName, Path]]) -> Iterator[Unrecorded]:
        """Read files and write their records. Yield each one, in their order. Raises OSError."""
        given = [(name, str(path)) for name, path in files]
        self._seen += len(given)
        call = functools.partial(_read, str(self._staging))
        done = 0
        if self._seen > _MANY and (processes := self._started()) is not None:
            try:
                for one in processes.map(call, given, chunksize=_CHUNK):
                    done += 1
                    yield one
            except concurrent.futures.BrokenExecutor:
                _logger.warning("A process that reads new files has ended; they are read in this one.")
                self.close()
                self._may_start = False
        yield from map(call, given[done:])

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)
            self._processes = None

    def _started(self) -> concurrent.futures.ProcessPoolExecutor | None:
        """Return the processes; None on a single processor, or where the system refuses them."""
        count = min(len(os.sched_getaffinity(0)), _MAX_PROCESSES)
        if self._processes is None and self._may_start and count > 1:
            try:
                # Not forked: this process has threads.
                context = multiprocessing.get_context("spawn")
                self._processes = concurrent.futures.ProcessPoolExecutor(count, context)
            except (OSError, NotImplementedError) as error:
                _logger.info("New files are read in one process: %s.", error)
                self._may_start = False
        return self._processes


def _read(staging: str, given: tuple[ProjectName, str]) -> Unrecorded:
    name, path = given
    try:
        return _recorded(Path(staging), name, Path(path))
    except FileNotFoundError:
        return Unrecorded()
    except UNRECORDED as error:
        return Unrecorded(fault=str(error))


def _recorded(staging: Path, name: ProjectName, path: Path) -> Unrecorded:
    parsed = parse_upload_filename(path.name)
    if parsed.project != name:
        raise InvalidConfigError(f"it belongs into the folder {parsed.project!r}.")
    regular(path)
    with path.open("rb") as stream:
        read = read_distribution(stream, parsed)
        status = os.fstat(stream.fileno())  # before the digest is taken: a file changed later has a different stamp
        digest = digest_of(stream)
    file = within_limits(
        record_of(read, sha256=digest, size=status.st_size, uploaded_at=status.st_mtime, stamp=stamp_of(status))
    )
    written: list[Written] = []
    try:
        if read.offered_metadata is not None:
            written.append(write_new(staging, f"{path}{METADATA_SUFFIX}", read.offered_metadata, replaces=True))
        written.append(write_new(staging, f"{path}{META_SUFFIX}", dumps_flat(meta_of(name, file)).encode()))
    except BaseException:
        for one in written:
            Path(one.temporary).unlink(missing_ok=True)
        raise
    return Unrecorded(file, read.notes, tuple(written))
