"""What a command asks about: a repo of a folder, with the policies and the extra index that it would have."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from pywharf.config.repo_config import Upstream
from pywharf.config.settings import DEFAULT_EXTRA_INDEX_URL
from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.document import check_document
from pywharf.core.policy.evaluation import RepoPolicies, compile_policies
from pywharf.core.policy.model import Policy, PolicyDocument
from pywharf.core.policy.name_patterns import NamePatterns
from pywharf.index.upstream.pages import may_look_up
from pywharf.index.upstream.source import Source
from pywharf_operator.local.folder import default_server
from pywharf_operator.local.manifests import Manifests, load_folder
from pywharf_operator.render.resolve.repo_config import upstream_table
from pywharf_operator.spec import PACKAGE_REPO, PACKAGE_SERVER, ObjectKey, PackagePolicy, PackageRepo, PackageServer
from pywharf_operator.spec.package_policy import delivered

_SHOWN = 20


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One repo of the folder."""

    repo: RepoName
    policies: RepoPolicies
    names: tuple[str, ...]
    """The policies about the repo, as `namespace/name`."""
    uses_advisories: bool
    """Whether a policy withholds what advisories report as malware."""
    denied_by_digest: tuple[str, ...]
    """Patterns of the projects of which a policy denies single files by their SHA-256."""
    sources: tuple[Source, ...]
    """The other indexes whose projects the repo shows, in order."""
    reserved: tuple[str, ...]
    allow_shadowing: tuple[str, ...]
    advisories: AdvisoryStore | None = None
    """What the feed says that the command was given; None: it was given none."""

    def needs_digest(self, name: ProjectName) -> bool:
        """Return whether a policy denies single files of the project by their SHA-256."""
        return NamePatterns((pattern, None) for pattern in self.denied_by_digest).match(name)

    def may_be_upstream_s(self, name: ProjectName) -> bool:
        """Return whether the repo may show another index's project of that name."""
        return any(source.answers_for(name) for source in self.sources) and may_look_up(
            name, owned=False, reserved=self.reserved, allow_shadowing=self.allow_shadowing
        )


def load_subject(folder: Path, namespace: str, wanted: str, own: Sequence[str]) -> Subject:
    """Read the manifests and find the repo: by the name that clients use, or as NAMESPACE/NAME of its PackageRepo.

    `own` are patterns of projects that the repo itself holds. Raises InvalidConfigError for any manifest with a
    problem, without which the answer could be wrong. Secrets are not used, and may be encrypted.
    """
    manifests = load_folder(folder, namespace)
    problems = [problem for problem in manifests.problems if not problem.object.startswith("Secret ")]
    if problems:
        raise InvalidConfigError("\n".join(f"{problem}" for problem in problems[:_SHOWN]))
    repo = _repo(manifests, wanted)
    found = tuple(delivered(policy, None) for policy in manifests.of(PackagePolicy) if _is_about(policy, repo))
    document = PolicyDocument(policies=found)
    check_document(document)
    upstream = _upstream(repo, manifests)
    return Subject(
        repo=repo.repo_name,
        policies=compile_policies(document, repo.repo_name),
        names=tuple(sorted(policy.name for policy in found)),
        denied_by_digest=tuple(deny.project for policy in found for deny in policy.deny if deny.sha256 is not None),
        uses_advisories=_uses_advisories(found),
        sources=_sources(upstream),
        reserved=(*upstream.reserved, *own),
        allow_shadowing=upstream.allow_shadowing,
    )


def _repo(manifests: Manifests, wanted: str) -> PackageRepo:
    repos: list[PackageRepo] = manifests.of(PackageRepo)
    found = [repo for repo in repos if wanted in {repo.repo_name, str(repo.key)}]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(sorted(f"{repo.repo_name} ({repo.key})" for repo in (found or repos))[:_SHOWN]) or "none"
    if found:
        raise InvalidConfigError(f"Several repos are named {wanted[:100]!r}; write NAMESPACE/NAME: {listed}.")
    raise InvalidConfigError(f"The folder has no PackageRepo whose repo is named {wanted[:100]!r}; it has: {listed}.")


def _is_about(policy: PackagePolicy, repo: PackageRepo) -> bool:
    """Return whether a policy targets the repo or its server, which must be in the policy's own namespace."""
    targets = {(ref.kind, ObjectKey(policy.key.namespace, ref.name)) for ref in policy.spec.target_refs}
    return (PACKAGE_REPO, repo.key) in targets or (PACKAGE_SERVER, repo.server_key) in targets


def _upstream(repo: PackageRepo, manifests: Manifests) -> Upstream:
    servers: list[PackageServer] = manifests.of(PackageServer)
    server = next((one for one in servers if one.key == repo.server_key), None)
    table = upstream_table(repo, server or default_server(repo.server_key.namespace), {})
    return msgspec.convert(table, Upstream)


def _sources(upstream: Upstream) -> tuple[Source, ...]:
    """Return the other indexes, without their credentials, which may be encrypted in the folder."""
    if upstream.mode == "None":
        return ()
    if upstream.sources:
        return tuple(Source(url=source.url, projects=source.projects) for source in upstream.sources)
    return (Source(url=upstream.url or DEFAULT_EXTRA_INDEX_URL),)


def _uses_advisories(policies: Sequence[Policy]) -> bool:
    return any(policy.advisories == "Block" for policy in policies)
