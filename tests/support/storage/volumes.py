"""Volumes that are small or that become read-only."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.parts import missing, require


@dataclass(frozen=True)
class Volume:
    """A separate tmpfs, mounted at `path`."""

    path: Path

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, leaving_bytes: int = 0) -> None:
        """Fill the volume until only `leaving_bytes` are free, rounded to whole pages."""
        with self._ballast.open("ab") as file, contextlib.suppress(OSError):
            while (left := self.free_bytes - leaving_bytes) > 0:
                file.write(bytes(min(left, 1024 * 1024)))
                file.flush()

    def free(self) -> None:
        """Free the space that `fill` used."""
        self._ballast.unlink(missing_ok=True)

    def remount(self, option: str) -> None:
        """Remount the volume with `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True)


@contextlib.contextmanager
def volume(path: Path, megabytes: int) -> Iterator[Volume]:
    """Mount a tmpfs at `path` within the context, creating the folder."""
    path.mkdir(parents=True, exist_ok=True)
    mount = require("mount", "apt-get install mount")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "none", path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        missing("the right to mount a tmpfs", f"run as root ({done.stderr.strip()})")
    try:
        yield Volume(path)
    finally:
        # Lazy, so that a test that fails while a server is running leaves no mount behind either.
        subprocess.run(["umount", "--lazy", path], check=True)
