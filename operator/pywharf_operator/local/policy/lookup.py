"""Ask the other indexes of a repo for projects, a few at a time."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from pywharf import __version__
from pywharf.core.errors import InvalidConfigError, UpstreamError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.sources import first_answer

_CONCURRENT = 8
_TIMEOUT_S = 300
"""Seconds for all projects together."""


def look_up(sources: Sequence[Source], names: Iterable[ProjectName]) -> Mapping[ProjectName, Project]:
    """Return the projects that the indexes have: the first that answers for a name and has it answers alone.

    Raises InvalidConfigError if one cannot be asked.
    """
    return asyncio.run(_look_up(sources, sorted(set(names))))


async def _look_up(sources: Sequence[Source], names: list[ProjectName]) -> dict[ProjectName, Project]:
    found: dict[ProjectName, Project] = {}
    failures: list[Exception] = []
    waiting = iter(names)
    async with UpstreamClient(lambda _: None, f"pywharf/{__version__}") as client:
        index = ExtraIndex(client)

        async def work() -> None:
            for name in waiting:
                project = await _project(index, sources, name)
                if project is not None:
                    found[name] = project

        try:
            async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as group:
                for _ in range(min(_CONCURRENT, len(names))):
                    group.create_task(work())
        except* InvalidConfigError as failed:
            failures += failed.exceptions
        except* TimeoutError:
            asked = " and ".join(source.url for source in sources)
            failures.append(InvalidConfigError(f"The extra index {asked} took longer than {_TIMEOUT_S} s; try again."))
    if failures:
        raise failures[0]
    return found


async def _project(index: ExtraIndex, sources: Sequence[Source], name: ProjectName) -> Project | None:
    async def ask(source: Source, wanted: ProjectName) -> Project | None:
        try:
            return await index.project(source, wanted)
        except UpstreamError as error:
            raise InvalidConfigError(
                f"The extra index {source.url} has no readable page of {wanted!r}: {error}"
            ) from error

    found = await first_answer(ask, sources, name)
    return None if found is None else found.project
