"""The configuration that each worker of one server serves, so that any worker can answer for all."""

import os
from pathlib import Path

_PREFIX = "served-"


class ServedConfigs:
    """The workers' digests, in a folder that they share; without a folder, only this process's own."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._own = ""
        self.refused = ""
        """Why this worker refuses the newest configuration, in one sentence, as every worker does; "": it does not."""
        self.report("")

    def report(self, digest: str) -> None:
        """Record that this worker serves the configuration of that digest; "": none yet."""
        self._own = digest
        if self._folder is not None:
            path = _path(self._folder, os.getpid())
            temporary = path.with_name(f".{path.name}")
            temporary.write_text(digest)
            temporary.replace(path)

    def refuse(self, reason: str) -> None:
        """Record why this worker refuses the newest configuration; "": it does not."""
        self.refused = reason

    def digests(self) -> set[str]:
        """Return the digests that the workers serve. Blocks for moments."""
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
        """Return the digest that every worker serves, or "" while they serve different ones. Blocks for moments."""
        found = self.digests()
        return found.pop() if len(found) == 1 else ""


def forget_worker(folder: Path, pid: int) -> None:
    """Remove the digest of a worker that has ended, so that nobody waits for it."""
    _path(folder, pid).unlink(missing_ok=True)


def _path(folder: Path, pid: int) -> Path:
    return folder / f"{_PREFIX}{pid}"
