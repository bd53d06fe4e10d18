"""List what the pull-through cache keeps, and remove some of it, for an administrator."""

from collections.abc import AsyncIterator

import msgspec

from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import CacheStore, KeptFile, Pin

_SHOWN = 20


class Selection(msgspec.Struct, frozen=True):
    """Which kept files are meant: those that fit all that is given."""

    project: ProjectName | None = None
    filename: str | None = None
    digest: str | None = None
    repo: RepoName | None = None
    """Those that this repo has pinned."""

    def fits(self, entry: "Entry") -> bool:
        """Return whether a kept file is meant."""
        return self._fits(entry.project, entry.filename, entry.sha256) and self.repo in {None, *entry.pinned_by}

    def fits_pin(self, repo: RepoName, pin: Pin) -> bool:
        """Return whether a pin is meant."""
        return self._fits(pin.project, pin.filename, pin.sha256) and self.repo in {None, repo}

    def _fits(self, project: str, filename: str, digest: str) -> bool:
        return self.project in {None, project} and self.filename in {None, filename} and self.digest in {None, digest}


class Entry(msgspec.Struct, frozen=True):
    """A kept file as it is shown."""

    project: str
    """Empty, as `filename` and `source`, if it is not known where the file came from."""
    filename: str
    """The file's name; that of its core metadata is the same."""
    sha256: str
    size: int
    last_used: float
    """Unix seconds, to an hour."""
    source: str
    pinned_by: tuple[RepoName, ...]


class Found(msgspec.Struct):
    """What a removal is about."""

    files: list[str] = []
    """Digests."""
    size: int = 0
    shown: list[str] = []
    """The first few names."""
    pinned: int = 0
    """Files that fit and stay, because they are pinned."""


async def entries(store: CacheStore, selection: Selection) -> AsyncIterator[list[Entry]]:
    """Yield the kept files that are meant, in portions, in no order."""
    pinned_by = await _pinned_by(store)
    async for portion in store.kept():
        wanted = [file for file in portion if selection.digest in {None, file.sha256}]
        if selection.repo is not None:
            wanted = [file for file in wanted if selection.repo in pinned_by.get(file.sha256, ())]
        found = [entry for entry in await _described(store, wanted, pinned_by) if selection.fits(entry)]
        if found:
            yield found


async def find(store: CacheStore, selection: Selection, *, with_pinned: bool) -> Found:
    """Return what a removal would remove: pinned files only `with_pinned`, and none that another repo has pinned."""
    found = Found()
    async for portion in entries(store, selection):
        for entry in portion:
            others = set(entry.pinned_by) - {selection.repo} if selection.repo is not None else set()
            if others or (entry.pinned_by and not with_pinned):
                found.pinned += 1
                continue
            found.files.append(entry.sha256)
            found.size += entry.size
            if len(found.shown) < _SHOWN:
                found.shown.append(entry.filename or entry.sha256)
    return found


async def remove(store: CacheStore, selection: Selection, found: Found, *, with_pinned: bool) -> int:
    """Remove what was found, after its pins. Returns how many pins were removed."""
    unpinned = 0
    if with_pinned:
        gone = frozenset(found.files)
        for repo in await store.pinning_repos():
            for pin in await store.pins(repo):
                if selection.fits_pin(repo, pin) or pin.sha256 in gone:
                    await store.unpin(repo, pin.project, pin.filename)
                    unpinned += 1
    await store.remove(found.files)
    return unpinned


async def _pinned_by(store: CacheStore) -> dict[str, tuple[RepoName, ...]]:
    pinned_by: dict[str, tuple[RepoName, ...]] = {}
    for repo in await store.pinning_repos():
        for pin in await store.pins(repo):
            before = pinned_by.get(pin.sha256, ())
            if repo not in before:
                pinned_by[pin.sha256] = (*before, repo)
    return pinned_by


async def _described(
    store: CacheStore, files: list[KeptFile], pinned_by: dict[str, tuple[RepoName, ...]]
) -> list[Entry]:
    abouts = await store.abouts([file.sha256 for file in files if file.about is None])
    described: list[Entry] = []
    for file in files:
        about = file.about or abouts.get(file.sha256)
        project, filename, source = ("", "", "") if about is None else (about.project, about.filename, about.source)
        repos = pinned_by.get(file.sha256, ())
        described.append(Entry(project, filename, file.sha256, file.size, file.last_used, source, repos))
    return described
