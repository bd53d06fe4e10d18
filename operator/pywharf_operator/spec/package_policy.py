"""PackagePolicy: what a team may install, as a file that is reviewed."""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from msgspec import Meta

from pywharf.core.names import RepoName
from pywharf.core.policy import model
from pywharf.core.policy.document import too_many_patterns
from pywharf_operator.spec.conditions import Condition, Count, StatusModel
from pywharf_operator.spec.forms import Age, Explanation, ObjectName, ProjectPattern, Sha256, Specifiers, age_s
from pywharf_operator.spec.metadata import Resource
from pywharf_operator.spec.model import Model
from pywharf_operator.spec.model import Rule as ModelRule

PACKAGE_POLICY = "PackagePolicy"

_MOST: Final = 10_000
_MOST_PATTERNS: Final = 1000
_MOST_EXCEPTIONS: Final = 1000
_LATEST_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""A time near the end of the year 9999 cannot be written in UTC if its zone is west of it."""

Project = Annotated[
    ProjectPattern, Meta(description="A project's name, in which * stands for any characters, such as acme-*.")
]
Versions = Annotated[
    Specifiers | None, Meta(description="Version specifiers (PEP 440), such as >=2,<2.3. Absent: every version.")
]
Digest = Annotated[Sha256 | None, Meta(description="The SHA-256 of one file, 64 hexadecimal digits. Absent: any.")]
Reason = Annotated[str, Meta(max_length=512, description="Why, for those who meet the rule: pip and uv show it.")]


class TargetRef(Model, frozen=True, kw_only=True):
    """What a policy is about."""

    kind: Annotated[
        Literal["PackageServer", "PackageRepo"],
        Meta(description="PackageServer: every repo of that server, also of other namespaces. PackageRepo: that one."),
    ]
    name: Annotated[ObjectName, Meta(description="Its name, in the policy's own namespace.")]


class Cooldown(Model, frozen=True, kw_only=True):
    """Upstream files that are withheld until they are old enough."""

    minimum_age: Annotated[
        Age, Meta(description="How long after its upload a file is withheld: days, hours or minutes, such as 7d.")
    ]
    missing_time: Annotated[
        model.MissingTime,
        Meta(
            description=(
                "What counts for a file of which the upstream gives no upload time. Deny: it is withheld. FirstSeen: "
                "its age begins when the server first saw it. Allow: it is shown."
            )
        ),
    ] = "Deny"
    projects: Annotated[
        tuple[ProjectPattern, ...],
        Meta(min_length=1, max_length=_MOST_PATTERNS, description="The upstream projects that are held back."),
    ] = ("*",)


class Deny(Model, frozen=True, kw_only=True):
    """Files that are withheld."""

    project: Project
    versions: Versions = None
    sha256: Digest = None
    reason: Reason = ""


class Yank(Model, frozen=True, kw_only=True):
    """Files that are shown as yanked."""

    project: Project
    versions: Versions = None
    sha256: Digest = None
    reason: Reason = ""


class SetStatus(Model, frozen=True, kw_only=True):
    """Projects that are shown with a status."""

    project: Project
    status: Annotated[
        model.Status,
        Meta(
            description=(
                "As PEP 792 has them. archived: nothing new is expected. deprecated: another project is to be used. "
                "quarantined: no file is offered. The first and the last refuse uploads, too."
            )
        ),
    ]
    reason: Reason = ""


class Advisories(Model, frozen=True, kw_only=True):
    """What follows from the server's feed of advisories."""

    mode: Annotated[
        Literal["Block", "Report"],
        Meta(description="Block: withhold what the feed calls malware (MAL-…). Report: only count it."),
    ]


class PolicyException(Model, frozen=True, kw_only=True):
    """Files that some rules of this policy do not concern, until a moment."""

    rules = (
        ModelRule(
            cel="self.until < timestamp('9999-01-01T00:00:00Z')",
            message="until must be before the year 9999",
            holds=lambda one: one.until < _LATEST_END,
        ),
    )

    project: Project
    versions: Versions = None
    sha256: Digest = None
    of: Annotated[
        tuple[model.Rule, ...],
        Meta(min_length=1, max_length=6, description="The rules of this policy that do not concern these files."),
    ]
    until: Annotated[datetime, Meta(tz=True, description="When it ends, with a time zone: 2027-01-31T00:00:00Z.")]
    reason: Annotated[Explanation, Meta(min_length=1, max_length=512, description="Why it is granted.")]


