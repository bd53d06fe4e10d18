"""Plan how to turn a GitHub repository into one that holds packages, given its current state. Pure."""

from collections.abc import Mapping

import msgspec

from pywharf.backends.github import readme, workflow
from pywharf.config.repo_config import GithubSpec
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.index.codecs import encode_index


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an existing GitHub repository."""

    default_branch: str
    private: bool = True
    archived: bool = False
    has_commits: bool = True
    root: frozenset[str] = frozenset()
    """Names in the top folder of the default branch."""
    files: Mapping[str, "StoredFile"] = {}
    """The existing files among those that this command writes, by path."""
    has_secret: bool = False
    pages: str | None = None
    """How GitHub Pages is built: `workflow` or `legacy`; None if it is off."""


class StoredFile(msgspec.Struct, frozen=True):
    """A file in a branch."""

    text: str
    sha: str
    """The hash by which GitHub identifies the content."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The state that the command is asked for."""

    name: RepoName
    spec: GithubSpec
    private: bool = True
    pages: bool = False
    replace_secret: bool = False
    force: bool = False
    requirement: str = workflow.REQUIREMENT
    """The requirement that pip installs in the workflows."""


class CreateRepository(msgspec.Struct, frozen=True):
    """Create the repository with a first commit in the branch, which becomes the default branch."""

    full_name: str
    private: bool
    branch: str

    def __str__(self) -> str:
        kind = "private" if self.private else "public"
        return f"Create the {kind} GitHub repository {self.full_name} with the branch {self.branch}"


class MoveBranch(msgspec.Struct, frozen=True):
    """Give the wanted name to the default branch of a repository that holds nothing yet."""

    old: str
    new: str

    def __str__(self) -> str:
        return f"Rename the default branch {self.old} to {self.new}"


class WriteFile(msgspec.Struct, frozen=True):
    """Commit one file."""

    path: str
    branch: str
    text: str
    sha: str | None = None
    """The hash of the content to replace; None for a new file."""

    def __str__(self) -> str:
        return f"{'Write' if self.sha is None else 'Replace'} {self.path} in the branch {self.branch}"


class SetSecret(msgspec.Struct, frozen=True):
    """Store the token as an encrypted secret of GitHub Actions."""

    name: str
    is_new: bool

    def __str__(self) -> str:
        return f"{'Set' if self.is_new else 'Replace'} the Actions secret {self.name}"


class EnablePages(msgspec.Struct, frozen=True):
    """Let GitHub Pages publish what the workflow builds."""

    is_new: bool

    def __str__(self) -> str:
        return "Enable GitHub Pages, built by the workflow" if self.is_new else "Let the workflow build GitHub Pages"


Action = CreateRepository | MoveBranch | WriteFile | SetSecret | EnablePages


class Plan(msgspec.Struct, frozen=True):
    """The actions in order, and notes for people about what is left alone."""

    actions: tuple[Action, ...]
    notes: tuple[str, ...] = ()


def plan(wanted: Wanted, found: Found | None) -> Plan:
    """Plan the actions. `found` is None if the repository does not exist.

    The workflows come last, when everything that they need exists. Raises InvalidConfigError if the existing repository
    cannot be turned into the wanted one.
    """
    spec = wanted.spec
    private = wanted.private if found is None else found.private
    if wanted.pages and private and not wanted.force:
        raise InvalidConfigError(
            "--enable_gh_pages of a private GitHub repository would tell everybody the names of its packages, and pip "
            "could not fetch them: GitHub's download addresses need a browser's session there. Leave it out, make the "
            "repository public (--no_private where it is created), or give --force where your Pages are private."
        )
    actions: list[Action] = []
    notes: list[str] = []
    if found is None:
        actions.append(CreateRepository(f"{spec.owner}/{spec.repo}", wanted.private, spec.branch))
        found = Found(default_branch=spec.branch, private=wanted.private)
    else:
        if found.archived:
            raise InvalidConfigError(
                f"The GitHub repository {spec.owner}/{spec.repo} is archived; unarchive it, or name another."
            )
        if wanted.private and not found.private:
            notes.append(f"{spec.owner}/{spec.repo} is public and stays so: everybody can read its packages.")
    actions += _branch(wanted, found)
    for step in (_readme, _index, _secret, _pages, _pages_workflow, _workflow):
        made, note = step(wanted, found)
        if made is not None and made not in actions:
            actions.append(made)
        if note is not None:
            notes.append(note)
    return Plan(tuple(actions), tuple(notes))


