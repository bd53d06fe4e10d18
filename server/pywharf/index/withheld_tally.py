"""Count what policies withheld on the pages that were made lately, in bounded memory."""

import threading
from collections import Counter
from collections.abc import Container, Iterable, Mapping

from cachetools import LRUCache

from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.evaluation import Withheld
from pywharf.core.reports import WithheldCount

_MAX_COUNTS = 50_000
"""Counts kept: one for each policy and rule that withholds files of a project. Each takes about 200 bytes."""

_Counts = Mapping[tuple[str, str], int]
"""Files by policy and rule."""


class WithheldTally:
    """What was withheld on the newest page of each project. The projects noted longest ago are dropped first.

    Threads may share it.
    """

    def __init__(self, max_counts: int = _MAX_COUNTS) -> None:
        self._lock = threading.Lock()
        self._projects: LRUCache[tuple[RepoName, ProjectName], _Counts] = LRUCache(max_counts, len)

    def note(self, repo: RepoName, project: ProjectName, withheld: Iterable[Withheld]) -> None:
        """Record what the newest page of a project lacks, in the place of what was recorded before."""
        counts: Counter[tuple[str, str]] = Counter((one.policy, one.rule) for one in withheld)
        with self._lock:
            self._put((repo, project), counts)

    def _put(self, key: tuple[RepoName, ProjectName], counts: _Counts) -> None:
        self._projects.pop(key, None)
        if 0 < len(counts) <= self._projects.maxsize:
            self._projects[key] = counts

    def retain(self, policies: Container[str], repos: Container[RepoName]) -> None:
        """Drop the counts of all other policies and repos."""
        with self._lock:
            for (repo, project), counts in list(self._projects.items()):
                kept = {key: count for key, count in counts.items() if key[0] in policies and repo in repos}
                if len(kept) != len(counts):
                    self._put((repo, project), kept)

    def by_policy(self) -> dict[str, WithheldCount]:
        """Return how much each policy withholds. A file counts for one policy, the one that its page names."""
        files: Counter[str] = Counter()
        projects: Counter[str] = Counter()
        for counts in self._noted():
            for (policy, _), count in counts.items():
                files[policy] += count
            projects.update({policy for policy, _ in counts})
        return {policy: WithheldCount(files[policy], projects[policy]) for policy in files}

    def by_rule(self) -> Counter[str]:
        """Return how many files each rule withholds."""
        found: Counter[str] = Counter()
        for counts in self._noted():
            for (_, rule), count in counts.items():
                found[rule] += count
        return found

    def _noted(self) -> list[_Counts]:
        with self._lock:
            return list(self._projects.values())
