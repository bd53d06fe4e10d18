"""PURE. The condition Programmed: whether every replica has a repo or a policy as it is described now."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from cachetools import FIFOCache

from pywharf.core.reports import FailingSource, Fault, WithheldCount
from pywharf_operator.render import Finding
from pywharf_operator.render.pod.pod_template import INTERNAL_PORT

_REMEMBERED: Final = 32
"""Number of configurations that are remembered. A replica is hardly ever more than one behind."""
_SHOWN: Final = 300
_REASONS: Final = {"data-owned-by-other": "DataOwnedByOther", "preconditions-ignored": "PreconditionsIgnored"}
"""Reasons of faults that somebody must resolve, by the faults' codes."""


class ReplicaReport(msgspec.Struct, frozen=True):
    """A replica's report about itself."""

    pod: str
    digest: str | None
    """Digest of the configuration that it serves; None: it serves none, or did not answer."""
    broken: Mapping[str, Fault]
    """Repos that it could not open, and why."""
    failure: str | None
    """Why the replica's answer is missing or unusable."""
    policies: Mapping[str, WithheldCount] = {}
    """What each policy withholds on the pages that the replica made lately."""
    knows_policies: bool = True
    """Whether it is of a version that reads policies; others refuse a configuration that names some."""
    knows_access: bool = True
    """Whether it is of a version that reads access entries; others refuse a configuration that has some."""
    knows_sources: bool = True
    """Whether it is of a version that reads several sources and the mode Cached; others refuse such a configuration."""
    upstreams: tuple[FailingSource, ...] = ()
    """Other indexes that it cannot get pages from now."""
    refused: str = ""
    """Why it refuses the newest configuration; "": it does not, or is of a version that does not say."""
    reviews_forbidden: bool = False
    """Whether it must ask the API server about tokens and may not."""
    reached: bool = True
    """Whether the replica itself answered: False without an answer, or if a mesh or a proxy answered."""

    @property
    def knows_all(self) -> bool:
        """Whether it is of a version that reads all that a configuration may hold."""
        return self.knows_policies and self.knows_access and self.knows_sources


class ConfigHistory:
    """The last configurations, by digest: a hash of each repo's and policy's part.

    If it is lost, only the newest one counts.
    """

    def __init__(self) -> None:
        self._contents: FIFOCache[str, Mapping[str, str]] = FIFOCache(_REMEMBERED)

    def remember(self, digest: str, contents: Mapping[str, str]) -> None:
        """Remember a rendered configuration, with a hash of each part of it."""
        self._contents[digest] = contents

    def content(self, digest: str | None, name: str) -> str | None:
        """Return the hash of a repo's or a policy's part; None if the configuration is unknown or has none of it."""
        return None if digest is None else self._contents.get(digest, {}).get(name)


def unreachable(reports: Sequence[ReplicaReport]) -> Finding | None:
    """Return the finding about ready replicas whose internal port is unreachable; None if all are reachable."""
    lost = [report for report in reports if not report.reached]
    if not lost:
        return None
    message = (
        f"{len(lost)} of {len(reports)} ready replicas cannot be asked which configuration they serve "
        f"({lost[0].pod}: {lost[0].failure}); they may serve it all the same. Let the operator's pod reach their port "
        f"{INTERNAL_PORT}: allow it in NetworkPolicies, and in a service mesh with strict mTLS leave the port out of "
        "the sidecar by an annotation of spec.podTemplate.metadata, for Istio "
        f'traffic.sidecar.istio.io/excludeInboundPorts: "{INTERNAL_PORT}".'
    )
    return Finding(status=False, reason="ReplicasUnreachable", message=message)


def too_old(
    reports: Sequence[ReplicaReport], *, policies: bool = True, access: bool = True, sources: bool = True
) -> Finding | None:
    """Return the finding about replicas that cannot read the configuration; None if all can.

    `policies`, `access` and `sources`: whether it has policies, access entries, and sources or the mode Cached.
    """
    for what, old in (
        ("policies", [report for report in reports if policies and not report.knows_policies]),
        ("access entries", [report for report in reports if access and not report.knows_access]),
        ("upstream sources and caches", [report for report in reports if sources and not report.knows_sources]),
    ):
        if old:
            return _too_old(what, old[0].pod, f"{len(old)} of {len(reports)}")
    return None


def _too_old(what: str, first: str, how_many: str) -> Finding:
    message = (
        f"{how_many} ready replicas know no {what} (the first is {first}), so they refuse the "
        "newest configuration and serve the one before. Set spec.image of the PackageServer to a newer image, or take "
        "the field out, for the operator's own image."
    )
    return Finding(status=False, reason="ImageTooOld", message=message)


def refused(reports: Sequence[ReplicaReport]) -> Finding | None:
    """Return the finding about replicas that refuse the newest configuration, as they say; None if none does."""
    refusing = [report for report in reports if report.refused]
    if not refusing:
        return None
    message = (
        f"{len(refusing)} of {len(reports)} ready replicas refuse the newest configuration and serve the one before "
        f"({refusing[0].pod}: {_shown(refusing[0].refused)}). If spec.image of the PackageServer names an older image "
        "than the operator's, set it to a newer one, or take the field out; otherwise correct what it says."
    )
    return Finding(status=False, reason="ConfigRefused", message=message)


def programmed(  # noqa: PLR0913 - what is served, and what may be wrong with it
    name: str,
    content: str,
    reports: Sequence[ReplicaReport],
    history: ConfigHistory,
    *,
    lost: Finding | None = None,
    old: Finding | None = None,
) -> Finding:
    """Return the condition Programmed of a repo or a policy whose part of the configuration has the hash `content`.

    A replica that still serves an older configuration counts if the repo's part is the same there: changes of other
    repos do not matter. Instead of Waiting, `lost` is reported once replicas have been unreachable for a while, and
    `old` if replicas cannot read such a configuration.
    """
    if not reports:
        return Finding(
            status=False,
            reason="NoReadyReplica",
            message="No replica of the server is ready; see the conditions of its PackageServer and its pods.",
        )
    current = [report for report in reports if history.content(report.digest, name) == content]
    broken = next((report for report in current if name in report.broken), None)
    if broken is not None:
        fault = broken.broken[name]
        reason = _REASONS.get(fault.code, "BrokenOnReplica")
        message = f"Replica {broken.pod} cannot serve it: {_shown(fault.message)}"
        return Finding(status=False, reason=reason, message=message)
    if len(current) < len(reports):
        if (fault_of_replicas := lost or old) is not None:
            return fault_of_replicas
        why = next((f" {report.pod}: {report.failure}." for report in reports if report.failure), "")
        message = f"{len(current)} of {len(reports)} ready replicas serve the newest configuration.{why}"
        return Finding(status=False, reason="Waiting", message=message)
    # The message has no number; otherwise each change of scale would be a write for each repo.
    return Finding(status=True, reason="Programmed", message="Every ready replica serves this configuration.")


def _shown(text: str) -> str:
    """Return a replica's words as a condition shows them."""
    return "".join(c if c.isprintable() else " " for c in text)[:_SHOWN]
