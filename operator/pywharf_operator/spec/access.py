"""Who may use a repo besides the holders of its secrets: entries that hold no secret, so that they may stand in Git."""

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pywharf.core.access import entries
from pywharf_operator.spec.forms import (
    CLAIM_NAME,
    ClaimText,
    GithubRepository,
    GithubWorkflow,
    GitlabPipeline,
    GitlabProject,
    Namespace,
    ProjectPattern,
    ServiceAccountName,
    TokenDigest,
)
from pywharf_operator.spec.model import Model, Rule, exactly_one

_MOST_PROJECTS: Final = 256
_EARLIEST_END: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""A time near the end of the year 9999 cannot be written in UTC if its zone is west of it, nor one near the beginning
of the year 1 if its zone is east of it."""
_LARGEST: Final = 2**53 - 1
"""The API server compares bounds as floating-point numbers, and refuses every number under a larger one."""
_KINDS: Final = ("token_digests", "service_accounts", "github", "gitlab", "oidc", "proxy_groups")

Environment = Annotated[
    Annotated[str, Meta(min_length=1, max_length=255)] | None,
    Meta(description="The environment of the job. Absent: any, or none."),
]
IssuerName = Annotated[Namespace, Meta(description="The issuer's name in spec.identity.issuers of the PackageServer.")]
ClaimNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Group = Annotated[str, Meta(min_length=1, max_length=256)]


class ServiceAccountRef(Model, frozen=True, kw_only=True):
    """A ServiceAccount of the cluster."""

    namespace: Annotated[Namespace, Meta(description="The ServiceAccount's namespace.")]
    name: Annotated[ServiceAccountName, Meta(description="The ServiceAccount's name. *: every one of the namespace.")]


class GithubSubject(Model, frozen=True, kw_only=True):
    """A workflow of GitHub Actions."""

    repository: Annotated[GithubRepository, Meta(description="The repository that the workflow runs in: OWNER/NAME.")]
    workflow: Annotated[
        GithubWorkflow,
        Meta(
            description=(
                "Name of the workflow's file in .github/workflows of this repository, such as release.yml. A reusable "
                "workflow of another repository is never accepted."
            )
        ),
    ]
    environment: Environment = None
    owner_id: Annotated[
        int,
        Meta(
            ge=1,
            le=_LARGEST,
            description=(
                "The owner's number, `id` in https://api.github.com/users/OWNER: a name that was given up may be "
                "registered by others, its number never is."
            ),
        ),
    ]


class GitlabSubject(Model, frozen=True, kw_only=True):
    """A pipeline of GitLab."""

    project: Annotated[GitlabProject, Meta(description="Path of the project that the pipeline runs in: GROUP/NAME.")]
    pipeline: Annotated[
        GitlabPipeline, Meta(description="Path of the file that defines the pipeline, in this project.")
    ] = ".gitlab-ci.yml"
    environment: Environment = None
    ref: Annotated[
        ClaimText | None,
        Meta(
            description=(
                "The name of the branch or tag, * for any characters but /. Absent: any. A branch may have a name that "
                "is meant for tags; see refType."
            )
        ),
    ] = None
    ref_type: Annotated[
        entries.RefType | None,
        Meta(description="Whether the pipeline runs for a branch or for a tag. Absent: either."),
    ] = None
    namespace_id: Annotated[
        int,
        Meta(
            ge=1,
            le=_LARGEST,
            description=(
                "The number of the project's namespace, `namespace.id` in GitLab's API: a path that was given up may "
                "be registered by others, its number never is."
            ),
        ),
    ]
    issuer: IssuerName = "gitlab"


class OidcSubject(Model, frozen=True, kw_only=True):
    """Any holder of an issuer's token."""

    issuer: IssuerName
    claims: Annotated[
        dict[str, ClaimText | ClaimNumber | bool],
        Meta(
            min_length=1,
            max_length=entries.MAX_CLAIMS,
            description=(
                "What the token must say, all of it. A text fits by its pattern, in which * stands for any characters "
                "but /; a number or truth value fits only itself. All entries of a repo may have "
                f"{entries.MAX_CLAIM_PATTERNS} claims with a *."
            ),
        ),
    ]

    def __post_init__(self) -> None:
        """Raise ValueError as every model, and for a claim's name that no schema can check."""
        Model.__post_init__(self)
        for name in self.claims:
            CLAIM_NAME.verify("claims", name)


