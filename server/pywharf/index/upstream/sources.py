"""Ask a repo's sources for a project, in order: the first that matches its name and has it answers alone."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.index.upstream.source import Source

Ask = Callable[[Source, ProjectName], Awaitable[Project | None]]
"""Returns an index's project, or None if it has none.

Raises:
    UpstreamError: It cannot be said. The next source is not asked: a name of this one could be somebody else's there.
    NotFoundError: The index had the project a short time ago. The next source is not asked for the same reason.
"""


class Answer(msgspec.Struct, frozen=True):
    """A project, and the source that answers for it."""

    source: Source
    project: Project


async def first_answer(ask: Ask, sources: Sequence[Source], name: ProjectName) -> Answer | None:
    """Return the answer of the first source that matches the name and has the project, or None.

    A source that fails is never skipped: who can make it fail would choose the one that answers. Raises as `Ask`.
    """
    for source in sources:
        if source.answers_for(name):
            project = await ask(source, name)
            if project is not None:
                return Answer(source, project)
    return None
