"""The access entries of a repo, as a configuration has them: each names one kind of subject and what it may do."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pywharf.core.access.claim_patterns import MAX_LENGTH, MAX_STARS
from pywharf.core.access.permission import Permission
from pywharf.core.policy.name_patterns import is_costly, is_name_pattern

EntryPermission = Literal["Read", "Publish"]
PERMISSIONS = {"Read": Permission.READ, "Publish": Permission.WRITE}

Group = Annotated[str, Meta(min_length=1, max_length=256)]
EntryName = Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Pattern = Annotated[str, Meta(min_length=1, max_length=200)]
"""A project's name, in which * stands for any characters."""
TokenDigest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
"""`sha256:` and the SHA-256, in hex, of a whole token as clients send it."""
ClaimText = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH)]
"""A claim's text, in which * stands for any characters but `/`; at most MAX_STARS of them."""
RefType = Literal["branch", "tag"]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]

MAX_ENTRIES = 64
"""Most entries of a repo."""
MAX_SUBJECTS = 64
"""Most digests, ServiceAccounts or groups of an entry."""
MAX_CLAIMS = 16
"""Most claims of an entry."""
MAX_CLAIM_PATTERNS = 128
"""Most claims of a repo's entries that have a *: all are tried for a token that no entry names."""
MAX_PATTERNS = 1000
"""Most patterns of projects of a repo's entries together."""
MAX_COSTLY_PATTERNS = 64
"""Most patterns of a repo's entries that have a * elsewhere than at their end: such ones are tried for each name."""


class ServiceAccountRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A ServiceAccount of the cluster."""

    namespace: Annotated[str, Meta(min_length=1, max_length=63)]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    """`*`: every ServiceAccount of the namespace."""


class Github(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A workflow of GitHub Actions, by the claims of its token."""

    repository: Annotated[str, Meta(pattern="^[^/*]+/[^/*]+$", max_length=200)]
    """OWNER/NAME."""
    workflow: Annotated[str, Meta(min_length=1, max_length=255)]
    """The file's name below .github/workflows of this very repository; reusable ones of others never pass."""
    environment: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    """None: any, or none."""
    owner_id: Number
    """The owner's number. A name that was given up may be registered again by others; a number never is."""


class Gitlab(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A pipeline of GitLab, by the claims of its token."""

    project: Annotated[str, Meta(pattern="^[^*]+/[^/*]+$", max_length=512)]
    """The project's path: GROUP/…/NAME."""
    pipeline: Annotated[str, Meta(min_length=1, max_length=255)] = ".gitlab-ci.yml"
    """Path of the file that defines the top-level pipeline, in this very project."""
    environment: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    ref: ClaimText | None = None
    """The name of a branch or tag. None: any."""
    ref_type: RefType | None = None
    """None: either. The name of a branch may fit a pattern that is meant for tags."""
    namespace_id: Number
    issuer: Annotated[str, Meta(min_length=1, max_length=63)] = "gitlab"
    """Name of the issuer, for a GitLab of one's own."""


class Oidc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Any holder of a token of an issuer, by its claims; all of them must fit."""

    issuer: Annotated[str, Meta(min_length=1, max_length=63)]
    claims: Annotated[dict[str, ClaimText | Number | bool], Meta(min_length=1, max_length=MAX_CLAIMS)]
    """Claims by name. A text fits a text by its pattern; a number or truth value fits only itself."""


Wanted = Github | Gitlab | Oidc


def patterns_of(wanted: Wanted) -> list[tuple[str, str]]:
    """Return the patterns of claims that have a `*`, each with the name of its claim."""
    asked: Mapping[str, object] = {}
    if isinstance(wanted, Gitlab):
        asked = {"ref": wanted.ref}
    elif isinstance(wanted, Oidc):
        asked = wanted.claims
    return [(name, text) for name, text in asked.items() if isinstance(text, str) and "*" in text]


class AccessEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One entry. Several entries about one client add up."""

    name: EntryName
    permission: EntryPermission
    """Publish includes Read."""
    projects: Annotated[tuple[Pattern, ...], Meta(max_length=256)] = ("*",)
    """The projects whose pages and files are seen and, with Publish, that are published to."""
    expires: datetime | None = None
    """The moment from which the entry grants nothing; with a time zone. None: never."""
    token_digests: Annotated[tuple[TokenDigest, ...], Meta(max_length=MAX_SUBJECTS)] = ()
    service_accounts: Annotated[tuple[ServiceAccountRef, ...], Meta(max_length=MAX_SUBJECTS)] = ()
    github: Github | None = None
    gitlab: Gitlab | None = None
    oidc: Oidc | None = None
    proxy_groups: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=MAX_SUBJECTS)
    ] = ()

    def __post_init__(self) -> None:
        kinds = (self.token_digests, self.service_accounts, self.github, self.gitlab, self.oidc, self.proxy_groups)
        if sum(bool(kind) for kind in kinds) != 1:
            raise ValueError(
                f"the entry {self.name!r} must have exactly one of token_digests, service_accounts, github, gitlab, "
                "oidc and proxy_groups"
            )
        if self.expires is not None and self.expires.tzinfo is None:
            raise ValueError(f"the entry {self.name!r}: expires has no time zone; end it with Z")

    @property
    def wanted(self) -> Wanted | None:
        """Return what the entry asks of claims; None if it names another kind of subject."""
        return self.github or self.gitlab or self.oidc


