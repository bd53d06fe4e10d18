"""The room on disk that uploads share while they are received: bounded, and never all of it for one repo."""

from collections import Counter

from pywharf.core.errors import BusyError, TooLargeError


class StagingRoom:
    """The bytes that all uploads under way may take. A repo gets more only while it holds less than is free.

    So one repo alone has at most half of them.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._taken: Counter[str] = Counter()

    def share_of(self, repo: str) -> "StagingShare":
        """Return the share of one upload of the repo; it holds nothing yet."""
        return StagingShare(self, repo)

    def take(self, repo: str, count: int, held: int = 0) -> None:
        """Take bytes for an upload that holds `held`.

        Raises BusyError if there are none for this repo now, TooLargeError if there are never as many.
        """
        if self._most_bytes is None:
            return
        if held + count > self._most_bytes // 2:
            raise TooLargeError(
                f"The file is over {self._most_bytes // 2} bytes, and the server has no room to receive a larger one; "
                "have its --max_staged_bytes raised (spec.staging.sizeLimit of the PackageServer)."
            )
        if self._taken[repo] + count > self._most_bytes - self._taken.total() - count:
            raise BusyError(
                f"Uploads under way take {self._taken.total()} of the {self._most_bytes} bytes that the server keeps "
                f"for them, {self._taken[repo]} of them yours; try again when they are done."
            )
        self._taken[repo] += count

    def give_back(self, repo: str, count: int) -> None:
        """Give bytes back that were taken."""
        self._taken[repo] -= count
        if not self._taken[repo]:
            del self._taken[repo]


class StagingShare:
    """The bytes that one upload holds."""

    def __init__(self, room: StagingRoom, repo: str) -> None:
        self._room = room
        self._repo = repo
        self._held = 0

    def take(self, count: int) -> None:
        """Take bytes. Raises BusyError, TooLargeError."""
        self._room.take(self._repo, count, self._held)
        self._held += count

    def close(self) -> None:
        """Give all bytes back."""
        self._room.give_back(self._repo, self._held)
        self._held = 0
