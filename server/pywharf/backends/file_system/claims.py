"""Lock one distribution, or one project's status, against all other writers of a file_system repo. Blocking."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pywharf.core.duplicates import identity
from pywharf.core.names import ProjectName
from pywharf.disk.durable import locked

_DIGITS = 2
"""Hex digits of the key's digest that name a lock file: at most 256 files. Those that share one wait for each other."""


class Claims:
    """The lock files of one repo. Other processes respect a lock, and a crash releases it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "claims"

    def of_file(self, project: ProjectName, filename: str) -> contextlib.AbstractContextManager[None]:
        """Lock the distribution that a file name means, in any spelling."""
        return self._of(f"{project}/{identity(filename, project)}")

    def of_status(self, project: ProjectName) -> contextlib.AbstractContextManager[None]:
        """Lock a project's status."""
        return self._of(f"{project}/")

    @contextlib.contextmanager
    def _of(self, key: str) -> Iterator[None]:
        self._folder.mkdir(exist_ok=True)
        with locked(self._folder / hashlib.sha256(key.encode()).hexdigest()[:_DIGITS]):
            yield