def check_entries(entries: Sequence[AccessEntry]) -> None:
    """Check the entries of one repo together, and what a schema cannot say. Raises ValueError: one sentence."""
    count = sum(len(entry.projects) for entry in entries)
    if count > MAX_PATTERNS:
        raise ValueError(
            f"projects of the access entries have {count} patterns together; at most {MAX_PATTERNS} are allowed"
        )
    costly = sum(is_costly(pattern) for entry in entries for pattern in entry.projects)
    if costly > MAX_COSTLY_PATTERNS:
        raise ValueError(
            f"projects of the access entries have {costly} patterns with a * elsewhere than at their end; at most "
            f"{MAX_COSTLY_PATTERNS} are allowed"
        )
    _check_claims(entries)
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise ValueError(f"access has two entries with the name {entry.name!r}; give each a name of its own")
        seen.add(entry.name)
        if not entry.projects:
            raise ValueError(
                f"the entry {entry.name!r}: projects is empty, so that it grants nothing; leave it out for all projects"
            )
        wrong = next((pattern for pattern in entry.projects if not is_name_pattern(pattern)), None)
        if wrong is not None:
            raise ValueError(
                f"the entry {entry.name!r}: projects has {wrong[:80]!r}; write a project's name, in which * stands for "
                "any characters"
            )
        account = next((one for one in entry.service_accounts if _has_partial_star(one)), None)
        if account is not None:
            raise ValueError(
                f"the entry {entry.name!r}: service_accounts has {account.namespace}/{account.name}; * stands only "
                "alone, as the name, for every ServiceAccount of the namespace"
            )


def _check_claims(entries: Sequence[AccessEntry]) -> None:
    asked = [(entry.name, entry.wanted) for entry in entries]
    patterns = [
        (name, claim, text) for name, wanted in asked if wanted is not None for claim, text in patterns_of(wanted)
    ]
    if len(patterns) > MAX_CLAIM_PATTERNS:
        raise ValueError(
            f"the access entries have {len(patterns)} claims with a *; at most {MAX_CLAIM_PATTERNS} are allowed"
        )
    for name, claim, text in patterns:
        if (stars := text.count("*")) > MAX_STARS:
            raise ValueError(
                f"the entry {name!r}: the claim {claim[:80]!r} has {stars} times *; at most {MAX_STARS} are allowed"
            )


def _has_partial_star(account: ServiceAccountRef) -> bool:
    return "*" in account.namespace or ("*" in account.name and account.name != "*")
