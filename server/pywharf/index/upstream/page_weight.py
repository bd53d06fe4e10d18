"""How much memory the pages of other indexes take. Pure."""

from collections.abc import Mapping
from sys import getsizeof
from typing import Final

from pywharf.core.model import Project

MAX_HELD_BYTES: Final = 160_000_000
"""Bytes of the pages that a worker holds in memory: about 200,000 files with common texts."""
_OBJECT = 150
"""Bytes of a page or a file without its texts, rounded up."""


def weight_of(project: Project | None, vanished: Mapping[str, str] | None = None) -> int:
    """Return about how many bytes a page takes. Call it in a thread: a page may list 100,000 files."""
    weight = 10 * _OBJECT
    if project is not None:
        weight += getsizeof(project.status_reason)
        for file in project.files:
            weight += (
                _OBJECT
                + getsizeof(file.filename)
                + getsizeof(file.sha256)
                + getsizeof(file.upload_time)
                + getsizeof(file.requires_python)
                + getsizeof(file.metadata_sha256)
                + getsizeof(file.yanked)
                + getsizeof(file.location)
                + getsizeof(file.provenance)
            )
    for name, digest in (vanished or {}).items():
        weight += _OBJECT + getsizeof(name) + getsizeof(digest)
    return weight
