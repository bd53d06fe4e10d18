"""update_index on any storage: what it writes, when it writes nothing, and how it handles concurrent writers."""

import msgspec
import pytest

from pywharf.core.errors import FileExistsInRepoError, IndexConflictError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.index.codecs import Index, decode_index
from pywharf.index.ports import Backend, StoredIndex
from pywharf.index.update import Summary, update_index
from support.distributions.wheels import sdist, wheel
from support.storage.storages import FOLDING, SHARED
from support.storage.uploads import journal, publish


async def update(backend: Backend, index_name: str = "index.json") -> Summary:
    return await update_index(backend, backend_type="test", index_name=index_name, progress=lambda _n, _what: None)


async def index_of(backend: Backend) -> tuple[StoredIndex, Index]:
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex), stored
    return stored, decode_index(stored.content, stored.filename)


async def test_an_empty_storage_has_an_empty_index(backend):
    assert await update(backend) == Summary(projects=0, files=0, bytes=0, changed=True)
    _, index = await index_of(backend)
    assert list(index) == []
    assert index.mtime > 1_700_000_000
    assert (await update(backend)).changed is False


async def test_everything_published_is_in_the_index_and_no_longer_in_the_journal(backend, other, made, folds):
    paths = [wheel(made, "foo"), sdist(made, "foo"), wheel(made, "bar")]
    files = [await publish(backend, path) for path in paths]
    summary = await update(other)
    size = sum(path.stat().st_size for path in paths)
    assert summary == Summary(projects=2, files=3, bytes=size, changed=True)
    _, index = await index_of(backend)
    assert index.project(ProjectName("foo")) == Project(name=ProjectName("foo"), files=(files[0], files[1]))
    assert index.project(ProjectName("bar")) == Project(name=ProjectName("bar"), files=(files[2],))
    assert await journal(backend) == ({} if folds else {file.filename: file for file in files})


async def test_a_refused_upload_changes_no_count(backend, other, made, tmp_path):
    """An empty index is there, so what its scan noted is of no use for the next one."""
    await update(backend)
    (tmp_path / "again").mkdir()
    path, changed = wheel(made, "foo"), wheel(tmp_path / "again", "foo", payload=b"other bytes")
    file = await publish(backend, path)
    with pytest.raises(FileExistsInRepoError):
        await publish(other, changed)
    for one, is_new in ((other, True), (backend, False)):
        size = path.stat().st_size
        assert await update(one) == Summary(projects=1, files=1, bytes=size, changed=is_new)
        _, index = await index_of(one)
        assert index.project(ProjectName("foo")) == Project(name=ProjectName("foo"), files=(file,))


async def test_a_run_that_finds_nothing_new_writes_nothing(backend, other, made):
    await publish(backend, wheel(made, "foo"))
    first = await update(backend)
    before = await backend.read_index()
    again = await update(other)
    assert again == msgspec.structs.replace(first, changed=False)
    assert await backend.read_index() == before


@pytest.mark.parametrize("opened", FOLDING, indirect=True)
async def test_a_run_that_finds_nothing_new_folds_the_journal_all_the_same(backend, made):
    """The case: a scan saw a file before the file's journal entry existed."""
    await publish(backend, wheel(made, "foo"))
    late = (await backend.read_journal()).entries

    class Late:
        """A storage whose journal seems empty at first."""

        def __getattr__(self, name: str) -> object:
            return getattr(backend, name)

        async def read_journal(self, cursor: str | None = None) -> object:
            read = await backend.read_journal(cursor)
            return msgspec.structs.replace(read, entries=(), cursor=empty.cursor)

        async def fold_journal(self, cursor: str) -> None:
            assert cursor == empty.cursor

    empty = msgspec.structs.replace(await backend.read_journal(), cursor="none:0")
    assert (await update(Late())).changed  # type: ignore[arg-type]
    assert (await backend.read_journal()).entries == late
    assert (await update(backend)).changed is False
    assert await journal(backend) == {}


class Overtaken:
    """A storage on which another writer replaces the index immediately before each of the first writes."""

    def __init__(self, backend: Backend, times: int) -> None:
        self._backend = backend
        self._left = times
        self.writes = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        self.writes += 1
        if self._left:
            self._left -= 1
            current = await self._backend.read_index()
            version = current.version if isinstance(current, StoredIndex) else None
            await self._backend.write_index(b"another's %d" % self._left, expected=version)
        return str(await self._backend.write_index(content, expected=expected))


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_run_that_another_overtook_reads_again(backend, made, times):
    await publish(backend, wheel(made, "foo"))
    overtaken = Overtaken(backend, times)
    assert (await update(overtaken)).changed  # type: ignore[arg-type]
    assert overtaken.writes == times + 1
    _, index = await index_of(backend)
    assert list(index) == ["foo"]


async def test_a_run_that_is_always_overtaken_gives_up_and_folds_nothing(backend, made):
    file = await publish(backend, wheel(made, "foo"))
    with pytest.raises(IndexConflictError):
        await update(Overtaken(backend, 100))  # type: ignore[arg-type]
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex)
    assert stored.content.startswith(b"another's")
    assert await journal(backend) == {file.filename: file}


async def test_what_is_published_during_a_run_stays_in_the_journal_or_is_in_the_index(backend, other, made, folds):
    await publish(backend, wheel(made, "foo"))

    class Busy:
        """A storage to which somebody publishes between the scan and the write."""

        def __getattr__(self, name: str) -> object:
            return getattr(backend, name)

        async def write_index(self, content: bytes, *, expected: str | None) -> str:
            await publish(other, wheel(made, "late"))
            return str(await backend.write_index(content, expected=expected))

    await update(Busy())  # type: ignore[arg-type]
    _, index = await index_of(backend)
    assert list(index) == ["foo"]
    left = ["late-1.0-py3-none-any.whl"] if folds else ["foo-1.0-py3-none-any.whl", "late-1.0-py3-none-any.whl"]
    assert sorted(await journal(backend)) == left


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b'{"format":9,"mtime":1,"projects":{}}', b"[" * 100_000])
async def test_a_broken_index_is_replaced(backend, made, content):
    await backend.write_index(content, expected=None)
    await publish(backend, wheel(made, "foo"))
    assert (await update(backend)).changed
    _, index = await index_of(backend)
    assert list(index) == ["foo"]


@pytest.mark.parametrize("opened", SHARED, indirect=True)
@pytest.mark.parametrize(("before", "after"), [("index.toml", "index.json"), ("index.json", "index.toml")])
async def test_changing_the_codec(opened, made, before, after):
    await publish(opened(before), wheel(made, "foo"))
    await update(opened(before), before)
    _, old = await index_of(opened(before))
    assert (await update(opened(after), after)).changed
    for name in (before, after):
        stored, index = await index_of(opened(name))
        assert stored.filename == after
        assert index.project(ProjectName("foo")) == old.project(ProjectName("foo"))
    assert (await update(opened(after), after)).changed is False
