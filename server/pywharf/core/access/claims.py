"""Compare an OIDC token's verified claims with what an access entry asks of them. An absent claim never fits."""

import re
from collections.abc import Mapping
from typing import Any

from pywharf.core.access.entries import Github, Gitlab, Oidc
from pywharf.core.access.identities import Claims

GITHUB = "github"
"""Name of the issuer whose claims an entry's `github` is compared with."""
_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
_GITHUB_CLAIMS = frozenset({"repository", "repository_owner_id", "job_workflow_ref", "environment"})
_GITLAB_CLAIMS = frozenset({"project_path", "namespace_id", "ci_config_ref_uri", "environment", "ref", "ref_path"})

Wanted = Github | Gitlab | Oidc


def fits(wanted: Wanted, given: Claims) -> bool:
    """Return whether the claims are what an entry asks for."""
    if given.issuer != issuer_of(wanted):
        return False
    match wanted:
        case Github():
            return _fits_github(wanted, given.claims)
        case Gitlab():
            return _fits_gitlab(wanted, given.claims)
        case Oidc():
            return all(_fits_claim(asked, given.claims.get(name)) for name, asked in wanted.claims.items())


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


def fits_pattern(pattern: str, text: str) -> bool:
    """Return whether a text fits a pattern. Its `*` stand for any characters, also none, but never for a `/`."""
    segments, parts = pattern.split("/"), text.split("/")
    return len(segments) == len(parts) and all(map(_fits_segment, segments, parts))


def _fits_segment(pattern: str, text: str) -> bool:
    # One pass without going back: the time is bounded whatever the pattern and the text.
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == text
    last = middle.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _fits_claim(asked: str | int | bool, given: object) -> bool:  # noqa: FBT001 - a claim's value
    if isinstance(asked, str):
        return isinstance(given, str) and fits_pattern(asked, given)
    # True equals 1, and 1.0 equals 1, so the types must be equal as well.
    return type(given) is type(asked) and given == asked


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
    ref = claims.get("ref")
    return (
        _is_same_name(wanted.project, claims.get("project_path"))
        and claims.get("namespace_id") == str(wanted.namespace_id)  # sent as text, compared as text
        and _is_pipeline(wanted, claims)
        and (wanted.environment is None or claims.get("environment") == wanted.environment)
        and (wanted.ref is None or (isinstance(ref, str) and fits_pattern(wanted.ref, ref)))
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
