"""A folder of manifests that people edit. While an object is broken, its last good version stays in use."""

from pathlib import Path

import msgspec

from pywharf.core.os_errors import reason_of
from pywharf_operator.local.manifests import Manifests, Problem, merge, parse_file, read_folder

_STAYS = "The last good version stays in use."


class WatchedFolder:
    """The reader of a folder that changes. It parses a file only when its content has changed."""

    def __init__(self, path: Path, namespace: str) -> None:
        self._path = path
        self._namespace = namespace
        self._contents: dict[str, bytes | str] = {}
        self._files: dict[str, Manifests] = {}
        self._unreadable: str | None = None
        self._has_polled = False

    def poll(self) -> Manifests | None:
        """Return the contents of the folder; None if nothing has changed since the last call. Blocks."""
        try:
            contents = read_folder(self._path)
            unreadable = None
        except OSError as error:
            contents = self._contents
            unreadable = f"the folder cannot be read ({reason_of(error)}). {_STAYS}"
        if self._has_polled and contents == self._contents and unreadable == self._unreadable:
            return None
        self._files = {name: self._parsed(name, content) for name, content in contents.items()}
        self._contents, self._unreadable, self._has_polled = contents, unreadable, True
        merged = merge(self._files)
        if unreadable is None:
            return merged
        problem = Problem(str(self._path), 0, "", unreadable)
        return msgspec.structs.replace(merged, problems=(problem, *merged.problems))

    def _parsed(self, name: str, content: bytes | str) -> Manifests:
        previous = self._files.get(name, Manifests())
        if name in self._files and self._contents[name] == content:
            return previous
        return with_last_good(previous, parse_file(name, content, self._namespace))


def with_last_good(previous: Manifests, fresh: Manifests) -> Manifests:
    """Return `fresh`, with the objects of `previous` that are broken in it, or may be if a fault names no object."""
    there = {item.identity for item in fresh.loaded}
    broken = {problem.object for problem in fresh.problems}
    kept = tuple(
        item for item in previous.loaded if item.identity not in there and (item.identity in broken or "" in broken)
    )
    if not kept:
        return fresh
    identities = {"", *(item.identity for item in kept)}
    problems = tuple(
        msgspec.structs.replace(problem, sentence=f"{problem.sentence} {_STAYS}")
        if problem.object in identities
        else problem
        for problem in fresh.problems
    )
    return msgspec.structs.replace(fresh, loaded=(*fresh.loaded, *kept), problems=problems)
