"""GitHub's store of one repository's releases: drafts, unique tags, assets with their bytes. Pure.

It follows the documentation of GitHub's REST API and adds what the emulator from npm lacks.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from support.cluster.kube_client import Json


class Refused(Exception):  # noqa: N818 - an answer, which is no error of the test
    """An error response with this status."""

    def __init__(self, status: int, message: str, *codes: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        if codes:
            self.body["errors"] = [{"resource": "Release", "code": code, "field": "tag_name"} for code in codes]


@dataclass
class Stored:
    """An asset of a release."""

    id: int
    name: str
    content: bytes
    state: str = "uploaded"

    def shown(self, releases: str) -> Json:
        return {
            "url": f"{releases}/assets/{self.id}",
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "size": len(self.content),
            "digest": f"sha256:{hashlib.sha256(self.content).hexdigest()}",
            "content_type": "application/octet-stream",
        }


@dataclass
class Kept:
    """A release."""

    id: int
    tag: str
    body: str
    draft: bool
    name: str
    committed_at: str
    """Time of the release's commit. GitHub calls it `created_at` and sorts by it."""
    published_at: str | None = None
    assets: dict[int, Stored] = field(default_factory=dict)

    def shown(self, releases: str) -> Json:
        return {
            "url": f"{releases}/{self.id}",
            "upload_url": f"{releases}/{self.id}/assets{{?name,label}}",
            "id": self.id,
            "tag_name": self.tag,
            "name": self.name,
            "body": self.body,
            "draft": self.draft,
            "prerelease": False,
            "created_at": self.committed_at,
            "published_at": self.published_at,
            "assets": [asset.shown(releases) for asset in self.assets.values()],
        }


class Releases:
    """The releases of one repository."""

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self._numbers = numbers or itertools.count(1)
        self.all: dict[int, Kept] = {}
        self.committed_at = "2026-01-01T00:00:00Z"
        """Time of the branch's last commit."""

    def add(self, given: Json) -> Kept:
        tag = str(given["tag_name"])
        if not given.get("draft"):
            self._claim(tag)
        made = Kept(
            next(self._numbers),
            tag,
            str(given.get("body") or ""),
            bool(given.get("draft")),
            str(given.get("name") or ""),
            self.committed_at,
            None if given.get("draft") else _now(),
        )
        self.all[made.id] = made
        return made

    def change(self, number: int, given: Json) -> Kept:
        found = self.one(number)
        tag = str(given.get("tag_name", found.tag))
        publishes = found.draft and given.get("draft") is False
        if publishes or (tag != found.tag and not found.draft):
            self._claim(tag)
        found.tag, found.body = tag, str(given.get("body", found.body))
        if publishes:
            found.draft, found.published_at, found.committed_at = False, _now(), self.committed_at
        return found

    def _claim(self, tag: str) -> None:
        if self.by_tag(tag) is not None:
            raise Refused(422, "Validation Failed", "already_exists")

    def one(self, number: int) -> Kept:
        found = self.all.get(number)
        if found is None:
            raise Refused(404, "Not Found")
        return found

    def by_tag(self, tag: str) -> Kept | None:
        """Return the published release with this tag; a draft has no tag yet."""
        return next((one for one in self.all.values() if one.tag == tag and not one.draft), None)

    def attach(self, number: int, name: str, content: bytes, state: str = "uploaded") -> Stored:
        release = self.one(number)
        if any(asset.name == name for asset in release.assets.values()):
            raise Refused(422, "Validation Failed", "already_exists")
        made = Stored(next(self._numbers), name, content, state)
        release.assets[made.id] = made
        return made

    def asset(self, number: int) -> Stored:
        found = next((r.assets[number] for r in self.all.values() if number in r.assets), None)
        if found is None:
            raise Refused(404, "Not Found")
        return found

    def detach(self, number: int) -> None:
        for release in self.all.values():
            release.assets.pop(number, None)

    def listed(self, *, with_drafts: bool) -> list[Kept]:
        """Return the releases by time of their commits, newest first; those of one commit in arbitrary order."""
        shown = [one for one in self.all.values() if with_drafts or not one.draft]
        return sorted(
            shown, key=lambda one: (one.committed_at, hashlib.sha256(one.tag.encode()).digest()), reverse=True
        )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
