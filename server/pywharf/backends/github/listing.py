"""List a repository's releases: the newest by conditional requests, or all, including those that REST omits."""

import calendar
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from pywharf.backends.github.answer import Answer
from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.refusals import Step, refusal
from pywharf.backends.github.releases import Asset, Release, decode_release
from pywharf.core.errors import BackendUnavailableError

PAGE = 100
_HEAD_PAGES = 10
"""Most pages read by one probe, if that many releases are newer than the index."""
_CLOCKS_DIFFER_S = 300
_READINGS = 3
"""Most times that all releases are read, if some disappear meanwhile."""
_LEAST_CAP = 1000
"""The fewest releases after which GitHub was seen to list no further ones."""
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
"""Completes a release from GraphQL, whose assets lack their address. Returns None if the address is unknown."""


class _Page(msgspec.Struct, frozen=True):
    etag: str | None
    releases: tuple[Release, ...]
    is_last: bool


class Listing:
    """Releases as REST lists them: a hundred a page, including drafts if the token may write.

    GitHub orders releases by the commit that each one names, so the order of those with the same commit is unreliable.
    Only the time of publishing shows whether a release is newer than the index.
    """

    def __init__(self, api: GithubApi, owner: str, repo: str) -> None:
        self._api = api
        self._names = {"owner": owner, "name": repo}
        self._path = f"/repos/{owner}/{repo}/releases"
        self._pages: dict[int, _Page] = {}

    async def head(self, indexed_until: float) -> tuple[tuple[Release, ...], bool]:
        """Return the newest releases, and whether any page of them has changed.

        They include all releases published since `indexed_until` (Unix seconds). If nothing has changed, this does not
        count against the rate limit.
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
            changed = True  # its releases are in the index by now, and may have been changed since
        return tuple(found), changed

    async def all(self, progress: Callable[[int], None], known: Known) -> list[Release]:
        """Return every release once, even if releases appear or disappear while they are read."""
        found: dict[int, Release] = {}
        for _ in range(_READINGS):
            before, now = await self._count(), await self._all(progress, known)
            for gone in found.keys() - now.keys():
                if (whole := await self._one(gone)) is not None:
                    now[gone] = whole
            is_same, found = found.keys() == now.keys(), now
            # A release that appears meanwhile is listed first and moves others to a page not yet read: they are seen
            # twice. One that disappears moves others to a page already read: the next reading sees them. Releases that
            # are counted but never listed are hidden from this token, such as others' drafts.
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
            if answer.status != HTTPStatus.OK:  # 422: past what REST lists
                self._check(answer, number)
                break
            page = _page_of(answer.headers, answer.data)
            found |= {release.id: release for release in page.releases}
            listed += len(page.releases)
            progress(len(found))
            if page.is_last:
                break
        # A full last page may be where GitHub stops listing. `listed` counts releases that were listed twice, too.
        if listed >= _LEAST_CAP and listed % PAGE == 0:
            await self._beyond(found, progress, known)
        return found

    async def _count(self) -> int:
        data = await self._api.graphql(_COUNT, self._names)
        return int(data["repository"]["releases"]["totalCount"])

    async def _beyond(self, found: dict[int, Release], progress: Callable[[int], None], known: Known) -> None:
        """Add the releases that REST did not list."""
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
        return decode_release(answer.data) if answer.status == HTTPStatus.OK else None  # deleted meanwhile

    async def _page(self, number: int) -> tuple[_Page, bool]:
        """Return the current page, and whether it has changed."""
        before = self._pages.get(number)
        answer = await self._api.get(self._path, _parameters(number), etag=before.etag if before else None)
        if answer.status == HTTPStatus.NOT_MODIFIED and before is not None:
            return before, False
        if answer.status != HTTPStatus.OK:  # 422: past what REST lists
            self._check(answer, number)
            return _Page(None, (), is_last=True), before is None
        page = _page_of(answer.headers, answer.data)
        self._pages[number] = page
        return page, before is None or before.releases != page.releases

    def _check(self, answer: Answer, number: int) -> None:
        """Raise BackendUnavailableError, unless the page is past the last one that GitHub lists."""
        if answer.status != HTTPStatus.UNPROCESSABLE_ENTITY or number == 1:
            repository = f"{self._names['owner']}/{self._names['name']}"
            raise refusal(Step.LIST_RELEASES, answer, repository=repository)


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
    """Return the time of publishing in Unix seconds; 0 for a draft, so that it counts as old."""
    if release.draft or release.published_at is None:
        return 0.0
    try:
        return calendar.timegm(time.strptime(release.published_at[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return time.time()
