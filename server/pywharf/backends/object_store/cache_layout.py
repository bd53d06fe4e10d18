"""The keys of the pull-through cache's objects in its bucket, and what a list of them says. Pure.

    files/<SHA-256>           the kept files
    files/<SHA-256>.about     where each of them came from, as JSON
    files/<SHA-256>.used      written when the file is used: the store dates it
    pages/<key>               the kept pages
    pins/<repo>/<project>/<file>/<SHA-256>.<size>    a pin; the object itself says nothing
    locks/<name>              a lock: its owner and for how long it holds
    staging/<random>          a large file in progress, and what tries the store out or shows its clock

Whatever a list must show stands in keys and dates, so that no object needs to be read for it.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

import msgspec

from pywharf.backends.object_store.client import Stat
from pywharf.core.errors import InvalidInputError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import KeptFile, Pin

_ABOUT, _USED = ".about", ".used"
_MAX_KEY = 1024
"""Bytes of a key that every store allows."""
_MAX_FOLDER = 200
"""Bytes of one folder name, where every store allows some more."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE_KEY = re.compile(r"([0-9a-f]{64})(\.about|\.used)?")
_PIN_KEY = re.compile(r"([^/]+)/([^/]+)/(.+)/([0-9a-f]{64})\.([0-9]{1,16})")


def is_digest(name: str) -> bool:
    """Return whether a name is 64 lower-case hex digits."""
    return _DIGEST.fullmatch(name) is not None


def _digest(name: str) -> str:
    """Return the name. Raises ValueError for what is no digest, and might lead elsewhere."""
    if not is_digest(name):
        raise ValueError(f"{name[:80]!r} is no SHA-256 in lower-case hex")
    return name


class CacheLayout(msgspec.Struct, frozen=True):
    """The keys, all under the cache's prefix, which is empty or ends with '/'."""

    prefix: str

    @property
    def files(self) -> str:
        """The folder of the kept files, each with its notes beside it."""
        return f"{self.prefix}files"

    @property
    def pages(self) -> str:
        """The folder of the kept pages."""
        return f"{self.prefix}pages"

    @property
    def locks(self) -> str:
        """The folder of the locks."""
        return f"{self.prefix}locks"

    @property
    def pins(self) -> str:
        """The folder of all repos' pins."""
        return f"{self.prefix}pins"

    @property
    def staging(self) -> str:
        """The folder of uploads in progress, of what tries the store out, and of what shows its clock."""
        return f"{self.prefix}staging"

    def file(self, sha256: str) -> str:
        """Return the key of a kept file."""
        return f"{self.files}/{_digest(sha256)}"

    def used(self, sha256: str) -> str:
        """Return the key of the object that is written when the file is used."""
        return self.file(sha256) + _USED

    def about(self, sha256: str) -> str:
        """Return the key of the object that says where the file came from."""
        return self.file(sha256) + _ABOUT

    def page(self, key: str) -> str:
        """Return the key of a kept page."""
        return f"{self.pages}/{_digest(key)}"

    def lock(self, name: str) -> str:
        """Return the key of a lock."""
        return f"{self.locks}/{_digest(name)}"

    def pins_of(self, repo: RepoName) -> str:
        """Return the folder of one repo's pins."""
        return f"{self.pins}/{repo}"

    def pinned(self, repo: RepoName, project: ProjectName, filename: str) -> str:
        """Return the folder of a file's pin. The name may be any text."""
        # As in a URL, but with '=', as stores differ about '%'. A name that begins with a dot could lead elsewhere.
        name = quote(filename, safe="+!~").replace("%", "=")
        name = f"=2E{name[1:]}" if name.startswith(".") else name or "="
        parts = [name[start : start + _MAX_FOLDER] for start in range(0, len(name), _MAX_FOLDER)]
        return f"{self.pins_of(repo)}/{project}/{'/'.join(parts)}"

    def pin(self, repo: RepoName, pin: Pin) -> str:
        """Return the key of a pin. Raises InvalidInputError if a store may not have such a key."""
        key = f"{self.pinned(repo, pin.project, pin.filename)}/{pin.sha256}.{pin.size}"
        if len(key) > _MAX_KEY:
            raise InvalidInputError(f"The file {pin.filename[:240]!r} cannot be pinned: its name is too long.")
        return key

    def parse_pin(self, stat: Stat) -> tuple[RepoName, Pin] | None:
        """Return what a key in the folder of pins says; None for another's object."""
        matched = _PIN_KEY.fullmatch(stat.key.removeprefix(f"{self.pins}/"))
        if matched is None:
            return None
        repo, project, name, sha256, size = matched.groups()
        filename = unquote(name.replace("/", "").replace("=", "%")) if name != "=" else ""
        return RepoName(repo), Pin(ProjectName(project), filename, sha256, int(size))

    def parse_files(self, stats: Iterable[Stat]) -> Iterator["ListedFile"]:
        """Return the objects of each file, from a sorted list of any part of the folder."""
        file: ListedFile | None = None
        for stat in stats:
            matched = _FILE_KEY.fullmatch(stat.key.removeprefix(f"{self.files}/"))
            if matched is None:
                continue
            sha256, kind = matched.groups()
            if file is None or file.sha256 != sha256:
                if file is not None:
                    yield file
                file = ListedFile(sha256)
            if kind is None:
                file.size = stat.size
            else:
                file.notes.append(stat.key)
            file.last_written = max(file.last_written, stat.modified.timestamp())
        if file is not None:
            yield file


class ListedFile(msgspec.Struct):
    """The objects of one kept file in a list."""

    sha256: str
    size: int | None = None
    """Bytes of the content; None if only notes are there."""
    notes: list[str] = []
    """The keys of the other objects."""
    last_written: float = 0.0
    """Unix seconds when one of the objects was written last, by the store's clock: one is written with each use."""

    def add(self, other: "ListedFile") -> None:
        """Add objects of the same file that came with the next page of a list."""
        self.size = self.size if other.size is None else other.size
        self.notes += other.notes
        self.last_written = max(self.last_written, other.last_written)

    @property
    def kept(self) -> KeptFile | None:
        """The file, if its content is there."""
        return None if self.size is None else KeptFile(self.sha256, self.size, self.last_written)
