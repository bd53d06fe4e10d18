"""The output of `up`: each problem once when it appears and once when it is solved, and each repo's address."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pywharf.core.names import RepoName
from pywharf_operator.local.up.plan import Plan
from pywharf_operator.render import RepoVerdict
from pywharf_operator.spec.access import Access

_ANY_ADDRESS = {"//0.0.0.0:": "//127.0.0.1:", "//[::]:": "//[::1]:"}
_HOW = """\
The password is not shown: it is the secret that is named above. pip asks for it on a terminal; elsewhere keep it in
~/.netrc or in a keyring (pip install keyring), or put the whole URL with it into the variable PIP_INDEX_URL.
Use it as the only index: with --extra-index-url a stranger's package of the same name may be taken."""


def index_url(base_url: str, verdict: RepoVerdict) -> str:
    """Return the URL of the repo's index, with the user name that clients need and without the password."""
    for unspecified, shown in _ANY_ADDRESS.items():
        base_url = base_url.replace(unspecified, shown)
    credentials = verdict.repo.spec.credentials
    user = "" if credentials.anonymous_read else f"{verdict.name}@"
    return f"{base_url.replace('://', f'://{user}', 1)}/repo/{verdict.name}/simple/"


def address_lines(base_url: str, verdict: RepoVerdict) -> list[str]:
    """Return the lines about how to install from the repo and publish to it."""
    repo, url = verdict.repo, index_url(base_url, verdict)
    refs = repo.spec.credentials
    reading = refs.read_secret_ref and f"password: key {refs.read_secret_ref.key} of Secret {refs.read_secret_ref.name}"
    if refs.anonymous_read:
        reading = "no password needed"
    elif reading is None and repo.spec.access:
        reading = f"password: a token of a client that spec.access names: {_names(repo.spec.access)}"
    lines = [f"{verdict.name} (PackageRepo {repo.key}): {reading or 'password: a token of the backend'}"]
    lines.append(f"  pip install --index-url {url} PACKAGE")
    if refs.write_secret_ref is not None:
        to_publish = url.replace(f"//{verdict.name}@", "//")
        ref = refs.write_secret_ref
        lines.append(f"  twine upload --repository-url {to_publish} --username {verdict.name} dist/*")
        lines.append(f"    (password: key {ref.key} of Secret {ref.name})")
    elif publishers := [entry for entry in repo.spec.access if entry.permission == "Publish"]:
        to_publish = url.replace(f"//{verdict.name}@", "//")
        lines.append(f"  twine upload --repository-url {to_publish} --username __token__ dist/*")
        lines.append(f"    (password: a token of a client that spec.access names: {_names(publishers)})")
    return lines


def _names(entries: Iterable[Access]) -> str:
    return ", ".join(entry.name for entry in entries)


class Reporter:
    """The reporter, which remembers its messages. `inform` prints information, `warn` what needs attention."""

    def __init__(self, inform: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._inform = inform
        self._warn = warn
        self._problems: frozenset[str] = frozenset()
        self._notes: set[str] = set()
        self._served: dict[RepoName, list[str]] = {}
        self._base_url: str | None = None
        self._explained = False

    def problems(self, current: Iterable[str]) -> None:
        """Report new and solved problems."""
        current = tuple(current)
        for problem in current:
            if problem not in self._problems:
                self._warn(f"problem: {problem}")
        for problem in sorted(self._problems - set(current)):
            self._warn(f"solved: {problem}")
        self._problems = frozenset(current)

    def notes(self, current: Iterable[str]) -> None:
        """Report each note once."""
        for note in current:
            if note not in self._notes:
                self._warn(f"note: {note}")
                self._notes.add(note)

    def ready(self, base_url: str, root: Path, plan: Plan) -> None:
        """Report that the server listens now, and the addresses of its repos."""
        self._base_url = base_url
        self._inform(f"Serving on {base_url} (packages of fileSystem repos: {root / 'cache'})")
        self.repos(plan)

    def repos(self, plan: Plan) -> None:
        """Report the addresses of new repos, and the repos that are gone. Report nothing before the server listens."""
        if self._base_url is None:
            return
        served = {verdict.name: address_lines(self._base_url, verdict) for verdict in plan.verdict.repos}
        for name, lines in served.items():
            if self._served.get(name) != lines:
                self._inform("\n".join(lines))
        for name in self._served.keys() - served.keys():
            self._inform(f"{name}: no longer served")
        if served and not self._explained:
            self._inform(_HOW)
            self._explained = True
        if not served and (self._served or not self._explained):
            self._inform("No repo is served yet; the folder is looked at every second.")
        self._served = served
