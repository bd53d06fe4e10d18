"""The schedule of a repo's index updates."""

import hashlib

from pywharf_operator.spec import PackageRepo

_MINUTES = 60


def schedule_of(repo: PackageRepo) -> str:
    """Return the repo's own schedule; otherwise hourly, at a fixed minute that differs between repos to spread them."""
    if repo.spec.index.schedule is not None:
        return repo.spec.index.schedule
    digest = hashlib.sha256(str(repo.key).encode()).digest()
    return f"{int.from_bytes(digest[:8], 'big') % _MINUTES} * * * *"
