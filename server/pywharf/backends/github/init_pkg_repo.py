"""The command `pywharf github.init_pkg_repo`: read the current state, plan the actions, carry them out."""

import asyncio
import base64
import sys
from typing import Any

import click
import msgspec
from nacl.public import PublicKey, SealedBox

from pywharf.backends.github import readme, workflow
from pywharf.backends.github.answer import Answer
from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.credentials import parse_credentials
from pywharf.backends.github.init_plan import (
    Action,
    CreateRepository,
    EnablePages,
    Found,
    MoveBranch,
    Plan,
    SetSecret,
    StoredFile,
    Wanted,
    WriteFile,
    plan,
)
from pywharf.backends.github.refusals import Step, refusal
from pywharf.backends.github.settings import InitPkgRepoSettings
from pywharf.backends.secret_flags import given_secret
from pywharf.config.repo_config import GithubSpec
from pywharf.core.errors import ForbiddenError, InvalidConfigError, InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.toml_text import dumps

_MAX_WAIT_S = 300.0
_FOUND = 200
_MISSING = 404
_MADE = (200, 201, 202, 204)


def init_pkg_repo(settings: InitPkgRepoSettings) -> None:
    """Run the command. Raises PywharfError."""
    wanted = _wanted(settings)
    secret = given_secret(settings)
    if secret is None:
        raise InvalidConfigError(
            "A GitHub token is needed: name its environment variable with --secret_env, or its file with --secret_file."
        )
    own = given_secret(settings, "workflow_")
    parse_credentials(secret)
    parse_credentials(own or secret)
    asyncio.run(_init(wanted, secret, own or secret, dry_run=settings.dry_run))
    click.echo(tables(wanted.name, wanted.spec, settings))


def _wanted(settings: InitPkgRepoSettings) -> Wanted:
    try:
        name = parse_repo_name(settings.name)
    except InvalidNameError as error:
        raise InvalidConfigError(f"--name: {error}") from None
    return Wanted(
        name=name,
        spec=settings.spec,
        private=settings.private,
        pages=settings.enable_gh_pages,
        replace_secret=settings.replace_secret,
        force=settings.force,
        requirement=settings.requirement or workflow.REQUIREMENT,
    )


async def _init(wanted: Wanted, secret: str, workflow_secret: str, *, dry_run: bool) -> None:
    api = GithubApi(wanted.spec.api_url, lambda: parse_credentials(secret), is_clients=True, threads=1)
    api.max_wait_s = _MAX_WAIT_S
    try:
        remote = Remote(api, wanted.spec)
        planned = plan(wanted, await remote.inspect(pages=wanted.pages))
        if dry_run:
            _show(planned)
            return
        for action in planned.actions:
            _say(f"{action}.")
            await remote.do(action, workflow_secret)
    finally:
        await api.aclose()
    for note in planned.notes:
        _say(note)
    _say("Done." if planned.actions else "Nothing to do.")


def _show(planned: Plan) -> None:
    """Print all that would be done, with the content of each file."""
    for action in planned.actions:
        _say(f"Would: {action}.")
        if isinstance(action, WriteFile):
            _say("".join(f"    {line}\n" for line in action.text.splitlines()))
    for note in planned.notes:
        _say(note)
    _say("This was a dry run." if planned.actions else "Nothing to do.")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def tables(name: RepoName, spec: GithubSpec, settings: InitPkgRepoSettings) -> str:
    """Return the repo's tables for a server's two files. They name the secret's location, not the secret."""
    table: dict[str, Any] = {"type": "github", "owner": spec.owner, "repo": spec.repo, "branch": spec.branch}
    given = msgspec.to_builtins(spec)
    table |= {key: given[key] for key in ("index_filename", "api_url") if key in given}
    files, variables = (
        getattr(settings, f"workflow_secret_{kind}") or getattr(settings, f"secret_{kind}") for kind in ("file", "env")
    )
    where = {"env": variables or workflow.SECRET}
    if files is not None and settings.workflow_secret_env is None:
        where = {"file": files}
    return (
        f"# Of the server's --config:\n{dumps({name: table})}\n"
        f"# Of its --admin_secret:\n{dumps({name: {'type': 'github', **where}})}"
    )


