"""Every backend that the contract suite tests. To add a built-in one, add an entry to STORAGES or ALL.

If the environment names the file of a third party's backend, the suite tests that one instead (docs/backends.md).
"""

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
from support.github.repository import BRANCH, OWNER, Github
from support.object_stores.store import ObjectStore
from support.storage.foreign_backend import ForeignBackend, given_backend

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


def _foreign(described: ForeignBackend) -> Kind:
    def make(folder: Path) -> Open:
        storage = described.new_storage()

        def open_(index: str) -> Backend:
            return open_backend(OpenBackend(described.spec(storage, index), REPO, folder, described.secret()))

        return open_

    return Kind(make, is_shared=described.shared)


STORAGES: Mapping[str, Kind] = {
    "memory": Kind(_memory, is_shared=False),
    "file_system": Kind(_file_system, is_shared=True),
}

GITHUB = "github"
"""The name of GitHub's storage; it needs the fixture of that name."""
OBJECT_STORES = ("s3", "azure", "gcs")
"""The names of the object stores' storages; each needs the fixture of that name."""
GIVEN = given_backend()
"""The backend that is tested instead of the built-in ones, if any."""
MADE: Mapping[str, Kind] = STORAGES if GIVEN is None else {GIVEN.type: _foreign(GIVEN)}
"""The tested storages that need no fixture."""
ALL = [*MADE] if GIVEN is not None else [*MADE, GITHUB, *OBJECT_STORES]
FOLDING = [*(MADE if GIVEN is not None else (*MADE, *OBJECT_STORES))] if GIVEN is None or GIVEN.folding else []
"""Storages with a journal apart from the files; update_index removes the entries that the index holds."""
CLAIMING = [*(MADE if GIVEN is not None else (*MADE, *OBJECT_STORES))] if GIVEN is None or GIVEN.claims else []
"""Storages that keep claims; see the port `Claims`."""
SHARED = [name for name in ALL if name not in MADE or MADE[name].is_shared]


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


def bucket_storage(store: ObjectStore, folder: Path) -> Open:
    """Return a function that opens a new, empty storage in an object store."""
    table = store.table()
    return lambda index: store.open(table | {"index_filename": index}, folder / os.urandom(4).hex())
