"""What update_index found of a project's files whose records say nothing of it: a cache in the project's folder.

Records that the original wrote have no stamp, and a volume restored from a backup has other ones than its records say.
Such a file is read once; what it was like then is kept here, so that the next run need not read it again. Nothing is
lost with the cache but time. Blocking; call it in a thread.
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
    """Files of one folder, by name: their stamps and the digest that their content had then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._read()
        self._now: dict[str, str] = {}

    def current(self, file: File) -> File:
        """The file with its stamp of now, read where nothing says that its content is the recorded one.

        Raises InvalidConfigError where it is not.
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
        """Keep what was found for the next run."""
        if self._now == self._before:
            return
        path = self._folder / FILENAME
        if not self._now:
            path.unlink(missing_ok=True)
            return
        # Not synced: what a crash leaves of it is read or ignored, and costs a reading of files at most.
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
