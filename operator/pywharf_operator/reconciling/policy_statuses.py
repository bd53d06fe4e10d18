"""The writer of the policies' statuses. A policy may be about several servers, so no server's reconcile writes them."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import aiohttp

from pywharf.core.reports import WithheldCount
from pywharf_operator.cluster.live import key_of
from pywharf_operator.reconciling.observe import Observer
from pywharf_operator.reconciling.parsed_objects import Malformed
from pywharf_operator.reconciling.policy_board import PolicyBoard
from pywharf_operator.reconciling.replica_client import ask
from pywharf_operator.render import PolicyReach
from pywharf_operator.spec import PACKAGE_SERVER, ObjectKey, PackagePolicy
from pywharf_operator.spec.kinds import POLICY
from pywharf_operator.spec.package_policy import PackagePolicyStatus, Withheld
from pywharf_operator.status.conditions import malformed_status
from pywharf_operator.status.policies import PolicyReport, next_end_s, policy_status
from pywharf_operator.status.writer import Status, Statuses

_logger = logging.getLogger(__name__)
_COUNT_AGAIN_S: Final = 30.0
"""Seconds between two counts of what the policies withhold."""
_SOONEST_S: Final = 1.0


class PolicyStatuses:
    """Writes the statuses of all policies. It remembers what the replicas counted last."""

    def __init__(
        self,
        observer: Observer,
        statuses: Statuses,
        http: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._statuses = statuses
        self._http = http
        self._clock = clock
        self.board = PolicyBoard()
        self._counted_at = float("-inf")
        self._counts: dict[ObjectKey, Mapping[ObjectKey, Withheld]] = {}
        """What each server's replicas counted last of its policies, by server."""
        self._failed: dict[ObjectKey, int | None] = {}
        """The generation of each policy whose status cannot be computed, so that it is logged once."""

    async def write(self, now: datetime, superseded: Callable[[], bool]) -> float | None:
        """Write what has changed. Return the seconds to the next time, None without any policy. Raises KubeError.

        A policy is left as it is until the servers that it is about have seen it as it is now.
        """
        listed = await self._observer.policies()
        found = await self._observer.parsed_policies(listed.items)
        existing = await self._observer.servers()
        policies = [one for one in found if isinstance(one, PackagePolicy)]
        if policies:
            await self._count()
        raws = {key_of(raw): raw for raw in listed.items}
        wanted: list[tuple[dict[str, object], Status]] = [
            (one.raw, malformed_status(one.raw, one.finding, now)) for one in found if isinstance(one, Malformed)
        ]
        again: list[float] = []
        failed: dict[ObjectKey, int | None] = {}
        for policy in policies:
            try:
                status, end_s = self._status(policy, existing, now), next_end_s(policy, now)
            except Exception:
                # Whatever it is about, one tenant's policy must not stop the statuses of all others.
                failed[policy.key] = policy.metadata.generation
                if self._failed.get(policy.key, -1) != failed[policy.key]:
                    _logger.exception("The status of PackagePolicy %s cannot be computed, so it stays.", policy.key)
                continue
            if status is not None:
                wanted.append((raws[policy.key], status))
            if end_s is not None:
                again.append(max(_SOONEST_S, end_s))
        self._failed = failed
        await self._statuses.write(POLICY, wanted, now, superseded)
        if any(report.policies for report in self.board.servers.values()):
            again.append(_COUNT_AGAIN_S)
        return min(again, default=None)

    def _status(
        self, policy: PackagePolicy, existing: frozenset[ObjectKey], now: datetime
    ) -> PackagePolicyStatus | None:
        reports = self._reports(policy, existing)
        return None if reports is None else policy_status(policy, reports, self._withheld(policy), now)

    def _reports(self, policy: PackagePolicy, existing: frozenset[ObjectKey]) -> Sequence[PolicyReport] | None:
        """Return what each server says about the policy; None while one that it is about has not seen it yet."""
        servers = self.board.servers
        named: set[ObjectKey] = set()
        for ref in policy.spec.target_refs:
            target = ObjectKey(policy.key.namespace, ref.name)
            holders = [target] if ref.kind == PACKAGE_SERVER else self.board.names(target)
            named.update(one for one in holders if one in existing)
            if not holders and not existing <= servers.keys():
                return None  # another server may have the repo
        reports = []
        for server in named:
            report = servers.get(server)
            if report is None:
                return None
            seen = report.policies.get(policy.key)
            if seen is None and report.fault is not None:
                seen = PolicyReport(_unconfigured(policy, server, report.repos), report.fault)
            if seen is None or not _is_current(policy, seen):
                return None
            reports.append(seen)
        return reports

    def _withheld(self, policy: PackagePolicy) -> Withheld:
        """Return the most that a replica of any server counts.

        Before a server of the policy has been counted, and while none of its replicas has answered yet, it is at least
        what was written last.
        """
        servers = [
            server
            for server, report in self.board.servers.items()
            if policy.key in report.policies
            or (report.fault is not None and _unconfigured(policy, server, report.repos).targets)
        ]
        counts = [self._counts[server].get(policy.key, Withheld()) for server in servers if server in self._counts]
        if policy.status is not None and policy.status.withheld is not None and len(counts) < len(servers):
            counts.append(policy.status.withheld)
        return _most(counts)

    async def _count(self) -> None:
        if self._clock() - self._counted_at < _COUNT_AGAIN_S:
            return
        self._counted_at = self._clock()
        servers = {key: report for key, report in self.board.servers.items() if report.policies}
        answers = iter(await ask(self._http, [pod for report in servers.values() for pod in report.pods]))
        counts: dict[ObjectKey, Mapping[ObjectKey, Withheld]] = {}
        for key, report in servers.items():
            answered = [one for one in itertools.islice(answers, len(report.pods)) if one.failure is None]
            if answered:
                counts[key] = most_of([one.policies for one in answered], report.policies)
            elif key in self._counts:
                counts[key] = self._counts[key]  # a server whose replicas do not answer keeps what was known last
        self._counts = counts


def most_of(
    answers: Sequence[Mapping[str, WithheldCount]], policies: Iterable[ObjectKey]
) -> Mapping[ObjectKey, Withheld]:
    """Return the most that any replica of a server counts of each policy; no other name of its answer is taken."""
    return {key: _most(answer[name] for answer in answers if (name := str(key)) in answer) for key in policies}


def _most(counts: Iterable[WithheldCount | Withheld]) -> Withheld:
    files, projects = 0, 0
    for count in counts:
        files, projects = max(files, count.files), max(projects, count.projects)
    return Withheld(files=files, projects=projects)


def _unconfigured(policy: PackagePolicy, server: ObjectKey, repos: frozenset[ObjectKey]) -> PolicyReach:
    """Return the reach of a policy on a server that gets no configuration now."""
    keys = {ref: ObjectKey(policy.key.namespace, ref.name) for ref in policy.spec.target_refs}
    targets = {ref for ref, key in keys.items() if (key == server if ref.kind == PACKAGE_SERVER else key in repos)}
    return PolicyReach(
        policy=policy.key,
        uid=policy.metadata.uid,
        generation=policy.metadata.generation or 0,
        targets=frozenset(targets),
        repos=0,
        delivered=True,
    )


def _is_current(policy: PackagePolicy, seen: PolicyReport) -> bool:
    reach, metadata = seen.reach, policy.metadata
    return reach.uid == metadata.uid and reach.generation == (metadata.generation or 0)
