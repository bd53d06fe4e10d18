"""Compare an OIDC token's verified claims with what an access entry asks of them. An absent claim never fits."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pywharf.core.access.claim_patterns import ClaimPattern
from pywharf.core.access.entries import Github, Gitlab, Oidc, Wanted, patterns_of
from pywharf.core.access.identities import Claims

GITHUB = "github"
"""Name of the issuer whose claims an entry's `github` is compared with."""
_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
_GITHUB_CLAIMS = frozenset({"repository", "repository_owner_id", "job_workflow_ref", "environment"})
_GITLAB_CLAIMS = frozenset(
    {"project_path", "namespace_id", "ci_config_ref_uri", "environment", "ref", "ref_path", "ref_type"}
)

_WHO: Final = frozenset({"sub", "repository", "repository_id", "project_path", "project_id"})
"""Claims that say whose token it is."""


class Asked:
    """What an entry asks of claims, compiled. Comparisons that cost least come first."""

    __slots__ = ("_exact", "_patterns", "_wanted", "claims", "issuer")

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.issuer = issuer_of(wanted)
        """Name of the issuer whose tokens the entry is about."""
        self.claims = claims_of(wanted)
        """Names of all claims that decide whether a token fits."""
        patterns = {name: ClaimPattern(text) for name, text in patterns_of(wanted)}
        self._patterns = tuple(patterns.items())
        asked = wanted.claims if isinstance(wanted, Oidc) else {}
        self._exact = tuple((name, value) for name, value in asked.items() if name not in patterns)

    @property
    def names_one(self) -> bool:
        """Return whether the entry names one repository or subject, and not all that fit a pattern."""
        return not isinstance(self._wanted, Oidc) or any(name in _WHO for name, _ in self._exact)

    def fits(self, given: Claims) -> bool:
        """Return whether the claims are what the entry asks for."""
        claims = given.claims
        return (
            given.issuer == self.issuer
            and all(_is_same(value, claims.get(name)) for name, value in self._exact)
            and _fits_kind(self._wanted, claims)
            and all(_fits_pattern(pattern, claims.get(name)) for name, pattern in self._patterns)
        )


def issuer_of(wanted: Wanted) -> str:
    """Return the name of the issuer whose tokens an entry is about."""
    return GITHUB if isinstance(wanted, Github) else wanted.issuer


def claims_of(wanted: Wanted) -> frozenset[str]:
    """Return the names of all claims that decide whether a token fits."""
    match wanted:
        case Github():
            return _GITHUB_CLAIMS
        case Gitlab():
            return _GITLAB_CLAIMS
        case Oidc():
            return frozenset(wanted.claims)


def _fits_pattern(pattern: ClaimPattern, given: object) -> bool:
    return isinstance(given, str) and pattern.fits(given)


def _is_same(asked: str | int | bool, given: object) -> bool:  # noqa: FBT001 - a claim's value
    # True equals 1, and 1.0 equals 1, so the types must be equal as well.
    return type(given) is type(asked) and given == asked


def _fits_kind(wanted: Wanted, claims: Mapping[str, Any]) -> bool:
    match wanted:
        case Github():
            return _fits_github(wanted, claims)
        case Gitlab():
            return _fits_gitlab(wanted, claims)
        case Oidc():
            return True


def _fits_github(wanted: Github, claims: Mapping[str, Any]) -> bool:
    repository = claims.get("repository")
    return (
        _is_same_name(wanted.repository, repository)
        and claims.get("repository_owner_id") == str(wanted.owner_id)  # sent as text, compared as text
        and _is_workflow(wanted, claims.get("job_workflow_ref"))
        and (wanted.environment is None or _is_same_name(wanted.environment, claims.get("environment")))
    )


def _is_workflow(wanted: Github, ref: object) -> bool:
    """Return whether `job_workflow_ref` names the workflow: OWNER/NAME/.github/workflows/FILE@REF.

    It names the file whose job asked for the token, so that of a reusable workflow in another repository differs.
    """
    if not isinstance(ref, str):
        return False
    beginning = len(wanted.repository)
    path = f"/.github/workflows/{wanted.workflow}@"
    rest = ref[beginning + len(path) :]
    return (
        _is_same_name(wanted.repository, ref[:beginning])
        and ref[beginning:].startswith(path)
        # A file may have an @ in its name; a Git ref begins like this, and no workflow's file name has a slash.
        and (rest.startswith("refs/") or _SHA1.match(rest) is not None)
    )


def _fits_gitlab(wanted: Gitlab, claims: Mapping[str, Any]) -> bool:
    return (
        _is_same_name(wanted.project, claims.get("project_path"))
        and claims.get("namespace_id") == str(wanted.namespace_id)  # sent as text, compared as text
        and _is_pipeline(wanted, claims)
        and (wanted.environment is None or claims.get("environment") == wanted.environment)
        and (wanted.ref_type is None or claims.get("ref_type") == wanted.ref_type)
        and (wanted.ref is None or "*" in wanted.ref or claims.get("ref") == wanted.ref)
    )


def _is_pipeline(wanted: Gitlab, claims: Mapping[str, Any]) -> bool:
    """Return whether `ci_config_ref_uri` names the pipeline's file: HOST/PROJECT//FILE@REF."""
    uri, ref, ref_path = claims.get("ci_config_ref_uri"), claims.get("ref"), claims.get("ref_path")
    if not isinstance(uri, str) or not isinstance(ref, str):
        return False
    host, _, path = uri.partition("/")
    project, _, config = path.partition("//")
    # A folder may have an @ in its name, so the Git ref is compared as well.
    refs = {ref_path} if isinstance(ref_path, str) else {f"refs/heads/{ref}", f"refs/tags/{ref}"}
    return (
        bool(host)
        and _is_same_name(wanted.project, project)
        and any(config == f"{wanted.pipeline}@{one}" for one in refs)
    )


def _is_same_name(wanted: str, given: object) -> bool:
    """Return whether a name fits, in upper or lower case, as the issuers treat these names."""
    if not isinstance(given, str):
        return False
    # The lower case of some letters beyond ASCII is ASCII, so such names must be equal as they are.
    return given == wanted or (given.isascii() and wanted.isascii() and given.lower() == wanted.lower())
