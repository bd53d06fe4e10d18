"""The list of a bucket's projects: sorted by name although keys are sorted otherwise."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from pywharf.backends.object_store.client import ObjectClient, Stat, Version
from pywharf.backends.object_store.layout import Layout
from pywharf.backends.object_store.listing import ListedProject, list_projects

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
LAYOUT = Layout("team/")
NAMES = st.lists(
    st.text("ab0-", min_size=1, max_size=6).filter(lambda n: n.strip("-") == n and "--" not in n), unique=True
)


class Bucket:
    """The list of a bucket, in pages of a few keys."""

    def __init__(self, *keys: str) -> None:
        self._stats = [Stat(key, 1, Version(f"tag of {key}"), WHEN) for key in sorted(keys)]

    async def pages(self, folder: str, after: str | None = None) -> AsyncIterator[Sequence[Stat]]:
        stats = [stat for stat in self._stats if stat.key.startswith(f"{folder}/")]
        for start in range(0, len(stats), 3):
            yield stats[start : start + 3]


async def listed(*keys: str) -> list[ListedProject | str]:
    return [one async for one in list_projects(cast("ObjectClient", Bucket(*keys)), LAYOUT)]


@given(NAMES)
async def test_projects_come_sorted_and_once_with_all_their_files(names):
    keys = [f"team/storage/{name}/x-{n}.zip{end}" for name in names for n in range(2) for end in ("", ".meta")]
    found = await listed(*keys, "team/index.json", "team/storage/loose")
    projects = [one for one in found if isinstance(one, ListedProject)]
    assert [project.name for project in projects] == sorted(names)
    for project in projects:
        assert sorted(project.files) == ["x-0.zip", "x-1.zip"]
        assert all(file.record and file.content and file.size == 1 for file in project.files.values())


async def test_folders_that_are_no_projects_are_problems_once():
    found = await listed("team/storage/A.b/x-1.zip", "team/storage/A.b/x-2.zip", "team/storage/-/x-1.zip")
    assert len(found) == 2
    assert any("'A.b' is left out: its files belong into 'a-b'" in str(one) for one in found)


async def test_what_is_no_file_s_object_is_ignored():
    found = await listed(
        *(f"team/storage/a/{name}" for name in ("x-1.zip", "x-1.zip.metadata", ".status.toml", "README", "b/x-1.zip")),
    )
    (project,) = found
    assert isinstance(project, ListedProject)
    assert list(project.files) == ["x-1.zip"]
    assert project.has_status
    assert project.files["x-1.zip"].has_metadata
    assert not project.files["x-1.zip"].record


async def test_a_fingerprint_changes_with_each_object():
    prints = set()
    for ends in (("",), ("", ".meta"), ("", ".metadata"), ("", ".meta", ".metadata"), (".meta",)):
        (project,) = await listed(*(f"team/storage/a/x-1.zip{end}" for end in ends))
        assert isinstance(project, ListedProject)
        prints.add(project.files["x-1.zip"].fingerprint)
    assert len(prints) == 5
