"""Read a wheel or an sdist for an index, and check the archive and its core metadata against the file's name."""

from typing import BinaryIO

import msgspec

from pywharf.core.archive import read_contents
from pywharf.core.filenames import DistributionFilename
from pywharf.core.metadata import CoreMetadata, parse_metadata


class Distribution(msgspec.Struct, frozen=True):
    """The parts of a distribution that an index needs."""

    raw_metadata: bytes
    """The core metadata as the archive holds it; empty if an sdist has none."""
    metadata: CoreMetadata
    notes: tuple[str, ...] = ()
    """Requirements that an old sdist does not meet, one sentence each."""


def read_distribution(stream: BinaryIO, filename: DistributionFilename) -> Distribution:
    """Read and check the whole file. Raises InvalidDistributionError. Blocking; call it in a thread."""
    contents = read_contents(stream, filename)
    if contents.metadata is None:
        said = CoreMetadata(filename.project, filename.version)
        return Distribution(b"", said, contents.notes)
    return Distribution(contents.metadata, parse_metadata(contents.metadata, filename), contents.notes)
