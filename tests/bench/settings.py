"""How much is measured."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Of one run of the bench; `folder` is a temporary one."""

    runs: int
    """Of which the median counts."""
    seconds: int
    """Of one run."""
    folder: Path
