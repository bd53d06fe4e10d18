"""Read the document of policies that a server is given."""

import math
from collections.abc import Iterable, Iterator

import msgspec
from packaging.specifiers import InvalidSpecifier

from pywharf.core.errors import InvalidConfigError
from pywharf.core.policy.model import (
    MAX_COSTLY_PATTERNS,
    MAX_POLICIES,
    MAX_RULES,
    MAX_SPECIFIERS,
    MAX_STARS,
    RULES_OF_A_COSTLY_PATTERN,
    Policy,
    PolicyDocument,
    Selected,
)
from pywharf.core.policy.name_patterns import is_costly
from pywharf.core.policy.specifiers import specifier_count, specifier_set


def parse_document(content: bytes) -> PolicyDocument:
    """Parse and check a JSON document. Raises InvalidConfigError; then no part of it may be used."""
    try:
        document = msgspec.json.decode(content, type=PolicyDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfigError(f"The policies cannot be read: {error}.") from error
    check_document(document)
    return document


def check_document(document: PolicyDocument) -> None:
    """Check what the types do not. Raises InvalidConfigError with the policy's name."""
    seen: set[str] = set()
    for policy in document.policies:
        if policy.name in seen:
            raise InvalidConfigError(f"Two policies are named {policy.name!r}; names must be unique.")
        seen.add(policy.name)
        for fault in _faults(policy):
            raise InvalidConfigError(f"The policy {policy.name!r} cannot be used: {fault}.")
    counts = {policy.name: rule_count(policy) for policy in document.policies}
    if sum(counts.values()) > MAX_RULES:
        largest = max(document.policies, key=lambda policy: counts[policy.name])
        raise InvalidConfigError(
            f"The policies have {sum(counts.values())} rules; a server takes {MAX_RULES}. Most of them has "
            f"{largest.name!r}: {counts[largest.name]}{costly_note(largest)}."
        )
    if len(document.policies) > MAX_POLICIES:
        raise InvalidConfigError(f"There are {len(document.policies)} policies; a server takes {MAX_POLICIES}.")


def rule_count(policy: Policy) -> int:
    """Return the number of rules of a policy, as limits count them.

    Each entry of a list is one, or ten if its pattern has to be tried for names. A cooldown and a list of what is
    allowed are one even if they are empty, and so is a policy.
    """
    lists = (policy.deny, policy.yank, policy.status, policy.exceptions)
    cooldown = 0 if policy.cooldown is None else max(1, len(policy.cooldown.projects))
    allowed = 0 if policy.allow_only is None else max(1, len(policy.allow_only))
    entries = max(1, sum(map(len, lists)) + cooldown + allowed + (policy.advisories is not None))
    return entries + _costly_count(policy) * (RULES_OF_A_COSTLY_PATTERN - 1)


def costly_note(policy: Policy) -> str:
    """Return how much of a policy's count its patterns are that have to be tried for names; empty without any."""
    costly = _costly_count(policy)
    if not costly:
        return ""
    return (
        f", {costly * RULES_OF_A_COSTLY_PATTERN} of them for {costly} patterns with a * that is not their end, each of "
        f"which counts as {RULES_OF_A_COSTLY_PATTERN}"
    )


def _costly_count(policy: Policy) -> int:
    return sum(map(is_costly, _patterns(policy)))


def too_many_patterns(patterns: Iterable[str]) -> str | None:
    """Return what is wrong if one policy has too many patterns that must be tried for names, without a full stop."""
    costly = sum(map(is_costly, patterns))
    if costly <= MAX_COSTLY_PATTERNS:
        return None
    return (
        f"{costly} patterns have a * that is not their end; at most {MAX_COSTLY_PATTERNS} may, so write names or "
        "beginnings such as acme-*"
    )


def _patterns(policy: Policy) -> Iterator[str]:
    selected: tuple[Selected, ...] = (*policy.deny, *policy.yank, *policy.exceptions)
    yield from (rule.project for rule in selected)
    yield from (status.project for status in policy.status)
    yield from policy.allow_only or ()
    if policy.cooldown is not None:
        yield from policy.cooldown.projects


def _faults(policy: Policy) -> Iterator[str]:
    """Yield a sentence for each rule that cannot be used."""
    for pattern in _patterns(policy):
        if pattern.count("*") > MAX_STARS:
            yield f"the pattern {pattern!r} has more than {MAX_STARS} *"
    if (fault := too_many_patterns(_patterns(policy))) is not None:
        yield fault
    rules: tuple[Selected, ...] = (*policy.deny, *policy.yank, *policy.exceptions)
    for rule in rules:
        if rule.versions is not None and (count := specifier_count(rule.versions)) > MAX_SPECIFIERS:
            yield f"a rule about {rule.project!r} has {count} version specifiers; at most {MAX_SPECIFIERS} are allowed"
            continue
        try:
            specifier_set(rule.versions or "")
        except InvalidSpecifier:
            yield f"the versions {rule.versions!r} of {rule.project!r} are not version specifiers (PEP 440)"
    for exception in policy.exceptions:
        if not math.isfinite(exception.until):
            yield f"an exception of {exception.project!r} has no end"
