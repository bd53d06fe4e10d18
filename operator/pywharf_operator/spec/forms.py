"""The forms of texts in manifests, and the types that carry them; those of built-in backends are the server's."""

from typing import Annotated

from msgspec import Meta

from pywharf.config.forms import URL
from pywharf.core.access.claim_patterns import MAX_LENGTH, MAX_STARS
from pywharf.core.forms import Form
from pywharf.core.names import REPO_NAME_PATTERN
from pywharf_operator.spec.schedule import (
    SCHEDULE_PATTERN,
    TIME_ZONE_PATTERN,
    check_schedule,
    check_time_zone,
)
from pywharf_operator.spec.specifiers import SPECIFIERS_PATTERN, check_specifiers

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

REPO_NAME = Form(
    pattern=REPO_NAME_PATTERN,
    max_length=63,
    must_be=(
        "lower-case letters, digits, '.', '-' and '_', starting and ending with a letter or digit, such as team-a, "
        "and none of the server's own keys credentials_revision, credentials_revision_file, policies_file, "
        "policies_digest, identity_file and identity_digest"
    ),
    forbidden=(
        "credentials_revision",
        "credentials_revision_file",
        "policies_file",
        "policies_digest",
        "identity_file",
        "identity_digest",
    ),
)
OBJECT_NAME = Form(
    pattern=rf"^{_LABEL}(\.{_LABEL})*$",
    max_length=253,
    must_be="lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
)
STORAGE_CLASS = Form(
    pattern=rf"^({_LABEL}(\.{_LABEL})*)?$",
    max_length=253,
    must_be="empty, or lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
)
NAMESPACE = Form(
    pattern=f"^{_LABEL}$",
    max_length=63,
    must_be="lower-case letters, digits and '-', starting and ending with a letter or digit",
)
SECRET_KEY = Form(pattern="^[-._a-zA-Z0-9]+$", max_length=253, must_be="letters, digits, '-', '_' and '.'")
SCHEDULE = Form(
    pattern=SCHEDULE_PATTERN,
    max_length=100,
    must_be=(
        "five cron fields (minute, hour, day of the month, month, day of the week 0-6), such as '17 * * * *'; "
        "neither H nor TZ= is known, the zone is named by timeZone"
    ),
    check=check_schedule,
)
TIME_ZONE = Form(
    pattern=TIME_ZONE_PATTERN,
    max_length=64,
    must_be="a name of the IANA time zone database, such as Etc/UTC or Europe/Paris",
    forbidden=("Local", "local"),
    check=check_time_zone,
)
NAME_PATTERN = Form(
    pattern=r"^[A-Za-z0-9*]([A-Za-z0-9._*-]*[A-Za-z0-9*])?$",
    max_length=200,
    must_be="a project's name, in which * stands for any characters, such as acme-*",
)
PROJECT_PATTERN = Form(
    pattern=(
        r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
        r"|([A-Za-z0-9][A-Za-z0-9._-]*)?\*([A-Za-z0-9._-]*\*){0,3}([A-Za-z0-9._-]*[A-Za-z0-9])?)$"
    ),
    max_length=200,
    must_be="a project's name, in which up to 4 * stand for any characters, such as acme-*",
)
HOST = Form(
    pattern=r"^(\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?)$",
    max_length=253,
    must_be="a host such as index.example.com or *.example.com, with or without :port, and without a scheme",
)
HOST_NAME = Form(
    pattern=rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$",
    max_length=253,
    must_be="a DNS name such as packages.example.com",
)
QUANTITY = Form(
    pattern=r"^[+]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
    max_length=64,
    must_be="a Kubernetes quantity such as 10Gi, 500m or 2",
)
DURATION = Form(
    pattern="^[1-9][0-9]{0,5}(ms|s|m|h)$",
    max_length=8,
    must_be="a time such as 30s or 1m",
)
AGE = Form(
    pattern="^([1-9][0-9]{0,2}d|[1-9][0-9]{0,3}h|[1-9][0-9]{0,4}m)$",
    max_length=6,
    must_be="a number of days, hours or minutes such as 7d, 12h or 90m, at most 999d, 9999h or 99999m",
)
SPECIFIERS = Form(
    pattern=SPECIFIERS_PATTERN,
    max_length=512,
    must_be="version specifiers of PEP 440, such as '==1.82.7' or '>=2,<2.3'",
    check=check_specifiers,
)
SHA256 = Form(pattern="^[0-9a-f]{64}$", max_length=64, must_be="64 hexadecimal digits in lower case")
FEED_INTERVAL = Form(
    pattern="^([1-7]d|([1-9][0-9]?|1[0-5][0-9]|16[0-8])h|[1-9][0-9]{0,3}m)$",
    max_length=5,
    must_be="a number of days, hours or minutes such as 1h or 30m, at most 7d, 168h or 9999m",
)
FEED_PATH = Form(
    pattern="^/[A-Za-z0-9._/-]+$",
    max_length=512,
    must_be="an absolute path such as /advisories/pypi.zip",
)
EXPLANATION = Form(pattern=r"^\s*\S[\s\S]*$", max_length=512, must_be="a text that is not blank")
POD_PATH = Form(
    pattern=r"^spec(\.[A-Za-z0-9_-]+|\[[^\[\]]+\])+$",
    max_length=512,
    must_be=(
        "a path in a pod template's spec such as spec.containers[server].startupProbe, "
        "spec.securityContext.runAsUser or spec.volumes[tmp]"
    ),
)
LABEL_VALUE = Form(
    pattern="^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$",
    max_length=63,
    must_be="empty, or letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
)
LOAD_BALANCER_CLASS = Form(
    pattern=rf"^({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?$",
    max_length=317,
    must_be="the name of a load balancer class, such as example.com/internal",
)
SERVICE_ACCOUNT = Form(
    pattern=rf"^(\*|{_LABEL}(\.{_LABEL})*)$",
    max_length=253,
    must_be="a ServiceAccount's name, or * for every one of the namespace",
)
TOKEN_DIGEST = Form(
    pattern="^sha256:[0-9a-f]{64}$",
    max_length=71,
    must_be="sha256: and 64 hexadecimal digits in lower case, as `pywharf token digest` prints them",
)
GITHUB_REPOSITORY = Form(
    pattern="^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+$",
    max_length=140,
    must_be="a repository of GitHub as OWNER/NAME",
)
GITHUB_WORKFLOW = Form(
    pattern=r"^[^/*@\s]+\.ya?ml$",
    max_length=255,
    must_be="the name of a file in .github/workflows such as release.yml",
)
GITLAB_PROJECT = Form(
    pattern=r"^[^/*@\s]+(/[^/*@\s]+)+$",
    max_length=512,
    must_be="the path of a GitLab project as GROUP/NAME",
)
GITLAB_PIPELINE = Form(
    pattern=r"^[^/*@\s][^*@\s]*$",
    max_length=255,
    must_be="the path of a file in the project such as .gitlab-ci.yml",
)
CLAIM_NAME = Form(
    pattern="^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$",
    max_length=256,
    must_be="a claim's name of letters, digits, '_', '-', '.', ':' and '/', such as sub",
)
CLAIM_TEXT = Form(
    pattern=f"^[^*]*([*][^*]*){{0,{MAX_STARS}}}$",
    max_length=MAX_LENGTH,
    must_be=f"a text in which up to {MAX_STARS} * stand for any characters but /",
)
AUDIENCE = Form(
    pattern="^[!-~]+$",
    max_length=256,
    must_be="a text without spaces such as pywharf, that no other service takes as its audience",
)
ISSUER_URL = Form(
    pattern=URL.pattern,
    max_length=URL.max_length,
    must_be=URL.must_be,
    may_hold_secret=True,
)
"""A URL whose port and host are checked when a server is resolved, which leaves out the issuer alone."""
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
NETWORK = Form(
    pattern=(
        rf"^({_OCTET}(\.{_OCTET}){{3}}(/([1-9]|[12][0-9]|3[0-2]))?"
        r"|[0-9A-Fa-f]*:[0-9A-Fa-f:]+(/([1-9][0-9]?|1[01][0-9]|12[0-8]))?)$"
    ),
    max_length=49,
    must_be="an address or a network such as 10.0.0.0/8 or fd00::/8, never of every address",
)
IMAGE = Form(pattern="^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=1024, must_be="a container image's reference")

RepoNameText = Annotated[str, Meta(extra={"form": REPO_NAME})]
ObjectName = Annotated[str, Meta(extra={"form": OBJECT_NAME})]
StorageClassName = Annotated[str, Meta(extra={"form": STORAGE_CLASS})]
Namespace = Annotated[str, Meta(extra={"form": NAMESPACE})]
SecretKey = Annotated[str, Meta(extra={"form": SECRET_KEY})]
ScheduleText = Annotated[str, Meta(extra={"form": SCHEDULE})]
TimeZone = Annotated[str, Meta(extra={"form": TIME_ZONE})]
NamePattern = Annotated[str, Meta(extra={"form": NAME_PATTERN})]
ProjectPattern = Annotated[str, Meta(extra={"form": PROJECT_PATTERN, "costs_much_in_cel": True})]
"""What a policy is about: trying a name costs more with each `*`."""
Host = Annotated[str, Meta(extra={"form": HOST})]
HostName = Annotated[str, Meta(extra={"form": HOST_NAME})]
Quantity = Annotated[str | int, Meta(extra={"form": QUANTITY})]
Duration = Annotated[str, Meta(extra={"form": DURATION})]
Age = Annotated[str, Meta(extra={"form": AGE})]
Specifiers = Annotated[str, Meta(extra={"form": SPECIFIERS, "costs_much_in_cel": True})]
"""In a list of 10,000 a rule for it would cost more than the API server allows."""
Explanation = Annotated[str, Meta(extra={"form": EXPLANATION, "costs_much_in_cel": True})]
Sha256 = Annotated[str, Meta(extra={"form": SHA256})]
FeedInterval = Annotated[str, Meta(extra={"form": FEED_INTERVAL})]
FeedPath = Annotated[str, Meta(extra={"form": FEED_PATH})]
PodPath = Annotated[str, Meta(extra={"form": POD_PATH})]
Image = Annotated[str, Meta(extra={"form": IMAGE})]
ServiceAccountName = Annotated[str, Meta(extra={"form": SERVICE_ACCOUNT})]
TokenDigest = Annotated[str, Meta(extra={"form": TOKEN_DIGEST})]
GithubRepository = Annotated[str, Meta(extra={"form": GITHUB_REPOSITORY})]
GithubWorkflow = Annotated[str, Meta(extra={"form": GITHUB_WORKFLOW})]
GitlabProject = Annotated[str, Meta(extra={"form": GITLAB_PROJECT})]
GitlabPipeline = Annotated[str, Meta(extra={"form": GITLAB_PIPELINE})]
ClaimText = Annotated[str, Meta(min_length=1, extra={"form": CLAIM_TEXT})]
Audience = Annotated[str, Meta(extra={"form": AUDIENCE})]
IssuerUrl = Annotated[str, Meta(extra={"form": ISSUER_URL})]
Network = Annotated[str, Meta(extra={"form": NETWORK})]
LoadBalancerClass = Annotated[str, Meta(extra={"form": LOAD_BALANCER_CLASS})]

_AGE_UNITS_S = {"d": 86_400, "h": 3600, "m": 60}


def age_s(text: str) -> int:
    """Return the seconds of a text that has the form AGE or FEED_INTERVAL."""
    return int(text[:-1]) * _AGE_UNITS_S[text[-1]]
