"""Find one release by the name of its file."""

from http import HTTPStatus
from urllib.parse import quote

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.releases import Release, decode_release
from pywharf.core.filenames import extension_of, is_plain


class ReleaseFinder:
    """Asks GitHub for releases of one repository, by their tags."""

    def __init__(self, api: GithubApi, releases: str) -> None:
        self._api = api
        self._releases = releases
        """The path of the releases."""

    async def find(self, filename: str) -> Release | None:
        """Return the release of a file, perhaps a draft; None if there is none."""
        if extension_of(filename) is None or not is_plain(filename):
            return None
        answer = await self._api.get(f"{self._releases}/tags/{quote(filename, safe='')}")
        return decode_release(answer.data) if answer.status == HTTPStatus.OK else None
