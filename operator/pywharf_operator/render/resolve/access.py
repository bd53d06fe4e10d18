"""The condition AccessResolved of a repo: whether each of its access entries can have an effect."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from pywharf_operator.render.resolve.findings import Finding
from pywharf_operator.render.resolve.identity import (
    is_audience_of_api_server,
    issuers_of,
    issuers_of_cluster,
    knows_cluster,
)
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.render.resolve.usable_identity import usable_identity
from pywharf_operator.spec import PackageRepo, PackageServer
from pywharf_operator.spec.access import Access, delivered

ENDS_SOON: Final = timedelta(days=7)
_LONGEST_WAIT_S: Final = 86400.0
_LATE_S: Final = 0.1
"""Seconds after an end, so that a clock that is a little late does not miss it."""
_RESOLVED: Final = Finding(status=True, reason="Resolved", message="Every access entry has an effect.")


def access_resolved(
    repo: PackageRepo, server: PackageServer, keys: ClusterKeys, now: datetime | None
) -> Finding | None:
    """Return the condition; None for a repo without access entries. `now` None: no end is compared.

    The message names every entry that has a fault, and those that deserve a look; the reason is that of the first.
    """
    entries = repo.spec.access
    if not entries:
        return None
    faults, notes = [*_unusable(entries, server, keys)], [*_repeated(entries)]
    if now is not None:
        faults += _ended(entries, now)
        notes += _ending(entries, now)
    if not faults and not notes:
        return _RESOLVED
    reason = (faults or notes)[0][0]
    return Finding(status=not faults, reason=reason, message=" ".join(sentence for _, sentence in faults + notes))


def next_end_s(repos: Iterable[PackageRepo], now: datetime) -> list[float]:
    """Return the seconds until the first time at which an entry ends or begins to end soon; nothing without one.

    The condition changes then, and no event reports it. It is never more than a day.
    """
    ends = (entry.expires for repo in repos for entry in repo.spec.access if entry.expires is not None)
    changes = [change for end in ends for change in (end, end - ENDS_SOON) if change > now]
    if not changes:
        return []
    return [min((min(changes) - now).total_seconds(), _LONGEST_WAIT_S) + _LATE_S]


def _unusable(entries: Iterable[Access], server: PackageServer, keys: ClusterKeys) -> Iterator[tuple[str, str]]:
    """Yield a reason and a sentence for what the server lacks."""
    yield from _without_issuer(entries, server, keys)
    yield from _without_accounts([entry.name for entry in entries if entry.service_accounts], server, keys)
    yield from _without_proxy([entry.name for entry in entries if entry.proxy_groups], server)


def _without_issuer(entries: Iterable[Access], server: PackageServer, keys: ClusterKeys) -> Iterator[tuple[str, str]]:
    by_issuer: dict[str, list[str]] = {}
    for entry in entries:
        for issuer in issuers_of(delivered(entry)):
            by_issuer.setdefault(issuer, []).append(entry.name)
    listed = {one.name for one in server.spec.identity.issuers}
    for issuer, names in sorted(by_issuer.items()):
        if issuer not in listed:
            sentence = (
                f"{_entries(names)} the issuer {issuer}, which is not among spec.identity.issuers of PackageServer "
                f"{server.key}; have it added there, or correct the name."
            )
            yield "IssuerUnknown", sentence
    left_out = listed - {one.name for one in usable_identity(server.spec.identity).issuers}
    if names := [name for issuer in by_issuer.keys() & left_out for name in by_issuer[issuer]]:
        sentence = (
            f"{_entries(sorted(names))} an issuer that PackageServer {server.key} leaves out of its "
            "spec.identity.issuers; have it corrected there, as the server's condition IdentityReady says."
        )
        yield "IssuerInvalid", sentence
    own = issuers_of_cluster(server, keys)
    if names := [entry.name for entry in entries if issuers_of(delivered(entry)) & own]:
        sentence = (
            f"{_entries(names)} an issuer of PackageServer {server.key} that is the cluster's own, which is believed "
            "about serviceAccounts alone; name those instead."
        )
        yield "IssuerIsCluster", sentence


def _without_accounts(names: list[str], server: PackageServer, keys: ClusterKeys) -> Iterator[tuple[str, str]]:
    if not names:
        return
    if server.spec.identity.service_accounts == "Off":
        sentence = (
            f"{_entries(names)} serviceAccounts, and spec.identity.serviceAccounts of PackageServer {server.key} is "
            "Off; have it set to Offline, or take the entries out."
        )
        yield "ServiceAccountsOff", sentence
    elif is_audience_of_api_server(server, keys):
        sentence = (
            f"{_entries(names)} serviceAccounts; none is believed, as the API server takes spec.identity.audience "
            f"of PackageServer {server.key} as its own. Have another audience chosen there."
        )
        yield "AudienceOfApiServer", sentence
    elif keys.fault is not None and not knows_cluster(server, keys):
        yield keys.fault.reason, f"{_entries(names)} serviceAccounts; none is believed now: {keys.fault.message}"


def _without_proxy(names: list[str], server: PackageServer) -> Iterator[tuple[str, str]]:
    if not names:
        return
    if not server.spec.identity.proxy_headers:
        sentence = (
            f"{_entries(names)} proxyGroups, and spec.identity.proxyHeaders of PackageServer {server.key} is false; "
            "have it set to true, with the proxy in trustedProxies, or take the entries out."
        )
        yield "ProxyHeadersOff", sentence
    elif not usable_identity(server.spec.identity).trusted_proxies:
        sentence = (
            f"{_entries(names)} proxyGroups, and PackageServer {server.key} can use none of its "
            "spec.identity.trustedProxies; have them corrected, as the server's condition IdentityReady says."
        )
        yield "ProxyInvalid", sentence


def _ended(entries: Iterable[Access], now: datetime) -> Iterator[tuple[str, str]]:
    names = [entry.name for entry in entries if entry.expires is not None and entry.expires <= now]
    if names:
        yield "EntryExpired", f"Ended, and granting nothing: {', '.join(names)}; take them out, or give them a new end."


def _ending(entries: Iterable[Access], now: datetime) -> Iterator[tuple[str, str]]:
    ends = [
        f"{entry.name} at {entry.expires:%Y-%m-%dT%H:%M:%S%z}"
        for entry in entries
        if entry.expires is not None and now < entry.expires <= now + ENDS_SOON
    ]
    if ends:
        yield "EntryEndsSoon", f"Within {ENDS_SOON.days} days end: {', '.join(ends)}."


def _repeated(entries: Iterable[Access]) -> Iterator[tuple[str, str]]:
    counts = Counter(digest for entry in entries for digest in set(entry.token_digests))
    names = [entry.name for entry in entries if any(counts[digest] > 1 for digest in entry.token_digests)]
    if names:
        sentence = (
            f"{', '.join(names)} have a token's digest in common, so its holder may do what all of them allow; to "
            "revoke it, take it out of each."
        )
        yield "DigestRepeated", sentence


def _entries(names: list[str]) -> str:
    one = len(names) == 1
    return f"The access entr{'y' if one else 'ies'} {', '.join(names)} name{'s' if one else ''}"
