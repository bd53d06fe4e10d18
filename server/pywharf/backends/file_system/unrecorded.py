"""Read files that have no record, put there by hand or by a crashed upload, and write their records.

Reading takes the processor, so many files are read in processes of their own. Blocking; call it in a thread.
"""

import concurrent.futures
import functools
import io
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
from pywharf.index.sidecars import meta_of

_MANY = 500
"""Files from which on further processes take less time than their start."""
_MAX_PROCESSES = 4
_CHUNK = 16
"""Files that a process is given in one go."""
_SMALL = 1024 * 1024
"""Bytes of a file that is read whole."""
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

    def read(self, files: Iterable[tuple[ProjectName, str]]) -> Iterator[Unrecorded]:
        """Read files and write their records. Yield each one, in their order. Raises OSError."""
        given = list(files)
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
        return _recorded(staging, name, path)
    except FileNotFoundError:
        return Unrecorded()
    except UNRECORDED as error:
        return Unrecorded(fault=str(error))


def _recorded(staging: str, name: ProjectName, path: str) -> Unrecorded:
    parsed = parse_upload_filename(path.rpartition("/")[2])
    if parsed.project != name:
        raise InvalidConfigError(f"it belongs into the folder {parsed.project!r}.")
    regular(path)
    with open(path, "rb", buffering=0) as opened:  # noqa: PTH123 - most of a Path's time goes into its parts
        status = os.fstat(opened.fileno())  # before the content is read: a file changed later has a different stamp
        # Reading an archive seeks often, so a small file is read whole.
        content = opened.read(_SMALL) if status.st_size <= _SMALL else b""
        stream = io.BytesIO(content) if len(content) == status.st_size else io.BufferedReader(opened)
        read = read_distribution(stream, parsed)
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
