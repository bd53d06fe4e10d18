"""Make a project's page from the repo's own files and another index's, as policies show them."""

from collections.abc import Callable
from math import inf
from urllib.parse import quote

import msgspec

from pywharf.core.model import Project
from pywharf.core.policy.evaluation import Withheld
from pywharf.core.simple import project_html, project_json
from pywharf.index.enforcement import Enforcement, Shown
from pywharf.index.page_cache import Page

Note = Callable[[tuple[Withheld, ...]], None]
"""Records what the newest page of a project lacks."""


class Sources(msgspec.Struct, frozen=True):
    """What a page is made from: the repo's project, the extra index's, or both; never neither."""

    own: Project | None
    foreign: Project | None = None
    is_cached: bool = False
    """Whether the other index's files are downloaded from this server."""

    @property
    def count(self) -> int:
        """Return the number of files."""
        return sum(len(project.files) for project in (self.own, self.foreign) if project is not None)


def make_page(sources: Sources, enforcement: Enforcement | None, note: Note, *, is_json: bool) -> Page:
    """Make the page. Evaluating and rendering a large one takes long, so it may run in a thread."""
    own, foreign = sources.own, sources.foreign
    if own is not None and foreign is not None:
        foreign = _without(foreign, own)
    if foreign is not None and sources.is_cached:
        foreign = _with_own_links(foreign)
    parts = [
        _show(project, enforcement, foreign=project is foreign) for project in (own, foreign) if project is not None
    ]
    withheld = tuple(one for part in parts for one in part.withheld)
    if enforcement is not None:
        note(withheld)
    project = parts[0].project if len(parts) == 1 else _merged(parts[0].project, parts[1].project)
    is_foreign = foreign is not None
    if is_json:
        body = project_json(project, foreign=is_foreign, withheld=withheld)
    else:
        body = project_html(project, foreign=is_foreign)
    return Page(body, max(part.since for part in parts), min(part.until for part in parts))


def _show(project: Project, enforcement: Enforcement | None, *, foreign: bool) -> Shown:
    if enforcement is None or not enforcement.concerns(project.name, foreign=foreign):
        return Shown(project, (), -inf, inf)
    return enforcement.show(project, foreign=foreign)


def _without(foreign: Project, own: Project) -> Project:
    """Leave out the files whose names the repo has: its own file is meant, even where a policy withholds that one."""
    names = {f.filename for f in own.files}
    return msgspec.structs.replace(foreign, files=tuple(f for f in foreign.files if f.filename not in names))


def _with_own_links(project: Project) -> Project:
    files = (msgspec.structs.replace(f, location=quote(f.filename)) for f in project.files)
    return msgspec.structs.replace(project, files=tuple(files))


def _merged(own: Project, foreign: Project) -> Project:
    """Merge the repo's own files, whose links stay relative, with the other index's files after them."""
    files = _with_own_links(own).files if own.offers_files else ()
    return msgspec.structs.replace(own, files=(*files, *(foreign.files if foreign.offers_files else ())))
