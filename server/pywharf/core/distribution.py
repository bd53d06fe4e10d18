"""Read a wheel or an sdist for an index, check it against its name, and make its record."""

import hashlib
from typing import BinaryIO

import msgspec

from pywharf.core.archive import read_contents
from pywharf.core.filenames import DistributionFilename, Kind
from pywharf.core.metadata import CoreMetadata, parse_metadata
from pywharf.core.model import File, rfc3339


class Distribution(msgspec.Struct, frozen=True):
    """The parts of a distribution that an index needs."""

    filename: DistributionFilename
    raw_metadata: bytes
    """The core metadata as the archive holds it; empty if an sdist has none."""
    metadata: CoreMetadata
    notes: tuple[str, ...] = ()
    """Requirements that an old sdist does not meet, one sentence each."""

    @property
    def offered_metadata(self) -> bytes | None:
        """The core metadata that clients may fetch beside the file (PEP 658).

        None for an sdist, whose PKG-INFO may differ from the metadata of what it builds.
        """
        return self.raw_metadata if self.filename.kind is Kind.WHEEL else None


def read_distribution(stream: BinaryIO, filename: DistributionFilename) -> Distribution:
    """Read and check the whole file. Raises InvalidDistributionError. Blocking; call it in a thread."""
    contents = read_contents(stream, filename)
    if contents.metadata is None:
        said = CoreMetadata(filename.project, filename.version)
        return Distribution(filename, b"", said, contents.notes)
    return Distribution(filename, contents.metadata, parse_metadata(contents.metadata, filename), contents.notes)


def record_of(
    distribution: Distribution, *, sha256: str, size: int, uploaded_at: float, stamp: str | None = None
) -> File:
    """Return the record of a distribution, whether it is uploaded now or found in a storage.

    `uploaded_at` is in Unix seconds. `stamp` identifies a file that already is in its place.
    """
    offered = distribution.offered_metadata
    return File(
        filename=distribution.filename.filename,
        sha256=sha256,
        size=size,
        upload_time=rfc3339(uploaded_at),
        requires_python=distribution.metadata.requires_python,
        metadata_sha256=None if offered is None else hashlib.sha256(offered).hexdigest(),
        stamp=stamp,
    )
