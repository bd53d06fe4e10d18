"""Settings of the bench: how much is measured."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of one invocation of the bench. `folder` is a temporary folder."""

    runs: int
    """Runs of each measurement, of which the median counts."""
    seconds: int
    """Seconds of one run."""
    folder: Path
