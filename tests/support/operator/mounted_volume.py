"""A projected volume as the kubelet makes it: replacing one link changes all its files atomically."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path


class ProjectedVolume:
    """A folder of links into `..data`, which is itself a link to the last delivery."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._numbers = itertools.count()
        self._last: Path | None = None

    def deliver(self, files: Mapping[str, str | bytes]) -> None:
        """Replace all files of the volume with these, given by their paths in the volume."""
        data = self.folder / f"..{next(self._numbers)}"
        for path, content in files.items():
            file = data / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        link = self.folder / "..data_tmp"
        link.symlink_to(data.name)
        link.replace(self.folder / "..data")
        wanted = {path.split("/")[0] for path in files}
        for name in wanted:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for visible in self.folder.iterdir():
            if not visible.name.startswith("..") and visible.name not in wanted:
                visible.unlink()
        if self._last is not None:
            shutil.rmtree(self._last)
        self._last = data
