"""Claims: which name of a distribution counts, so that two spellings of it are never both published.

All names of a distribution share one key. The upload that creates the object there goes on; its content is the name.
"""

import uuid

import msgspec

from pywharf.backends.object_store.client import ObjectClient, ObjectExistsError, ObjectMissingError, Version
from pywharf.backends.object_store.layout import Layout
from pywharf.core.names import ProjectName

CLAIM_S = 3600.0
"""Seconds after which the upload that made a claim is no longer under way."""
_LONGEST = 1024


class Claim(msgspec.Struct, frozen=True):
    """A claim that was made before."""

    filename: str
    version: Version
    made_at: float
    """Unix seconds, by the store's clock."""


class Claims:
    """The claims of one repo."""

    def __init__(self, client: ObjectClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def make(self, project: ProjectName, filename: str) -> Claim | None:
        """Claim the file's distribution for this name. Return the claim that was there before, or None."""
        for _ in range(2):
            try:
                await self._client.create(self._layout.claim(project, filename), _content(filename))
            except ObjectExistsError:
                claim = await self.find(project, filename)
                if claim is not None:
                    return claim
            else:
                return None
        return None  # created and removed twice within this call: somebody empties the bucket

    async def find(self, project: ProjectName, filename: str) -> Claim | None:
        """Return the claim of the file's distribution, by whatever name."""
        try:
            got = await self._client.get(self._layout.claim(project, filename), _LONGEST)
        except ObjectMissingError:
            return None
        name = got.content.decode("utf-8", "replace").partition(" ")[0]
        return Claim(name, got.stat.version, got.stat.modified.timestamp())

    async def replace(self, project: ProjectName, filename: str, old: Claim) -> None:
        """Claim the distribution instead of an old claim. Raises ObjectChangedError."""
        await self._client.replace(self._layout.claim(project, filename), _content(filename), old.version)


def _content(filename: str) -> bytes:
    """Return a claim's content. It is never the same, as some stores' versions are digests of the content."""
    return f"{filename} {uuid.uuid4().hex}".encode()
