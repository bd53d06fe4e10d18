"""The paths of an archive's members: no duplicates, none outside the archive's folder, none through a link."""

import enum
import hashlib

from pywharf.core.errors import InvalidDistributionError

MAX_PATH = 1024
"""Maximum characters of a member's path, and of a link's target."""
_MAX_LINKS = 10_000
_MAX_LINK_STEPS = 1_000_000
"""Maximum number of path parts that are followed to resolve all links."""
_MAX_HOPS = 255
"""Maximum number of links on one path; every system gives up at this number or earlier."""
_SHOWN_TOPS = 5


class MemberKind(enum.Enum):
    """The kind of an archive's member."""

    FOLDER = "folder"
    FILE = "file"
    LINK = "link"


class MemberTree:
    """The paths of an archive that were added so far. Each costs 16 bytes and a dict entry, however long it is."""

    def __init__(self, shown: str, max_members: int) -> None:
        self._shown = shown
        self._max_members = max_members
        self._kinds: dict[bytes, MemberKind] = {}
        self._links: dict[str, str] = {}
        self.tops: set[str] = set()
        """The first parts of the paths; only a few of them if there are many."""
        self.files_at_top: set[str] = set()
        """Files outside any folder; only a few of them if there are many."""

    def add(self, path: str, kind: MemberKind, target: str = "") -> str:
        """Add a member, and return its path without `.` parts. Raises InvalidDistributionError.

        `target` is where a symbolic link leads. A folder may be added again, as archives list folders that they imply.
        """
        check_path(path, self._shown)
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if not parts:
            return ""
        plain = "/".join(parts)
        self._add_parents(parts, plain)
        key = _key(plain)
        before = self._kinds.get(key)
        if before is not None and (before, kind) != (MemberKind.FOLDER, MemberKind.FOLDER):
            what = "twice" if before is kind else f"as a {before.value} and as a {kind.value}"
            raise InvalidDistributionError(f"{self._shown!r} holds {plain[:200]!r} {what}.")
        self._note(key, kind)
        if len(self.tops) <= _SHOWN_TOPS:
            self.tops.add(parts[0])
        if len(parts) == 1 and kind is not MemberKind.FOLDER and len(self.files_at_top) <= _SHOWN_TOPS:
            self.files_at_top.add(plain)
        if kind is MemberKind.LINK:
            self._add_link(plain, target)
        return plain

    def is_file(self, path: str) -> bool:
        """Return whether a file with that path, without `.` parts, was added."""
        return self._kinds.get(_key(path)) is MemberKind.FILE

    def has(self, path: str) -> bool:
        """Return whether anything with that path, without `.` parts, was added."""
        return _key(path) in self._kinds

    def check_links(self) -> None:
        """Follow each link, also through other links. Raises InvalidDistributionError for one that leads outside."""
        budget = _MAX_LINK_STEPS
        top = 1 if len(self.tops) == 1 else 0
        for link in self._links:
            budget = self._follow(link, top, budget)

    def _add_parents(self, parts: list[str], plain: str) -> None:
        end = len(plain)
        missing: list[bytes] = []
        for part in reversed(parts[1:]):
            end -= len(part) + 1
            key = _key(plain[:end])
            kind = self._kinds.get(key)
            if kind is MemberKind.FOLDER:
                break
            if kind is not None:
                raise InvalidDistributionError(
                    f"{self._shown!r} holds {plain[:200]!r} below {plain[:end][:200]!r}, which is a {kind.value}."
                )
            missing.append(key)
        for key in missing:
            self._note(key, MemberKind.FOLDER)

    def _note(self, key: bytes, kind: MemberKind) -> None:
        self._kinds[key] = kind
        # The implied folders may be as many again as the members.
        if len(self._kinds) > 2 * self._max_members:
            raise InvalidDistributionError(f"{self._shown!r} has more than {2 * self._max_members} files and folders.")

    def _add_link(self, plain: str, target: str) -> None:
        if len(target) > MAX_PATH or target.startswith("/") or "\\" in target or "\0" in target or not target:
            raise _leads_out(plain, self._shown)
        if len(self._links) == _MAX_LINKS:
            raise InvalidDistributionError(f"{self._shown!r} holds more than {_MAX_LINKS} links.")
        self._links[plain] = target

    def _follow(self, link: str, top: int, budget: int) -> int:
        at = link.split("/")[:-1]
        top = min(top, len(at))
        pending = self._links[link].split("/")[::-1]
        hops = 0
        while pending and hops < _MAX_HOPS:
            part = pending.pop()
            budget -= 1
            if budget < 0:
                raise InvalidDistributionError(
                    f"{self._shown!r} holds links that take more than {_MAX_LINK_STEPS} steps to follow."
                )
            if part in {"", "."}:
                continue
            if part == "..":
                if len(at) <= top:
                    raise _leads_out(link, self._shown)
                at.pop()
                continue
            at.append(part)
            inner = self._links.get("/".join(at))
            if inner is not None:
                hops += 1
                at.pop()
                pending.extend(inner.split("/")[::-1])
        return budget


def check_path(path: str, shown: str) -> None:
    """Raise InvalidDistributionError for a path that is too long or leads outside the archive's folder."""
    if len(path) > MAX_PATH:
        raise InvalidDistributionError(
            f"{shown!r} holds the path {path[:100]!r}…, which is over {MAX_PATH} characters."
        )
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or ".." in parts or ":" in parts[0]:
        raise InvalidDistributionError(
            f"{shown!r} holds the path {path[:200]!r}, which would be unpacked outside its folder."
        )


def _leads_out(link: str, shown: str) -> InvalidDistributionError:
    return InvalidDistributionError(f"{shown!r} holds the link {link[:200]!r}, which points outside its folder.")


def _key(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).digest()
