"""Ask a repo's extra index for projects, a few at a time."""

import asyncio
from collections.abc import Iterable, Mapping

from pywharf import __version__
from pywharf.core.errors import InvalidConfigError, UpstreamError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.source import Source

_CONCURRENT = 8
_TIMEOUT_S = 300
"""Seconds for all projects together."""


def look_up(url: str, names: Iterable[ProjectName]) -> Mapping[ProjectName, Project]:
    """Return the projects that the index has. Raises InvalidConfigError if it cannot be asked."""
    return asyncio.run(_look_up(url, sorted(set(names))))


async def _look_up(url: str, names: list[ProjectName]) -> dict[ProjectName, Project]:
    found: dict[ProjectName, Project] = {}
    failures: list[Exception] = []
    waiting = iter(names)
    async with UpstreamClient(lambda _: None, f"pywharf/{__version__}") as client:
        index = ExtraIndex(client)

        async def work() -> None:
            for name in waiting:
                project = await _project(index, url, name)
                if project is not None:
                    found[name] = project

        try:
            async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as group:
                for _ in range(min(_CONCURRENT, len(names))):
                    group.create_task(work())
        except* InvalidConfigError as failed:
            failures += failed.exceptions
        except* TimeoutError:
            failures.append(InvalidConfigError(f"The extra index {url} took longer than {_TIMEOUT_S} s; try again."))
    if failures:
        raise failures[0]
    return found


async def _project(index: ExtraIndex, url: str, name: ProjectName) -> Project | None:
    try:
        return await index.project(Source(url=url), name)
    except UpstreamError as error:
        raise InvalidConfigError(f"The extra index {url} has no readable page of {name!r}: {error}") from error