class PackagePolicySpec(Model, frozen=True, kw_only=True):
    """What may be installed. Where policies contradict each other, the stricter one holds."""

    rules = (
        ModelRule(
            cel=(
                "has(self.cooldown) || has(self.allowOnly) || has(self.advisories) || "
                + " || ".join(f"(has(self.{name}) && self.{name}.size() > 0)" for name in ("deny", "yank", "status"))
            ),
            message=(
                "spec has no rule; give it cooldown, allowOnly, deny, yank, status or advisories, for example "
                "cooldown: {minimumAge: 7d}"
            ),
            holds=lambda spec: bool(
                spec.cooldown or spec.allow_only is not None or spec.advisories or spec.deny or spec.yank or spec.status
            ),
        ),
    )

    target_refs: Annotated[
        tuple[TargetRef, ...],
        Meta(
            min_length=1,
            max_length=256,
            description="The servers and repos that it is about, all of the policy's own namespace.",
        ),
    ]
    cooldown: Annotated[
        Cooldown | None,
        Meta(description="Withhold upstream files until they are old enough. Absent: no matter how old."),
    ] = None
    allow_only: Annotated[
        Annotated[tuple[ProjectPattern, ...], Meta(max_length=_MOST)] | None,
        Meta(description="The upstream projects that are shown, * for any characters. Empty: none. Absent: all."),
    ] = None
    deny: Annotated[
        tuple[Deny, ...], Meta(max_length=_MOST, description="Files that are withheld, of the upstream and own ones.")
    ] = ()
    yank: Annotated[
        tuple[Yank, ...],
        Meta(max_length=_MOST, description="Files that are shown as yanked (PEP 592), of the upstream and own ones."),
    ] = ()
    status: Annotated[
        tuple[SetStatus, ...],
        Meta(max_length=_MOST, description="Projects that are shown with a status (PEP 792), also own ones."),
    ] = ()
    advisories: Annotated[
        Advisories | None, Meta(description="What follows from the server's feed of advisories. Absent: nothing.")
    ] = None
    exceptions: Annotated[
        tuple[PolicyException, ...],
        Meta(
            max_length=_MOST_EXCEPTIONS,
            description="Files that some rules of this policy, never of another one, do not concern for a while.",
        ),
    ] = ()

    def __post_init__(self) -> None:
        """Raise ValueError as every model, and for what no rule of the schema could count."""
        Model.__post_init__(self)
        rules: tuple[Deny | Yank | SetStatus | PolicyException, ...]
        rules = (*self.deny, *self.yank, *self.status, *self.exceptions)
        cooled = self.cooldown.projects if self.cooldown is not None else ()
        if (
            fault := too_many_patterns((*(rule.project for rule in rules), *(self.allow_only or ()), *cooled))
        ) is not None:
            raise ValueError(fault)


class ExceptionCounts(StatusModel, frozen=True, kw_only=True):
    """How many exceptions the policy has."""

    active: Annotated[Count, Meta(description="Exceptions that hold.")] = 0
    expired: Annotated[Count, Meta(description="Exceptions that have ended; take them out.")] = 0
    next: Annotated[datetime | None, Meta(description="When the next one ends.")] = None


class Withheld(StatusModel, frozen=True, kw_only=True):
    """What the policy withheld on the pages that were made lately."""

    files: Annotated[Count, Meta(description="Files, the most that any replica counts.")] = 0
    projects: Annotated[Count, Meta(description="Projects of these files, the most that any replica counts.")] = 0


class PackagePolicyStatus(StatusModel, frozen=True, kw_only=True):
    """What the operator observed."""

    observed_generation: Annotated[
        Count | None, Meta(description="The metadata.generation that this status speaks of.")
    ] = None
    targets: Annotated[Count | None, Meta(description="Served repos that it is about.")] = None
    rules: Annotated[Count | None, Meta(description="Its rules, as the limits of a server count them.")] = None
    exceptions: Annotated[ExceptionCounts | None, Meta(description="How many exceptions it has.")] = None
    withheld: Annotated[Withheld | None, Meta(description="What it withheld on the pages that were made lately.")] = (
        None
    )
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            max_length=16,
            description="Accepted, Programmed and Ready.",
            extra={"list_map_keys": ("type",)},
        ),
    ] = ()


class PackagePolicy(Resource, frozen=True, kw_only=True):
    """Which releases the repos of a server show, and which they withhold."""

    spec: Annotated[PackagePolicySpec, Meta(description="What may be installed.")]
    status: Annotated[
        PackagePolicyStatus | None, Meta(description="What the operator observed. Only it writes here.")
    ] = None


def delivered(policy: PackagePolicy, repos: tuple[RepoName, ...] | None) -> model.Policy:
    """Convert a policy to what a server is given. `repos`: those it is about; None: every repo of the server."""
    spec = policy.spec
    cooldown = spec.cooldown
    return model.Policy(
        name=str(policy.key),
        repos=repos,
        cooldown=None
        if cooldown is None
        else model.Cooldown(
            minimum_age_s=age_s(cooldown.minimum_age),
            missing_time=cooldown.missing_time,
            projects=cooldown.projects,
        ),
        allow_only=spec.allow_only,
        deny=tuple(
            model.Deny(project=one.project, versions=one.versions, sha256=one.sha256, reason=one.reason)
            for one in spec.deny
        ),
        yank=tuple(
            model.Yank(project=one.project, versions=one.versions, sha256=one.sha256, reason=one.reason)
            for one in spec.yank
        ),
        status=tuple(model.SetStatus(project=one.project, status=one.status, reason=one.reason) for one in spec.status),
        advisories=spec.advisories.mode if spec.advisories else None,
        exceptions=tuple(
            model.PolicyException(
                project=one.project,
                versions=one.versions,
                sha256=one.sha256,
                of=one.of,
                until=one.until.timestamp(),
                reason=one.reason,
            )
            for one in spec.exceptions
        ),
    )