class Access(Model, frozen=True, kw_only=True):
    """One kind of subject, and what it may do. Several entries about one client add up."""

    rules = (
        Rule(
            cel=" + ".join(
                f"(has(self.{name}){more} ? 1 : 0)"
                for name, more in (
                    ("tokenDigests", " && self.tokenDigests.size() > 0"),
                    ("serviceAccounts", " && self.serviceAccounts.size() > 0"),
                    ("github", ""),
                    ("gitlab", ""),
                    ("oidc", ""),
                    ("proxyGroups", " && self.proxyGroups.size() > 0"),
                )
            )
            + " == 1",
            message=(
                "access: an entry must have exactly one of tokenDigests, serviceAccounts, github, gitlab, oidc and "
                "proxyGroups; write an entry for each kind"
            ),
            holds=lambda entry: exactly_one(*(getattr(entry, kind) or None for kind in _KINDS)),
        ),
        Rule(
            cel=(
                "!has(self.expires) || (self.expires >= timestamp('1970-01-01T00:00:00Z') && "
                "self.expires < timestamp('9999-01-01T00:00:00Z'))"
            ),
            message="expires must be before the year 9999, and not before 1970",
            holds=lambda entry: entry.expires is None or _EARLIEST_END <= entry.expires < _LATEST_END,
        ),
    )

    name: Annotated[Namespace, Meta(description="The entry's name, by which audit and conditions speak of it.")]
    permission: Annotated[
        entries.EntryPermission,
        Meta(description="Read: pages and files. Publish: that, and uploads and changes of published files."),
    ]
    projects: Annotated[
        tuple[ProjectPattern, ...],
        Meta(
            min_length=1,
            max_length=_MOST_PROJECTS,
            description="The projects that are seen and, with Publish, published to; * for any characters.",
        ),
    ] = ("*",)
    expires: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="When the entry ends, with a time zone: 2027-01-31T00:00:00Z. Absent: never."),
    ] = None
    token_digests: Annotated[
        tuple[TokenDigest, ...],
        Meta(
            max_length=entries.MAX_SUBJECTS,
            description=(
                "Digests of tokens that `pywharf token new` made: sha256: and 64 hexadecimal digits. A token cannot be "
                "found from its digest."
            ),
        ),
    ] = ()
    service_accounts: Annotated[
        tuple[ServiceAccountRef, ...],
        Meta(
            max_length=entries.MAX_SUBJECTS,
            description="ServiceAccounts of the cluster, whose pods send a projected token for the server's audience.",
        ),
    ] = ()
    github: Annotated[
        GithubSubject | None, Meta(description="A workflow of GitHub Actions. The server's issuers must list github.")
    ] = None
    gitlab: Annotated[
        GitlabSubject | None,
        Meta(description="A pipeline of GitLab. The server's issuers must list gitlab, or `issuer`."),
    ] = None
    oidc: Annotated[OidcSubject | None, Meta(description="Any holder of a token of an issuer, by its claims.")] = None
    proxy_groups: Annotated[
        tuple[Group, ...],
        Meta(
            max_length=entries.MAX_SUBJECTS,
            description=(
                "Groups of people, as the authenticating proxy in front of the server names them. Needs "
                "identity.proxyHeaders of the PackageServer."
            ),
        ),
    ] = ()


def delivered(entry: Access) -> entries.AccessEntry:
    """Convert an entry to what a server is given."""
    github, gitlab, oidc = entry.github, entry.gitlab, entry.oidc
    return entries.AccessEntry(
        name=entry.name,
        permission=entry.permission,
        projects=entry.projects,
        expires=None if entry.expires is None else entry.expires.astimezone(UTC),
        token_digests=entry.token_digests,
        service_accounts=tuple(
            entries.ServiceAccountRef(namespace=one.namespace, name=one.name) for one in entry.service_accounts
        ),
        github=None if github is None else entries.Github(**msgspec.structs.asdict(github)),
        gitlab=None if gitlab is None else entries.Gitlab(**msgspec.structs.asdict(gitlab)),
        # The order in which claims were written does not matter.
        oidc=None if oidc is None else entries.Oidc(issuer=oidc.issuer, claims=dict(sorted(oidc.claims.items()))),
        proxy_groups=entry.proxy_groups,
    )
