"""Parse the root page of another index, which lists its projects."""

from urllib.parse import unquote, urlsplit

import msgspec

from pywharf.core.errors import InvalidNameError, UpstreamError
from pywharf.core.html_tags import start_tags
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.index.limits import MAX_PROJECTS
from pywharf.index.upstream.pages import kind_of

_TAGS = frozenset({"a"})
_MAX_PROBLEMS = 100


@warmed_up
class _Listed(msgspec.Struct, frozen=True):
    name: str


@warmed_up
class _Root(msgspec.Struct, frozen=True):
    projects: list[msgspec.Raw]


def parse_root(content: bytes, content_type: str) -> tuple[tuple[ProjectName, ...], tuple[str, ...]]:
    """Return the projects' names, sorted, and a sentence for each of the first names that cannot be one.

    Raises UpstreamError for another content type, a malformed page, or more than MAX_PROJECTS names.
    """
    try:
        raw = _of_json(content) if kind_of(content_type, "the list of projects") == "json" else _of_html(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UpstreamError(f"The index's list of projects cannot be read: {error}.") from error
    names: set[ProjectName] = set()
    problems: list[str] = []
    for name in raw:
        try:
            names.add(normalize(name))
        except InvalidNameError as error:
            problems.append(str(error))
    if len(problems) > _MAX_PROBLEMS:
        problems[_MAX_PROBLEMS:] = [f"Further names that are no projects': {len(problems) - _MAX_PROBLEMS}."]
    return tuple(sorted(names)), tuple(problems)


def _of_json(content: bytes) -> list[str]:
    root = msgspec.json.decode(content, type=_Root)
    _check(len(root.projects))
    return [msgspec.json.decode(raw, type=_Listed).name for raw in root.projects]


def _of_html(content: bytes) -> list[str]:
    names: list[str] = []
    for _, given in start_tags(content.decode("utf-8", "replace"), _TAGS):
        path = urlsplit(given.get("href", "").strip()).path.rstrip("/")
        name = unquote(path.rpartition("/")[2])
        if name and name not in {".", ".."}:
            names.append(name)
            _check(len(names))
    return names


def _check(projects: int) -> None:
    if projects > MAX_PROJECTS:
        raise UpstreamError(f"The index lists more than {MAX_PROJECTS} projects.")
