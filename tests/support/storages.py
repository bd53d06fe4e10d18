"""Every backend that the contract suite tests. To add a backend, add one entry to STORAGES or ALL."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pywharf.backends.opening import open_backend
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import BackendSpec, FileSystemSpec, GithubSpec, MemorySpec
from pywharf.core.names import RepoName
from pywharf.index.ports import Backend
from support.github import BRANCH, OWNER, Github

REPO = RepoName("team-a")

Open = Callable[[str], Backend]
"""A function that opens a storage with an index file of that name, as another server would."""


@dataclass(frozen=True)
class Kind:
    """A kind of storage. `make` creates an empty one, given a folder for the files on disk."""

    make: Callable[[Path], Open]
    is_shared: bool
    """Whether several backends share the storage and see each other's changes. Otherwise all get the same backend."""


def _file_system(folder: Path) -> Open:
    return lambda index: _opened(FileSystemSpec(index_filename=index), folder)


def _memory(folder: Path) -> Open:
    backend = _opened(MemorySpec(index_filename="index.json"), folder)
    return lambda _index: backend


def _opened(spec: BackendSpec, folder: Path) -> Backend:
    return open_backend(OpenBackend(spec, REPO, folder, secret=None))


STORAGES: Mapping[str, Kind] = {
    "memory": Kind(_memory, is_shared=False),
    "file_system": Kind(_file_system, is_shared=True),
}

GITHUB = "github"
"""The name of GitHub's storage; it needs the fixture of that name."""
ALL = [*STORAGES, GITHUB]
FOLDING = list(STORAGES)
"""Storages with a journal apart from the files; update_index removes the entries that the index holds."""
SHARED = [*(name for name, kind in STORAGES.items() if kind.is_shared), GITHUB]


def github_storage(github: Github, folder: Path) -> Open:
    """Create a repository; returns a function that opens it."""
    repository = github.repository()
    spec: dict[str, Any] = {
        "owner": OWNER,
        "repo": repository.name,
        "branch": BRANCH,
        "api_url": github.url,
        "sync_index_interval": 1,
    }

    def open_(index: str) -> Backend:
        made = GithubSpec(**spec, index_filename=index)
        return open_backend(OpenBackend(made, REPO, folder / os.urandom(4).hex(), repository.token_of("write")))

    return open_
