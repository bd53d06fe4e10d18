"""`pywharf policy test` and `pywharf policy explain`: what the policies in a folder would withhold."""

import functools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import click
import msgspec
from msgspec import Meta

from pywharf.cli.flags import CONTEXT, OWN_TYPE, Command, options_of
from pywharf.config.settings import check_advisories
from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.errors import InvalidConfigError, InvalidNameError, UpstreamError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName, normalize
from pywharf.core.os_errors import reason_of
from pywharf.core.policy.upload_times import unix_seconds
from pywharf.index.upstream.pages import parse_page
from pywharf.lock_files import read_lock
from pywharf_operator.local.flags import TEXT, NamespaceName, folder_argument
from pywharf_operator.local.policy.advisories import read_advisories
from pywharf_operator.local.policy.judging import Judgement, evaluate, judge
from pywharf_operator.local.policy.lookup import look_up
from pywharf_operator.local.policy.report import (
    escaped,
    explanation_json,
    explanation_text,
    judgement_json,
    judgement_text,
    notes_of,
)
from pywharf_operator.local.policy.subject import Subject, load_subject

T = TypeVar("T", bound="PolicyOptions")
_MAX_PAGE_BYTES = 64 * 1024**2
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)

_TEST_HELP = """Say which pins of a lock file the policies in DIR would withhold from clients of a repo.

The lock file is a uv.lock, a pylock.toml (PEP 751) or a requirements file. Upload times that it lacks come from the
repo's extra index. The exit status is 0 where nothing is withheld, 1 where a pin is, and 2 if that cannot be told: a
wrong flag, a broken manifest or lock file, no pin, a file without a digest where a rule names one, or an extra index
or a feed of advisories that cannot be read.

\b
Example:
  pywharf policy test deploy/packages --repo=team-a --lock=uv.lock
"""

_EXPLAIN_HELP = """Show each file of a project with the rule that decides whether clients of REPO see it.

The files are those of the repo's extra index, or of a saved page (--page). Those of a project that the repo itself
holds need one: curl -H 'Accept: application/vnd.pypi.simple.v1+json' of a page without policies.

\b
Example:
  pywharf policy explain deploy/packages team-a requests
"""


class PolicyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the flags that both commands have."""

    namespace: Annotated[
        str, Meta(description="Namespace of the objects that name none.", extra={OWN_TYPE: NamespaceName()})
    ] = "default"
    own: Annotated[
        str,
        Meta(
            description=(
                "Projects that the repo itself holds, such as acme-*, separated by commas: the extra index is never "
                "asked for them, and rules about upstream files alone do not count."
            ),
            extra={OWN_TYPE: TEXT},
        ),
    ] = ""
    advisories: Annotated[
        str | None,
        Meta(
            description=(
                "Feed of advisories in OSV's format, as a URL or a path: the one that the server follows. Without it, "
                "what a policy withholds as malware is not tested."
            ),
            extra={OWN_TYPE: TEXT},
        ),
    ] = None
    now: Annotated[str | None, Meta(description="Time to assume instead of now, such as 2027-01-31T00:00:00Z.")] = None
    output: Annotated[Literal["text", "json"], Meta(description="What is printed.")] = "text"

    def __post_init__(self) -> None:
        if self.advisories is not None:
            check_advisories(self.advisories)
        if self.now is not None and unix_seconds(self.now) is None:
            raise ValueError(f"--now is {self.now[:80]!r}; write a time with its zone, such as 2027-01-31T00:00:00Z")

    @property
    def moment(self) -> float:
        """The time of the evaluation in Unix seconds."""
        given = None if self.now is None else unix_seconds(self.now)
        return time.time() if given is None else given

    @property
    def feed(self) -> AdvisoryStore | None:
        """What the feed of `advisories` says, read again each time; None without one. Raises InvalidConfigError."""
        return None if self.advisories is None else read_advisories(self.advisories)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of `own`."""
        return tuple(pattern for part in self.own.split(",") if (pattern := part.strip()))


class TestOptions(PolicyOptions, frozen=True, kw_only=True):
    """The values of the flags of `policy test`."""

    __test__ = False  # pytest collects classes of such a name

    repo: Annotated[
        str, Meta(description="Name of the repo, or NAMESPACE/NAME of its PackageRepo.", extra={OWN_TYPE: TEXT})
    ]
    lock: Annotated[Path, Meta(description="The lock file.", extra={OWN_TYPE: _FILE})]
    offline: Annotated[
        bool, Meta(description="Ask no extra index: an upload time that the lock file lacks counts as missing.")
    ] = False


