"""A generated index of a few hundred projects, whose files are of different ages."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from pywharf.core.model import rfc3339
from support.distributions.wheels import wheel
from support.server.upstream import Upstream

DAY_S = 86_400.0
_AGES = (0.1, 0.5, 1, 3, 5, 6.5, 7.5, 8, 10, 20, 60)
"""Days; none is near a cooldown of seven days, so that the moment of a test does not matter."""


@dataclass
class DatedUpstream:
    """What was generated: by project, the upload time of each file in Unix seconds."""

    uploaded: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def projects(self) -> list[str]:
        return sorted(self.uploaded)


def generate(index: Upstream, folder: Path, projects: int, seed: int = 7) -> DatedUpstream:
    """Offer `projects` projects, each with releases 1.0 to 5.0 at most.

    Release 1.0 of each is old. What a project requires of others depends on nothing but the project, so that there is
    one newest solution, whichever way a resolver searches; a release younger than a day requires more, and conflicts.
    A release may have a second file, of a higher build, that is younger than the release.
    """
    choose = random.Random(seed)
    now = time.time()
    made = DatedUpstream()
    names = [f"project-{number:03}" for number in range(projects)]
    for number, name in enumerate(names):
        required = [_requirement(choose, other) for other in choose.sample(names[:number], min(number, 3))]
        times: dict[str, float] = {}
        files = []
        for release in range(1, choose.randint(2, 5) + 1):
            age = 90.0 if release == 1 else choose.choice(_AGES)
            conflicting = [f"{names[0]}>100"] if age < 1 else []
            file = _wheel(folder, name, release, [*required, *conflicting])
            files.append(file)
            times[file.name] = now - age * DAY_S
            if choose.random() < 0.1:
                files.append(_build(file))
                times[files[-1].name] = now - choose.choice([a for a in _AGES if a <= age]) * DAY_S
        uploaded = {file: rfc3339(moment) for file, moment in times.items()}
        index.offer(name, *files, uploaded=uploaded, core_metadata=True)
        made.uploaded[name] = times
    return made


def _requirement(choose: random.Random, name: str) -> str:
    return f"{name}>=1.0{choose.choice(['', '', '', ',<4', ',!=3.0'])}"


def _wheel(folder: Path, name: str, release: int, requires: list[str]) -> Path:
    extra = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    return wheel(folder, name, f"{release}.0", payload=f"VALUE = {release}\n".encode(), extra_metadata=extra)


def _build(file: Path) -> Path:
    """Return a copy of a wheel with a build tag, which installers prefer."""
    copy = file.with_name(file.name.replace("-py3-", "-1-py3-"))
    copy.write_bytes(file.read_bytes())
    return copy
