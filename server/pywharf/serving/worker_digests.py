"""Which configuration each worker of one server serves, so that one of them can answer for all."""

import os
from pathlib import Path

_PREFIX = "served-"


class ServedConfigs:
    """The workers' digests, in a folder that they share; of one process alone, no more than its own."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._own = ""
        self.tell("")

    def tell(self, digest: str) -> None:
        """Note that this worker serves the configuration of that digest; "": none yet."""
        self._own = digest
        if self._folder is not None:
            path = _path(self._folder, os.getpid())
            temporary = path.with_name(f".{path.name}")
            temporary.write_text(digest)
            temporary.replace(path)

    def digests(self) -> set[str]:
        """What the workers serve. Blocking, for moments."""
        if self._folder is None:
            return {self._own}
        found = set()
        for path in self._folder.glob(f"{_PREFIX}*"):
            try:
                found.add(path.read_text())
            except FileNotFoundError:  # its worker has just ended
                continue
        return found

    def common(self) -> str:
        """The digest of what every worker serves, "" while they serve different ones. Blocking, for moments."""
        found = self.digests()
        return found.pop() if len(found) == 1 else ""


def forget_worker(folder: Path, pid: int) -> None:
    """A worker has ended: nobody need wait for it."""
    _path(folder, pid).unlink(missing_ok=True)


def _path(folder: Path, pid: int) -> Path:
    return folder / f"{_PREFIX}{pid}"