_Step = tuple[Action | None, str | None]


def _branch(wanted: Wanted, found: Found) -> list[Action]:
    """Plan to make the wanted branch the default one, because GitHub runs scheduled workflows only there."""
    branch = wanted.spec.branch
    first: list[Action] = []
    if not found.has_commits:
        first.append(WriteFile(readme.PATH, found.default_branch, _readme_text(wanted)))
    if found.default_branch == branch:
        return first
    if found.has_commits and not _holds_nothing(wanted, found):
        raise InvalidConfigError(
            f"The default branch of {wanted.spec.owner}/{wanted.spec.repo} is {found.default_branch!r}, and GitHub "
            f"runs scheduled workflows of no other: give --branch={found.default_branch}, or change it on GitHub."
        )
    return [*first, MoveBranch(found.default_branch, branch)]


def _holds_nothing(wanted: Wanted, found: Found) -> bool:
    stored = found.files.get(readme.PATH)
    return found.root <= {readme.PATH} and (stored is None or readme.is_github_s(stored.text, wanted.spec.repo))


def _readme_text(wanted: Wanted) -> str:
    return readme.readme(wanted.name, wanted.spec, pages=wanted.pages)


def _readme(wanted: Wanted, found: Found) -> _Step:
    text, stored = _readme_text(wanted), found.files.get(readme.PATH)
    if not found.has_commits:
        return None, None  # it is the first commit
    if stored is None and readme.PATH in found.root:
        return None, None
    if stored is not None and not readme.is_github_s(stored.text, wanted.spec.repo):
        note = None if stored.text == text else f"{readme.PATH} is left as it is."
        return None, note
    return WriteFile(readme.PATH, wanted.spec.branch, text, stored.sha if stored else None), None


def _index(wanted: Wanted, found: Found) -> _Step:
    name = wanted.spec.index_name
    stem = name.rpartition(".")[0]
    if {f"{stem}.toml", f"{stem}.json"} & found.root:
        return None, None
    text = encode_index(name, 0, [], backend_type="github", location=lambda _project, _file: None).decode()
    return WriteFile(name, wanted.spec.branch, text), None


def _secret(wanted: Wanted, found: Found) -> _Step:
    if not found.has_secret or wanted.replace_secret:
        return SetSecret(workflow.SECRET, not found.has_secret), None
    return None, f"The Actions secret {workflow.SECRET} is left as it is; --replace_secret sets it again."


def _pages(wanted: Wanted, found: Found) -> _Step:
    if not wanted.pages or found.pages == "workflow":
        return None, None
    if found.pages is not None and not wanted.force:
        return None, "GitHub Pages is built otherwise and left as it is; --force lets the workflow build it."
    return EnablePages(found.pages is None), None


def _workflow(wanted: Wanted, found: Found) -> _Step:
    return _generated(wanted, found, workflow.PATH, workflow.workflow(wanted.name, wanted.spec, wanted.requirement))


def _pages_workflow(wanted: Wanted, found: Found) -> _Step:
    if not wanted.pages:
        return None, None
    return _generated(wanted, found, workflow.PAGES_PATH, workflow.pages_workflow(wanted.spec, wanted.requirement))


def _generated(wanted: Wanted, found: Found, path: str, text: str) -> _Step:
    stored = found.files.get(path)
    if stored is not None and stored.text == text:
        return None, None
    if stored is not None and not workflow.is_untouched(stored.text) and not wanted.force:
        return None, f"{path} was changed by somebody and is left as it is; --force replaces it."
    return WriteFile(path, wanted.spec.branch, text, stored.sha if stored else None), None
