"""The pins of repos: an object for each, whose key says everything, so a list alone reads a thousand of them."""

from datetime import datetime

from pywharf.backends.object_store.cache_layout import CacheLayout
from pywharf.backends.object_store.client import ObjectClient
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import Pin

MAX_PINS = 50_000
"""Pins of one repo that are read; further ones, which somebody else must have put there, are ignored."""


class CachePins:
    """The pins in one bucket."""

    def __init__(self, client: ObjectClient, layout: CacheLayout) -> None:
        self._client = client
        self._layout = layout

    async def pins(self, repo: RepoName) -> tuple[Pin, ...]:
        """See CacheStore.pins."""
        return (await self._read(self._layout.pins_of(repo))).get(repo, ())

    async def pinning_repos(self) -> tuple[RepoName, ...]:
        """See CacheStore.pinning_repos. It reads the list of all pins, and remembers none of them."""
        found: set[RepoName] = set()
        async for page in self._client.pages(self._layout.pins):
            found.update(parsed[0] for stat in page if (parsed := self._layout.parse_pin(stat)) is not None)
        return tuple(found)

    async def pin(self, repo: RepoName, pin: Pin) -> None:
        """See CacheStore.pin. Of concurrent pins of one name all may stay; the next call leaves one."""
        key = self._layout.pin(repo, pin)
        before = await self._of(repo, pin.project, pin.filename)
        if key not in before:
            await self._client.put(key, b"pin")
        await self._client.delete([old for old in before if old != key])

    async def unpin(self, repo: RepoName, project: ProjectName, filename: str) -> None:
        """See CacheStore.unpin."""
        await self._client.delete(await self._of(repo, project, filename))

    async def _of(self, repo: RepoName, project: ProjectName, filename: str) -> list[str]:
        """Return the keys of a file's pin: one, or some that concurrent calls left."""
        folder = self._layout.pinned(repo, project, filename)
        return [
            stat.key
            async for page in self._client.pages(folder)
            for stat in page
            if (parsed := self._layout.parse_pin(stat)) is not None and parsed[1].filename == filename
        ]

    async def _read(self, folder: str) -> dict[RepoName, tuple[Pin, ...]]:
        found: dict[RepoName, dict[tuple[ProjectName, str], tuple[datetime, Pin]]] = {}
        async for page in self._client.pages(folder):
            for stat in page:
                if (parsed := self._layout.parse_pin(stat)) is None:
                    continue
                repo, pin = parsed
                pins = found.setdefault(repo, {})
                name = (pin.project, pin.filename)
                if name in pins:
                    # Concurrent calls left two: the one that the store dated last counts.
                    pins[name] = max(pins[name], (stat.modified, pin), key=lambda dated: dated[0])
                elif len(pins) < MAX_PINS:
                    pins[name] = (stat.modified, pin)
        return {repo: tuple(pin for _, pin in pins.values()) for repo, pins in found.items()}