class Remote:
    """A GitHub repository, accessed through the API."""

    def __init__(self, api: GithubApi, spec: GithubSpec) -> None:
        self._api = api
        self._spec = spec
        self._repo = f"/repos/{spec.owner}/{spec.repo}"
        self._first_readme: str | None = None
        """The hash of the README that GitHub put into a repository created here."""

    async def inspect(self, *, pages: bool) -> Found | None:
        """Read the repository's state; None if it does not exist. Raises PywharfError."""
        about = await self._api.get(self._repo)
        if about.status == _MISSING:
            return None
        if about.status != _FOUND:
            raise refusal(Step.SHOW_REPOSITORY, about)
        branch = str(about.data["default_branch"])
        listed = await self._api.get(f"{self._repo}/contents/", {"ref": branch})
        root = frozenset(str(one["name"]) for one in listed.data) if listed.status == _FOUND else frozenset()
        files = {}
        for path in (readme.PATH, workflow.PATH, workflow.PAGES_PATH):
            if path.partition("/")[0] in root and (file := await self._file(path, branch)) is not None:
                files[path] = file
        return Found(
            default_branch=branch,
            private=bool(about.data.get("private")),
            archived=bool(about.data.get("archived")),
            has_commits=listed.status == _FOUND,
            root=root,
            files=files,
            has_secret=await self._has_secret(),
            pages=await self._pages() if pages else None,
        )

    async def _file(self, path: str, branch: str) -> StoredFile | None:
        answer = await self._api.get(f"{self._repo}/contents/{path}", {"ref": branch})
        if answer.status != _FOUND or not isinstance(answer.data, dict):
            return None
        content = base64.b64decode(str(answer.data.get("content", "")))
        return StoredFile(content.decode("utf-8", "replace"), str(answer.data["sha"]))

    async def _has_secret(self) -> bool:
        try:
            answer = await self._api.get(f"{self._repo}/actions/secrets/{workflow.SECRET}")
        except ForbiddenError as error:
            raise _forbidden("Look for the Actions secret", error, "Secrets: read and write") from None
        return answer.status == _FOUND

    async def _pages(self) -> str | None:
        answer = await self._api.get(f"{self._repo}/pages")
        return str(answer.data.get("build_type") or "legacy") if answer.status == _FOUND else None

    async def do(self, action: Action, secret: str) -> None:
        """Carry out one action. Raises PywharfError with a remedy."""
        try:
            answer = await self._done(action, secret)
        except ForbiddenError as error:
            raise _forbidden(str(action), error, _needs(action)) from None
        if answer.status not in _MADE:
            refused = refusal(Step.PREPARE_REPOSITORY, answer, action=str(action), remedy=_remedy(action))
            raise _forbidden(str(action), refused, _needs(action)) if isinstance(refused, ForbiddenError) else refused

    async def _done(self, action: Action, secret: str) -> Answer:
        match action:
            case CreateRepository():
                return await self._create(action)
            case MoveBranch():
                return await self._move_branch(action.old, action.new)
            case WriteFile():
                return await self._write(action)
            case SetSecret():
                return await self._set_secret(action.name, secret)
            case EnablePages():
                verb = "POST" if action.is_new else "PUT"
                return await self._api.send(verb, f"{self._repo}/pages", {"build_type": "workflow"})

    async def _create(self, action: CreateRepository) -> Answer:
        made = await self._api.send(
            "POST",
            await self._owners_path(),
            {"name": self._spec.repo, "private": action.private, "auto_init": True},
        )
        if made.status not in _MADE:
            return made
        branch = str(made.data["default_branch"])
        if branch != action.branch:
            moved = await self._move_branch(branch, action.branch)
            if moved.status not in _MADE:
                return moved
        first = await self._file(readme.PATH, action.branch)
        self._first_readme = first.sha if first is not None else None
        return made

    async def _owners_path(self) -> str:
        """Return the path under which the owner, a user or an organisation, has repositories. An App has no user."""
        try:
            user = await self._api.get("/user")
        except ForbiddenError:
            return f"/orgs/{self._spec.owner}/repos"
        is_own = user.status == _FOUND and str(user.data.get("login", "")).lower() == self._spec.owner.lower()
        return "/user/repos" if is_own else f"/orgs/{self._spec.owner}/repos"

    async def _move_branch(self, old: str, new: str) -> Answer:
        """Rename a branch by refs. GitHub completes each step before it answers; a second run resumes a broken one."""
        head = await self._api.get(f"{self._repo}/git/ref/heads/{old}")
        if head.status != _FOUND:
            return head
        made = await self._api.send(
            "POST", f"{self._repo}/git/refs", {"ref": f"refs/heads/{new}", "sha": head.data["object"]["sha"]}
        )
        if made.status not in _MADE and "exist" not in made.message:
            return made
        changed = await self._api.send("PATCH", self._repo, {"default_branch": new})
        if changed.status not in _MADE:
            return changed
        return await self._api.send("DELETE", f"{self._repo}/git/refs/heads/{old}")

    async def _write(self, action: WriteFile) -> Answer:
        sha = action.sha or (self._first_readme if action.path == readme.PATH else None)
        what = {
            "message": f"{'Add' if sha is None else 'Update'} {action.path}",
            "branch": action.branch,
            "content": base64.b64encode(action.text.encode()).decode(),
        }
        return await self._api.send("PUT", f"{self._repo}/contents/{action.path}", what | ({"sha": sha} if sha else {}))

    async def _set_secret(self, name: str, secret: str) -> Answer:
        key = await self._api.get(f"{self._repo}/actions/secrets/public-key")
        if key.status != _FOUND:
            return key
        sealed = SealedBox(PublicKey(base64.b64decode(key.data["key"]))).encrypt(secret.encode())
        what = {"encrypted_value": base64.b64encode(sealed).decode(), "key_id": key.data["key_id"]}
        return await self._api.send("PUT", f"{self._repo}/actions/secrets/{name}", what)


def _forbidden(step: str, error: ForbiddenError, needs: str) -> ForbiddenError:
    return ForbiddenError(f"{step}: {error} The token needs {needs}; what was done before stays, run this again then.")


def _needs(action: Action) -> str:
    """Return the rights that an action needs, of fine-grained and of classic tokens."""
    match action:
        case CreateRepository():
            return (
                "the right to create repositories of that owner: Administration: write (classic: scope repo). Or "
                "create an empty one by hand, which this command then adopts"
            )
        case MoveBranch():
            return "Administration: write and Contents: write (classic: scope repo)"
        case WriteFile(path=workflow.PATH | workflow.PAGES_PATH):
            return "Workflows: write and Contents: write (classic: scopes repo and workflow)"
        case WriteFile():
            return "Contents: write (classic: scope repo)"
        case SetSecret():
            return "Secrets: write (classic: scope repo), of somebody who administers the repository"
        case EnablePages():
            return "Pages: write and Administration: write (classic: scope repo)"


def _remedy(action: Action) -> str:
    match action:
        case CreateRepository():
            return "If it exists already, your token must be allowed to see it; otherwise choose another name."
        case EnablePages():
            return "Your plan may have no Pages for this repository; leave out --enable_gh_pages."
        case _:
            return "Somebody may have changed it in the meantime; run this again."
