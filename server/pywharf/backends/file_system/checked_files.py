"""A cache of update_index's checks, in the project's folder: files whose content was compared with their record.

Records that the original wrote have no stamp. After a volume is restored from a backup, the files' stamps differ from
those in the records. Such a file is read once and its stamp and digest are cached, so that the next run need not read
it again. Losing the cache costs only time. Blocking; call it in a thread.
"""

import contextlib
import uuid
from pathlib import Path

import msgspec

from pywharf.backends.file_system.stamp import digest_of, stamp_of
from pywharf.core.errors import InvalidConfigError
from pywharf.core.model import File

FILENAME = ".checked.json"
_MAX_BYTES = 64 * 1024 * 1024
_DECODER = msgspec.json.Decoder(dict[str, str])


class CheckedFiles:
    """The checked files of one folder by name, each with its stamp and the digest of its content at that time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._read()
        self._now: dict[str, str] = {}

    def current(self, file: File) -> File:
        """Return the file's record with its current stamp.

        Read the content if neither the stamp nor the cache confirms that it is the recorded one. Raises
        InvalidConfigError if it is not.
        """
        path = self._folder / file.filename
        stamp = stamp_of(path.stat())
        if file.stamp == stamp:
            return file
        checked = f"{stamp} {file.sha256}"
        if self._before.get(file.filename) != checked:
            with path.open("rb") as opened:
                digest = digest_of(opened)
            if digest != file.sha256:
                raise InvalidConfigError(
                    f"its SHA-256 is {digest}, its record says {file.sha256}: another file was put in its place. "
                    "Put the published one back, or remove its .meta file to publish what lies there."
                )
        self._now[file.filename] = checked
        return msgspec.structs.replace(file, stamp=stamp)

    def save(self) -> None:
        """Write the cache for the next run."""
        if self._now == self._before:
            return
        path = self._folder / FILENAME
        if not self._now:
            path.unlink(missing_ok=True)
            return
        # Not synced: if a crash damages the cache it is ignored, which costs at most reading the files again.
        temporary = self._folder / f".{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_bytes(msgspec.json.encode(self._now))
            temporary.replace(path)
        except OSError:  # a full disk
            temporary.unlink(missing_ok=True)

    def _read(self) -> dict[str, str]:
        path = self._folder / FILENAME
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            if path.stat().st_size <= _MAX_BYTES:
                return _DECODER.decode(path.read_bytes())
        return {}
