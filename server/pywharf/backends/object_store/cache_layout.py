"""The keys of the pull-through cache's objects in its bucket, and what a list of them says. Pure.

Whatever a list must show stands in the keys, so that no object needs to be read for it.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator

import msgspec

from pywharf.backends.object_store.client import Stat
from pywharf.core.errors import InvalidInputError
from pywharf.core.filenames import MAX_FILENAME, is_plain
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import About, KeptFile, Pin

_ABOUT, _USED = ".about", ".used"
_MAX_KEY = 1024
"""Bytes of a key that every store allows."""
_MAX_SOURCE = 180
"""Characters of a source's URL that are kept; encoded, they fit into one folder name of any store."""
_FILE_KEY = re.compile(r"([0-9a-f]{64})(?:|(\.used)|\.about/([^/]+)/([^/]+)/([\w-]*={0,2}))", re.ASCII)
_PIN_KEY = re.compile(r"([^/]+)/([^/]+)/([^/]+)/([0-9a-f]{64})\.([0-9]{1,16})", re.ASCII)


def may_be_kept(filename: str) -> bool:
    """Return whether a key may have a folder of that name. It may be any text."""
    return is_plain(filename) and not filename.startswith(".") and len(filename) <= MAX_FILENAME


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
        return f"{self.files}/{sha256}"

    def used(self, sha256: str) -> str:
        """Return the key of the object that is written when the file is used."""
        return self.file(sha256) + _USED

    def abouts(self, sha256: str) -> str:
        """Return the folder of the objects whose keys say where the file came from."""
        return self.file(sha256) + _ABOUT

    def about(self, sha256: str, about: About) -> str | None:
        """Return the key that says where the file came from; None if that does not fit into one."""
        source = urlsafe_b64encode(about.source[:_MAX_SOURCE].encode("ascii", "replace")).decode()
        key = f"{self.abouts(sha256)}/{about.project}/{about.filename}/{source}"
        return key if may_be_kept(about.filename) and len(key) <= _MAX_KEY else None

    def page(self, key: str) -> str:
        """Return the key of a kept page."""
        return f"{self.pages}/{key}"

    def lock(self, name: str) -> str:
        """Return the key of a lock."""
        return f"{self.locks}/{name}"

    def pins_of(self, repo: RepoName) -> str:
        """Return the folder of one repo's pins."""
        return f"{self.pins}/{repo}"

    def pinned(self, repo: RepoName, project: ProjectName, filename: str) -> str:
        """Return the folder of a file's pin."""
        return f"{self.pins_of(repo)}/{project}/{filename}"

    def pin(self, repo: RepoName, pin: Pin) -> str:
        """Return the key of a pin. Raises InvalidInputError if no store has such a key."""
        key = f"{self.pinned(repo, pin.project, pin.filename)}/{pin.sha256}.{pin.size}"
        if not may_be_kept(pin.filename) or len(key) > _MAX_KEY:
            raise InvalidInputError(f"A file of the name {pin.filename[:240]!r} cannot be pinned in this cache.")
        return key

    def parse_pin(self, stat: Stat) -> tuple[RepoName, Pin] | None:
        """Return what a key in the folder of pins says; None for another's object."""
        matched = _PIN_KEY.fullmatch(stat.key.removeprefix(f"{self.pins}/"))
        if matched is None:
            return None
        repo, project, filename, sha256, size = matched.groups()
        return RepoName(repo), Pin(ProjectName(project), filename, sha256, int(size))

    def parse_files(self, stats: Iterable[Stat]) -> Iterator["ListedFile"]:
        """Return the objects of each file, from a sorted list of any part of the folder."""
        file: ListedFile | None = None
        for stat in stats:
            matched = _FILE_KEY.fullmatch(stat.key.removeprefix(f"{self.files}/"))
            if matched is None:
                continue
            sha256, used, *about = matched.groups()
            if file is None or file.sha256 != sha256:
                if file is not None:
                    yield file
                file = ListedFile(sha256)
            if used is None and about[0] is None:
                file.size = stat.size
            elif used is None:
                file.about = file.about or _about(*about)
            if used is not None or about[0] is not None:
                file.notes.append(stat.key)
            file.last_written = max(file.last_written, stat.modified.timestamp())
        if file is not None:
            yield file


class ListedFile(msgspec.Struct):
    """The objects of one kept file in a list."""

    sha256: str
    size: int | None = None
    """Bytes of the content; None if only notes are there."""
    about: About | None = None
    notes: list[str] = []
    """The keys of the other objects."""
    last_written: float = 0.0
    """Unix seconds when one of the objects was written last, by the store's clock: it is written with each use."""

    def add(self, other: "ListedFile") -> None:
        """Add objects of the same file that came with the next page of a list."""
        self.size = self.size if other.size is None else other.size
        self.about = self.about or other.about
        self.notes += other.notes
        self.last_written = max(self.last_written, other.last_written)

    @property
    def kept(self) -> KeptFile | None:
        """The file, if its content is there."""
        return None if self.size is None else KeptFile(self.sha256, self.size, self.last_written, self.about)


def _about(project: str, filename: str, source: str) -> About | None:
    try:
        return About(ProjectName(project), filename, urlsafe_b64decode(source).decode("ascii", "replace"))
    except ValueError:
        return None