class ExplainOptions(PolicyOptions, frozen=True, kw_only=True):
    """The values of the flags of `policy explain`."""

    page: Annotated[
        Path | None,
        Meta(description="A saved JSON page of the project, instead of the extra index's.", extra={OWN_TYPE: _FILE}),
    ] = None


def _test(folder: Path, **values: Any) -> None:
    options = _options(TestOptions, values)
    subject = load_subject(folder, options.namespace, options.repo, options.patterns)
    lock = read_lock(options.lock)
    subject = msgspec.structs.replace(subject, advisories=options.feed)
    now = options.moment
    sources = () if options.offline else subject.sources
    judgement = judge(lock, subject, now, functools.partial(look_up, sources) if sources else None)
    if options.output == "json":
        click.echo(judgement_json(judgement, subject, str(options.lock), now))
    else:
        for note in (*judgement.notes, *notes_of(subject)):
            click.echo(f"note: {escaped(note)}", err=True)
        click.echo(judgement_text(judgement, subject))
    click.get_current_context().exit(_status(judgement))


def _status(judgement: Judgement) -> int:
    if judgement.withheld:
        return 1
    return 2 if judgement.undecided or not judgement.pins else 0


def _explain(folder: Path, repo: str, project: str, **values: Any) -> None:
    options = _options(ExplainOptions, values)
    try:
        name = normalize(project)
    except InvalidNameError as error:
        raise InvalidConfigError(f"PROJECT: {error}") from error
    subject = load_subject(folder, options.namespace, repo, options.patterns)
    foreign = subject.may_be_upstream_s(name)
    subject = msgspec.structs.replace(subject, advisories=options.feed)
    found = _found(name, subject, options.page, foreign=foreign)
    now = options.moment
    verdict = evaluate(subject, found, now, foreign=foreign)
    if options.output == "json":
        click.echo(explanation_json(found, verdict, subject, now, foreign=foreign))
    else:
        for note in notes_of(subject):
            click.echo(f"note: {escaped(note)}", err=True)
        click.echo(explanation_text(found, verdict, subject, foreign=foreign))


def _found(name: ProjectName, subject: Subject, page: Path | None, *, foreign: bool) -> Project:
    """Return the project of the saved page, otherwise of the extra index. Raises InvalidConfigError."""
    if page is not None:
        return _saved(name, page)
    if not foreign or not subject.sources:
        raise InvalidConfigError(
            f"{name!r} is the repo's own project, whose files are not in the folder: give its saved page with --page."
        )
    project = look_up(subject.sources, [name]).get(name)
    if project is None:
        asked = " and ".join(source.url for source in subject.sources)
        raise InvalidConfigError(f"The extra index {asked} has no project {name!r}.")
    return project


def _saved(name: ProjectName, page: Path) -> Project:
    try:
        with page.open("rb") as stream:
            content = stream.read(_MAX_PAGE_BYTES + 1)
        if len(content) > _MAX_PAGE_BYTES:
            raise InvalidConfigError(f"{page} is larger than {_MAX_PAGE_BYTES} bytes.")
        return parse_page(name, content, "application/vnd.pypi.simple.v1+json", "https://index.invalid/simple/")
    except OSError as error:
        raise InvalidConfigError(f"{page} cannot be read: {reason_of(error)}.") from error
    except UpstreamError as error:
        raise InvalidConfigError(f"{page}: {error}") from error


def _options(struct: type[T], values: Mapping[str, Any]) -> T:
    try:
        return struct(**values)
    except ValueError as error:
        raise InvalidConfigError(f"{error}.") from error


def _arguments(names: Iterable[str]) -> list[click.Parameter]:
    return [click.Argument([name], metavar=name.upper()) for name in names]


policy = click.Group(
    "policy",
    context_settings=CONTEXT,
    help="Say what the PackagePolicies in a folder would withhold, before they are applied.",
    commands=[
        Command(
            "test",
            callback=_test,
            params=[folder_argument(), *options_of(TestOptions)],
            context_settings=CONTEXT,
            help=_TEST_HELP,
        ),
        Command(
            "explain",
            callback=_explain,
            params=[folder_argument(), *_arguments(("repo", "project")), *options_of(ExplainOptions)],
            context_settings=CONTEXT,
            help=_EXPLAIN_HELP,
        ),
    ],
)
