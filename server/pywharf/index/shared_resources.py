"""What all repos of one worker share, so that many repos together stay within one worker's memory and threads."""

import time
from collections.abc import Callable
from functools import partial

import msgspec

from pywharf.index.advisories import CurrentAdvisories
from pywharf.index.change_probes import ChangeProbes
from pywharf.index.claims_in_memory import ClaimsOfRepos
from pywharf.index.evaluations import SharedEvaluations
from pywharf.index.fair_slots import FairSlots
from pywharf.index.page_cache import PageCache
from pywharf.index.staging_room import StagingRoom
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.upstream_cache import UpstreamCache
from pywharf.index.withheld_tally import WithheldTally

_PAGE_CACHE_BYTES = 128 * 1024 * 1024
_MAX_CONCURRENT_CHECKS = 2
"""Uploads whose archives are read concurrently, one of each repo, by a thread that others must wait for."""


class SharedResources(msgspec.Struct, frozen=True):
    """The caches and slots that a worker makes once. Use them in one event loop."""

    extra_index: ExtraIndex
    cache: UpstreamCache | None = None
    """The pull-through cache; None: there is none, and repos in mode Cached cannot be opened."""
    pages: PageCache = msgspec.field(default_factory=partial(PageCache, _PAGE_CACHE_BYTES))
    change_probes: ChangeProbes = msgspec.field(default_factory=ChangeProbes)
    checks: FairSlots = msgspec.field(default_factory=partial(FairSlots, _MAX_CONCURRENT_CHECKS))
    """Slots for uploads whose content is being checked."""
    staging: StagingRoom = msgspec.field(default_factory=StagingRoom)
    """The room on disk for uploads that are being received."""
    withheld: WithheldTally = msgspec.field(default_factory=WithheldTally)
    clock: Callable[[], float] = time.time
    """Returns the Unix seconds by which policies are evaluated."""
    evaluations: SharedEvaluations = msgspec.field(default_factory=SharedEvaluations)
    """The slots of the threads that evaluate policies, and what these make of files that were downloaded lately."""
    advisories: CurrentAdvisories = msgspec.field(default_factory=CurrentAdvisories)
    """What the server's feed of advisories says now."""
    claims: ClaimsOfRepos = msgspec.field(default_factory=ClaimsOfRepos)
    """The claims of the repos whose backend keeps none."""
