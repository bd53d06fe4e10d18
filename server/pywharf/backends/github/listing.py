"""The repository's releases: the newest ones by conditional requests, all of them past the number that REST lists."""

import calendar
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from pywharf.backends.github.api import Answer, GithubApi
from pywharf.backends.github.releases import Asset, Release, decode_release
from pywharf.core.errors import BackendUnavailableError

PAGE = 100
_HEAD_PAGES = 10
"""How many are looked at each time, where so many releases are newer than the index."""
_CLOCKS_DIFFER_S = 300
_READINGS = 3
"""How often all are read, where some went meanwhile."""
_LEAST_CAP = 1000
"""The fewest releases after which GitHub has been seen to list no more."""
_COUNT = """
query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) { releases { totalCount } } }
"""
_NAMES = """
query($owner: String!, $name: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    releases(first: 100, after: $after, orderBy: {field: CREATED_AT, direction: ASC}) {
      pageInfo { hasNextPage endCursor }
      nodes {
        databaseId tagName isDraft description publishedAt
        releaseAssets(first: 10) { nodes { name size } }
      }
    }
  }
}
"""

Known = Callable[[Release], Awaitable[Release | None]]
"""Completes a release that GraphQL told of, whose assets lack their address; None where that is not known."""


class _Page(msgspec.Struct, frozen=True):
    etag: str | None
    releases: tuple[Release, ...]
    is_last: bool


class Listing:
    """Releases as REST lists them, a hundred a page, drafts among them where the token may write.

    GitHub orders them by the commit that each names, so those of one commit lie in no order that can be relied on:
    what is newer than the index is told by the time of its publishing alone.
    """

    def __init__(self, api: GithubApi, owner: str, repo: str) -> None:
        self._api = api
        self._names = {"owner": owner, "name": repo}
        self._path = f"/repos/{owner}/{repo}/releases"
        self._pages: dict[int, _Page] = {}

    async def head(self, indexed_until: float) -> tuple[tuple[Release, ...], bool]:
        """Releases among which is every one that was published since then, and whether any of that is new.

        Unix seconds. Costs nothing of the rate limit where nothing has changed.
        """
        found: list[Release] = []
        changed = False
        for number in range(1, _HEAD_PAGES + 1):
            page, is_new = await self._page(number)
            changed = changed or is_new
            found += page.releases
            since = indexed_until - _CLOCKS_DIFFER_S
            if page.is_last or all(_published(release) < since for release in page.releases):
                break
        for beyond in [n for n in self._pages if n > number]:
            del self._pages[beyond]
        return tuple(found), changed

    async def all(self, progress: Callable[[int], None], known: Known) -> list[Release]:
        """Every release once, whatever comes and goes while they are read."""
        found: dict[int, Release] = {}
        for _ in range(_READINGS):
            before, now = await self._count(), await self._all(progress, known)
            for gone in found.keys() - now.keys():
                if (whole := await self._one(gone)) is not None:
                    now[gone] = whole
            is_same, found = found.keys() == now.keys(), now
            # What comes meanwhile is listed first and moves others to a page that is still to be read: they are seen
            # twice. What goes moves others to one that was read: they are seen by another reading. What is counted and
            # never listed is nothing for this token, such as others' drafts.
            if len(found) >= before or is_same:
                return list(found.values())
        raise BackendUnavailableError(
            "GitHub lists fewer releases than there are, time and again; the index stays as it is. Try again later."
        )

    async def _all(self, progress: Callable[[int], None], known: Known) -> dict[int, Release]:
        found: dict[int, Release] = {}
        number = listed = 0
        while True:
            number += 1
            answer = await self._api.get(self._path, _parameters(number))
            if answer.status != 200:  # noqa: PLR2004 - 422: past what REST lists
                self._check(answer, number)
                break
            page = _page_of(answer.headers, answer.data)
            found |= {release.id: release for release in page.releases}
            listed += len(page.releases)
            progress(len(found))
            if page.is_last:
                break
        # A last page that is full may be the last that GitHub lists. Some may have been listed twice.
        if listed >= _LEAST_CAP and listed % PAGE == 0:
            await self._beyond(found, progress, known)
        return found

    async def _count(self) -> int:
        data = await self._api.graphql(_COUNT, self._names)
        return int(data["repository"]["releases"]["totalCount"])

    async def _beyond(self, found: dict[int, Release], progress: Callable[[int], None], known: Known) -> None:
        """Those that REST did not list."""
        total = await self._count()
        after: str | None = None
        while len(found) < total:
            data = await self._api.graphql(_NAMES, {**self._names, "after": after})
            releases = data["repository"]["releases"]
            for release in map(_of_graphql, releases["nodes"]):
                if release.id not in found and (whole := await known(release) or await self._one(release.id)):
                    found[release.id] = whole
            progress(len(found))
            after = releases["pageInfo"]["endCursor"]
            if not releases["pageInfo"]["hasNextPage"]:
                return

    async def _one(self, release: int) -> Release | None:
        answer = await self._api.get(f"{self._path}/{release}")
        return decode_release(answer.data) if answer.status == 200 else None  # noqa: PLR2004 - deleted meanwhile

    async def _page(self, number: int) -> tuple[_Page, bool]:
        """A page as it is now, and whether it is another than it was."""
        before = self._pages.get(number)
        answer = await self._api.get(self._path, _parameters(number), etag=before.etag if before else None)
        if answer.status == 304 and before is not None:  # noqa: PLR2004
            return before, False
        if answer.status != 200:  # noqa: PLR2004 - 422: past what REST lists
            self._check(answer, number)
            return _Page(None, (), is_last=True), before is None
        page = _page_of(answer.headers, answer.data)
        self._pages[number] = page
        return page, before is None or before.releases != page.releases

    def _check(self, answer: Answer, number: int) -> None:
        """Raise BackendUnavailableError, unless the page is one that GitHub does not list any more."""
        if answer.status != 422 or number == 1:  # noqa: PLR2004
            raise BackendUnavailableError(
                f"GitHub shows no repository {self._names['owner']}/{self._names['name']} to the server's token "
                f"(status {answer.status}); check owner, repo and what the token may read."
            )


def _parameters(number: int) -> dict[str, str]:
    return {"per_page": str(PAGE), "page": str(number)}


def _page_of(headers: Mapping[str, str], data: Any) -> _Page:  # noqa: ANN401 - JSON
    try:
        releases = tuple(decode_release(one) for one in data)
    except (msgspec.ValidationError, TypeError) as error:
        raise BackendUnavailableError(f"GitHub's list of releases cannot be read: {error}.") from error
    return _Page(headers.get("etag"), releases, is_last='rel="next"' not in headers.get("link", ""))


def _of_graphql(node: Mapping[str, Any]) -> Release:
    return Release(
        id=int(node["databaseId"]),
        tag_name=str(node["tagName"]),
        body=node.get("description"),
        draft=bool(node.get("isDraft")),
        published_at=node.get("publishedAt"),
        assets=tuple(Asset(str(one["name"]), int(one["size"])) for one in node["releaseAssets"]["nodes"]),
    )


def _published(release: Release) -> float:
    """Unix seconds; of a draft, long ago."""
    if release.draft or release.published_at is None:
        return 0.0
    try:
        return calendar.timegm(time.strptime(release.published_at[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return time.time()
