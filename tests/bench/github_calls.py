"""Benchmark of GitHub API calls: of a full update of the index, an upload, and ten minutes of an idle server."""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

from bench.report import Row, Target
from bench.settings import Settings
from pywharf.backends.opening import open_backend
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import GithubSpec
from pywharf.core.names import RepoName
from pywharf.core.toml_text import dumps
from pywharf.index.follower import Follower
from pywharf.index.ports import Backend, Upload
from pywharf.index.update import update_index
from support.distributions.wheels import wheel
from support.github.repository import BRANCH, OWNER, TestRepository, running_github
from support.storage.uploads import file_of

RELEASES = 2_000
PER_UPDATE, PER_UPLOAD, PER_IDLE = RELEASES / 100 + 5, 6, 0
IDLE_LOOKS = 10
"""Polls in ten minutes: one a minute, the default of `sync_index_interval`."""


def measure(settings: Settings) -> list[Row]:
    """Count the API calls for one repository."""
    folder = settings.folder / "github"
    folder.mkdir(parents=True, exist_ok=True)
    with running_github(folder) as github:
        repository = github.repository()
        _seed(repository)
        return asyncio.run(_measure(repository))


async def _measure(repository: TestRepository) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = await _calls(repository, _update(repository, folder))
        async with _opened(repository, folder) as server:
            await server.read_journal()
            uploading = await _calls(repository, _upload(server, folder))
        second = await _calls(repository, _update(repository, folder))
        async with _opened(repository, folder) as server:
            follower = Follower("bench", server)
            await follower.refresh()
            await follower.refresh()
            before = len(repository.calls)
            for _ in range(IDLE_LOOKS):
                await follower.refresh()
            calls = repository.calls[before:]
            idle = _row("an idle server, ten minutes", sum(call.costs for call in calls), PER_IDLE)
            idle.notes.append(f"besides {sum(not call.costs for call in calls)} conditional ones, which cost nothing")
    return [
        _row("full update_index", first, PER_UPDATE),
        _row("update_index after one upload", second, PER_UPDATE),
        _row("an upload", uploading, PER_UPLOAD),
        idle,
    ]


async def _calls(repository: TestRepository, doing: Coroutine[None, None, None]) -> int:
    """Return the number of API calls that `doing` makes."""
    before = len(repository.calls)
    await doing
    return len(repository.calls) - before


async def _update(repository: TestRepository, folder: Path) -> None:
    async with _opened(repository, folder, is_job=True) as job:
        await update_index(job, backend_type="github", index_name="index.toml", progress=lambda _n, _what: None)


async def _upload(server: Backend, folder: Path) -> None:
    path = wheel(folder, "parcel")
    project, file, metadata = file_of(path)
    staged = server.staging_folder / "staged"
    staged.write_bytes(path.read_bytes())
    await server.publish(Upload(project, file, staged, metadata))


@contextlib.asynccontextmanager
async def _opened(repository: TestRepository, folder: Path, *, is_job: bool = False) -> AsyncIterator[Backend]:
    spec = GithubSpec(owner=OWNER, repo=repository.name, branch=BRANCH, api_url=repository.github.url)
    secret = repository.token_of("write")
    backend: Backend = open_backend(OpenBackend(spec, RepoName("bench"), folder, secret, is_job))
    try:
        yield backend
    finally:
        await backend.aclose()


_CONTENT = b"content"
_SHA256 = hashlib.sha256(_CONTENT).hexdigest()


def _row(name: str, calls: int, most: float) -> Row:
    target = Target("", most=most + 1)
    return Row(f"GitHub calls: {name}, {RELEASES} releases", "", {"pywharf": float(calls)}, target)


def _seed(repository: TestRepository) -> None:
    """Add releases as a server creates them, but without API calls."""
    for number in range(RELEASES):
        project = f"project-{number % 200}"
        tag = f"project_{number % 200}-{number}.0.tar.gz"
        body = dumps({"distrib": project, "sha256": _SHA256, "upload_time": "2026-01-01T00:00:00Z"})
        release = repository.kept.releases.add({"tag_name": tag, "body": body})
        release.published_at = "2026-01-01T00:00:00Z"
        repository.kept.releases.attach(release.id, tag, _CONTENT)
