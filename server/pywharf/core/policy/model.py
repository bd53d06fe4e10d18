"""The policies of a server, as they are delivered to it: one JSON document for all its repos.

A field that a server does not know is an error: it may be a newer operator's rule, without which too much is shown.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName

Rule = Literal["Cooldown", "AllowOnly", "Deny", "Yank", "Status", "Advisory"]
"""What a rule of a policy is called in pages, refusals, statuses and exceptions."""
MissingTime = Literal["Deny", "FirstSeen", "Allow"]
Status = Literal["archived", "deprecated", "quarantined"]

Pattern = Annotated[str, Meta(min_length=1, max_length=256)]
"""A project's name, in which * stands for any characters."""
Versions = Annotated[str, Meta(min_length=1, max_length=512)]
"""A set of version specifiers (PEP 440), for example `>=2,<2.3`."""
Reason = Annotated[str, Meta(max_length=512)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

MAX_RULES = 10_000
"""Most rules of all policies of a server together."""
RULES_OF_A_COSTLY_PATTERN = 10
"""How many rules an entry counts as if its pattern has to be tried for names; see MAX_COSTLY_PATTERNS."""
MAX_STARS = 4
"""Most `*` in a pattern."""
MAX_COSTLY_PATTERNS = 500
"""Most patterns of a policy that have to be tried for names: all but names, `*` and beginnings such as `acme-*`."""
MAX_SPECIFIERS = 20
"""Most specifiers in the `versions` of a rule, so that the number of rules bounds what they cost."""
MAX_POLICIES = 256
"""Most policies of a server: each may have exceptions, which are tried for each file of a page."""


class Cooldown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Withhold upstream files until they are old enough."""

    minimum_age_s: Annotated[int, Meta(ge=0, le=3650 * 86_400)]
    """Seconds since a file's upload."""
    missing_time: MissingTime = "Deny"
    """What counts for a file whose upload time is missing or unreadable."""
    projects: tuple[Pattern, ...] = ("*",)


class Selected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The files of a project that a rule is about."""

    project: Pattern
    versions: Versions | None = None
    """None: every version."""
    sha256: Sha256 | None = None
    """The digest of one file; None: every file."""


class Deny(Selected, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Withhold files."""

    reason: Reason = ""


class Yank(Selected, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Show files as yanked (PEP 592)."""

    reason: Reason = ""


class SetStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Show projects with a status (PEP 792)."""

    project: Pattern
    status: Status
    reason: Reason = ""


class PolicyException(Selected, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Files that some rules of the same policy are not about, until a moment."""

    of: tuple[Rule, ...]
    until: float
    """Unix seconds."""
    reason: Reason


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One policy. A file is withheld where any policy withholds it; an exception loosens its own policy alone."""

    name: Annotated[str, Meta(min_length=1, max_length=320)]
    """`namespace/name` of the resource."""
    repos: tuple[RepoName, ...] | None = None
    """The repos that the policy is about; None: every repo of the server."""
    cooldown: Cooldown | None = None
    allow_only: tuple[Pattern, ...] | None = None
    """The upstream projects that are shown; None: all."""
    deny: tuple[Deny, ...] = ()
    yank: tuple[Yank, ...] = ()
    status: tuple[SetStatus, ...] = ()
    advisories: Literal["Block", "Report"] | None = None
    exceptions: tuple[PolicyException, ...] = ()


@warmed_up
class PolicyDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """All policies of one server."""

    policies: tuple[Policy, ...] = ()
