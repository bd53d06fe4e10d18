"""PURE. The choice which index is updated next when more repos wait than may run concurrently."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pywharf_operator.render import Finding
from pywharf_operator.spec import ObjectKey

MAX_CONCURRENT: Final = 20
"""Most concurrent Jobs of a server that the operator itself started. A thousand new repos must not cause a thousand
concurrent pods."""
RESERVED_SLOTS: Final = 20
"""Further Jobs, for namespaces without a running Job, so that nobody waits for another tenant's long updates."""
_STEPS: Final = (1, 10, 100, 1000)
"""Steps to which a message rounds up a repo's position in the queue. The exact number would change for all repos
whenever a Job ends."""


class Waiting(msgspec.Struct, frozen=True, order=True):
    """A repo whose index is to be updated. Repos sort by their waiting time, the longest first."""

    last_update: float
    """Unix seconds; repos without an update are first."""
    created: float
    repo: ObjectKey


def granted(waiting: Sequence[Waiting], running: Mapping[str, int]) -> frozenset[ObjectKey]:
    """Choose the repos whose Jobs start now. `running` counts the Jobs by namespace.

    The next slot is for the namespace with the fewest running Jobs, and there for the repo that has waited longest.
    """
    queues: dict[str, list[Waiting]] = defaultdict(list)
    for one in sorted(waiting, reverse=True):
        queues[one.repo.namespace].append(one)
    counts = Counter(running)
    total = counts.total()
    found = set()
    while queues:
        namespace = min(queues, key=lambda name: (counts[name], queues[name][-1]))
        if total >= MAX_CONCURRENT and (counts[namespace] or total >= MAX_CONCURRENT + RESERVED_SLOTS):
            break
        found.add(queues[namespace].pop().repo)
        counts[namespace] += 1
        total += 1
        if not queues[namespace]:
            del queues[namespace]
    return frozenset(found)


def waits_for_slot(waiting: Sequence[Waiting], taken: frozenset[ObjectKey]) -> Mapping[ObjectKey, Finding]:
    """Return the condition of each repo that got no slot."""
    before: Counter[str] = Counter()
    found = {}
    for one in sorted(waiting):
        if one.repo in taken:
            continue
        namespace = one.repo.namespace
        position = before[namespace]
        before[namespace] += 1
        within = next((step for step in _STEPS if position < step), None)
        position_text = (
            "it is the next one of its namespace"
            if position == 0
            else f"fewer than {within} repos of its namespace are before it"
            if within is not None
            else f"more than {_STEPS[-1]} repos of its namespace are before it"
        )
        found[one.repo] = Finding(
            status=None,
            reason="WaitingForSlot",
            message=(
                f"An update waits for a free slot: {MAX_CONCURRENT} run at once on the server, "
                f"shared between namespaces; {position_text}."
            ),
        )
    return found


def waits_for_job(job: str) -> Finding:
    """Return the condition of a repo whose update is already running."""
    return Finding(
        status=None,
        reason="WaitingForJob",
        message=f"An update was asked for while Job {job} runs; the next one starts when that has ended.",
    )
