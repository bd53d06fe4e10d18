"""Fair shares of a limited resource: the namespace that takes the most loses its newest repos first."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from pywharf_operator.spec import ObjectKey, ObjectMeta

T = TypeVar("T")
Age = tuple[float, ObjectKey]


def age_of(key: ObjectKey, metadata: ObjectMeta) -> Age:
    """Return a key that sorts repos from oldest to newest. A repo without a creation time counts as the oldest."""
    return (seconds_of(metadata.creation_timestamp), key)


def seconds_of(created: datetime | None) -> float:
    """Return when a repo was created. One without a time is the oldest; a time without a zone is in UTC."""
    if created is None:
        return float("-inf")
    return (created if created.tzinfo is not None else created.replace(tzinfo=UTC)).timestamp()


class Share(msgspec.Struct, frozen=True):
    """The part of a limited resource that one repo takes."""

    repo: ObjectKey
    age: Age
    size: int
    fixed: bool = False
    """Whether the repo stays in any case."""


def excess(shares: Iterable[Share], budget: int) -> frozenset[ObjectKey]:
    """Choose the repos to refuse so that the others take at most `budget`.

    Each step refuses the newest repo of the namespace whose repos take the most at that moment. So a namespace loses no
    repo while another one takes more, however much the other adds, and the order of `shares` does not matter.
    """
    left: dict[str, list[Share]] = defaultdict(list)
    totals: dict[str, int] = defaultdict(int)
    for share in sorted(shares, key=lambda share: share.age):
        totals[share.repo.namespace] += share.size
        if not share.fixed:
            left[share.repo.namespace].append(share)
    total, refused = sum(totals.values()), set()
    heap = [(-totals[namespace], namespace) for namespace in left]
    heapq.heapify(heap)
    while total > budget and heap:
        size, namespace = heap[0]
        newest = left[namespace].pop()
        refused.add(newest.repo)
        total -= newest.size
        if left[namespace]:
            heapq.heapreplace(heap, (size + newest.size, namespace))
        else:
            heapq.heappop(heap)
    return frozenset(refused)


def past(ages: Iterable[Age], most: int) -> frozenset[ObjectKey]:
    """Return the repos of each namespace beyond its `most` oldest."""
    left: dict[str, list[ObjectKey]] = defaultdict(list)
    for _, key in sorted(ages):
        left[key.namespace].append(key)
    return frozenset(key for keys in left.values() for key in keys[most:])


def round_robin(items: Iterable[T], namespace_of: Callable[[T], str]) -> Sequence[T]:
    """Order the items so that each namespace has one, then each a second one, and so on; otherwise keep their order."""
    found: dict[str, int] = defaultdict(int)
    numbered = []
    for item in items:
        namespace = namespace_of(item)
        numbered.append((found[namespace], item))
        found[namespace] += 1
    return [item for _, item in sorted(numbered, key=lambda pair: pair[0])]
