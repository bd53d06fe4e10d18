"""Repos in a bucket: what breaks on the way, what lies in the bucket, and what a store must keep."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pywharf.backends.object_store import publishing, scanning
from pywharf.backends.object_store.backend import ObjectStoreBackend
from pywharf.backends.object_store.client import ObjectMissingError
from pywharf.backends.object_store.journal import BucketJournal
from pywharf.backends.object_store.stores import cloud_variables
from pywharf.backends.opening import open_backend
from pywharf.backends.registration import OpenBackend
from pywharf.config.object_stores import S3Spec
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    InvalidConfigError,
    NotFoundError,
    PreconditionsIgnoredError,
)
from pywharf.core.model import Deletion, File, ProjectStatus
from pywharf.core.names import ProjectName, RepoName
from pywharf.egress.policy import Egress
from pywharf.index.ports import Backend, Change, Delete, JournalEntry, SetStatus, SetYanked, StoredIndex, Upload
from pywharf.index.update import update_index
from support.certificates import certificates
from support.distributions.wheels import wheel
from support.object_stores.fault_proxy import FaultProxy, StoreFault, fault_proxy
from support.object_stores.store import ObjectStore
from support.object_stores.versitygw import running_s3
from support.storage.storages import OBJECT_STORES, Open, bucket_storage
from support.storage.uploads import content, file_of, publish, scanned
from support.waiting import stretched

FOO = ProjectName("foo")


@pytest.fixture(params=OBJECT_STORES)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open a new storage in each store."""
    return bucket_storage(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture
def proxy(s3: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def behind(s3: ObjectStore, proxy: FaultProxy, tmp_path: Path) -> Callable[[], Backend]:
    """Return a function that opens one storage through the proxy."""
    table = s3.table(endpoint=proxy.url, download="stream")
    return lambda: s3.open(table, tmp_path)


async def entries(backend: Backend) -> list[JournalEntry]:
    return list((await backend.read_journal()).entries)


async def indexed(backend: Backend) -> tuple[StoredIndex, tuple[str, ...]]:
    summary = await update_index(backend, backend_type="s3", index_name="index.json", progress=lambda _n, _what: None)
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex)
    return stored, summary.problems


# Changing what is published.


async def test_a_file_is_yanked_and_unyanked(opened, made):
    one, other = opened("index.json"), opened("index.json")
    file = await publish(one, wheel(made, "foo"))
    for reason, revision in (("broken", 1), ("", 2), (None, 3)):
        changed = await other.change(Change(FOO, SetYanked(file.filename, reason)))
        expected = msgspec.structs.replace(file, yanked=reason, revision=revision)
        assert changed == JournalEntry(FOO, file=expected)
        assert await one.change(Change(FOO, SetYanked(file.filename, reason))) == changed
        found = await one.find_project(FOO)
        assert found is not None
        assert found.files == (expected,)
        assert (await entries(one))[-1] == changed
        assert len(await entries(one)) == 1 + revision
        assert (await scanned(one))[0][0].files == (expected,)


async def test_concurrent_changes_of_one_file_happen_one_after_the_other(opened, made):
    backends = [opened("index.json"), opened("index.json")]
    file = await publish(backends[0], wheel(made, "foo"))
    changes = [backends[n % 2].change(Change(FOO, SetYanked(file.filename, f"{n}"))) for n in range(8)]
    made_ = await asyncio.gather(*changes)
    assert sorted(entry.file.revision for entry in made_ if entry.file is not None) == list(range(1, 9))
    assert [entry.file.revision for entry in await entries(backends[0]) if entry.file is not None] == list(range(9))


async def test_a_deleted_name_stays_taken_until_it_is_freed(opened, made, tmp_path):
    one, other = opened("index.json"), opened("index.json")
    path = wheel(made, "foo")
    file = await publish(one, path)
    deleted = await other.change(Change(FOO, Delete(file.filename)))
    assert deleted == JournalEntry(FOO, deletion=Deletion(file.filename, 1))
    assert await other.change(Change(FOO, Delete(file.filename))) == deleted
    for backend in (one, other):
        found = await backend.find_project(FOO)
        assert found is not None
        assert found.files == ()
        with pytest.raises(NotFoundError):
            await content(backend, FOO, file)
        with pytest.raises(NotFoundError):
            await backend.read_metadata(FOO, file)
        with pytest.raises(NotFoundError):
            await backend.change(Change(FOO, SetYanked(file.filename, "late")))
        with pytest.raises(FileExistsInRepoError, match="was deleted, and its name stays taken"):
            await publish(backend, path)
        scan = [one async for one in backend.scan(lambda _n, _what: None)]
        assert [(s.project and s.project.name, s.deleted) for s in scan] == [("foo", (file.filename,))]
    assert await one.change(Change(FOO, Delete(file.filename, frees_name=True))) == deleted
    again = wheel(tmp_path, "foo", payload=b"other bytes")
    project, record, metadata = file_of(again)
    del metadata
    stored = await other.publish(_upload(other, again))
    assert stored == msgspec.structs.replace(record, revision=2)
    assert await content(one, project, stored) == again.read_bytes()
    assert [e.file or e.deletion for e in await entries(one)][-1] == stored


def _upload(backend: Backend, path: Path) -> Upload:
    project, file, metadata = file_of(path)
    staged = backend.staging_folder / path.name
    shutil.copy(path, staged)
    return Upload(project, file, staged, metadata)


async def test_a_project_s_status(opened, made):
    one, other = opened("index.json"), opened("index.json")
    with pytest.raises(NotFoundError):
        await one.change(Change(FOO, SetStatus("archived")))
    await publish(one, wheel(made, "foo"))
    for revision, (status, reason) in enumerate([("archived", "old"), ("quarantined", None), ("active", None)], 1):
        changed = await other.change(Change(FOO, SetStatus(status, reason)))
        assert changed == JournalEntry(FOO, status=ProjectStatus(status, reason, revision))
        found = await one.find_project(FOO)
        assert found is not None
        assert (found.status, found.status_reason, found.status_revision) == (status, reason, revision)
        assert (await scanned(one))[0] == [found]


@pytest.mark.parametrize("action", [SetYanked("foo-9-py3-none-any.whl", ""), Delete("foo-9-py3-none-any.whl")])
@pytest.mark.parametrize("filename", ["foo-9-py3-none-any.whl", "../x", "", "a/b.whl"])
async def test_what_is_not_there_cannot_be_changed(opened, made, action, filename):
    backend = opened("index.json")
    await publish(backend, wheel(made, "foo"))
    with pytest.raises(NotFoundError):
        await backend.change(Change(FOO, msgspec.structs.replace(action, filename=filename)))


# Faults.


@pytest.mark.parametrize("key", ["/claims/", r"\.whl$", r"\.metadata$", r"\.meta$", "/journal/"])
@pytest.mark.parametrize("do", ["lost", "cut", 500, 503])
async def test_a_fault_of_a_moment_costs_nothing(behind, proxy, made, key, do):
    backend, path = behind(), wheel(made, "foo")
    await backend.read_journal()
    proxy.faults = [StoreFault("PUT", key, do)]
    file = await publish(backend, path)
    assert proxy.faults[0].times == 0
    assert [e.file for e in await entries(backend)] == [file]
    assert await content(backend, FOO, file) == path.read_bytes()
    assert (await scanned(backend))[1] == []


@pytest.mark.parametrize("key", ["/claims/", r"\.whl$", r"\.metadata$", r"\.meta$", "/journal/"])
@pytest.mark.parametrize("do", ["lost", 503])
async def test_what_an_upload_left_out_is_completed_by_the_same_one_again(behind, proxy, made, tmp_path, key, do):
    backend, path = behind(), wheel(made, "foo")
    await backend.read_journal()
    proxy.faults = [StoreFault("PUT", key, do, times=3)]
    with pytest.raises(BackendUnavailableError) as raised:
        await publish(backend, path)
    if do == 503:
        assert "asks for fewer requests (SlowDown)" in str(raised.value)
        assert raised.value.retry_after_s >= 5
    found = await behind().find_project(FOO)
    is_recorded = "journal" in key or (do == "lost" and key == r"\.meta$")
    assert ([f.filename for f in found.files] if found is not None else []) == [path.name] * is_recorded
    file = await publish(behind(), path)
    assert [e.file for e in await entries(backend)] == [file]
    assert await content(backend, FOO, file) == path.read_bytes()
    with pytest.raises(FileExistsInRepoError):
        await publish(backend, wheel(tmp_path, "foo", payload=b"other"))


async def test_a_large_file_goes_in_parts_and_leaves_nothing_behind(behind, proxy, made):
    backend, path = behind(), wheel(made, "foo", payload=bytes(range(256)) * 90_000)
    await backend.read_journal()
    proxy.faults = [StoreFault("PUT", "partNumber=2", "cut", times=3)]
    with pytest.raises(BackendUnavailableError):
        await publish(backend, path)
    assert await backend.find_project(FOO) is None
    proxy.faults = [StoreFault("POST", r"\.whl\?uploadId", "lost")]
    file = await publish(backend, path)
    assert await content(backend, FOO, file) == path.read_bytes()
    assert await content(backend, FOO, file, 8_000_000, 8_500_000) == path.read_bytes()[8_000_000:8_500_001]
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - what lies in the bucket
    assert [stat.key async for page in parts.client.pages(parts.layout.staging) for stat in page] == []


@pytest.mark.parametrize("do", ["cut", 500, 503, 403])
async def test_reading_says_what_is_wrong_and_recovers_by_itself(behind, proxy, made, do):
    backend = behind()
    file = await publish(backend, wheel(made, "foo"))
    proxy.faults = [StoreFault("GET|HEAD", ".", do, times=1000)]
    calls = (backend.read_journal, backend.read_index, lambda: backend.find_project(FOO))
    for call in (*calls, lambda: backend.open_file(FOO, file), lambda: backend.read_metadata(FOO, file)):
        with pytest.raises(BackendUnavailableError, match="store of the bucket 'packages'"):
            await call()
    proxy.faults = []
    assert [e.file for e in await entries(backend)] == [file]


async def test_a_store_that_hangs_is_given_up(behind, proxy, made):
    backend = behind()
    await backend.read_journal()
    proxy.faults = [StoreFault("GET", "list-type", "hang", times=9)]
    began = asyncio.get_running_loop().time()
    with pytest.raises(BackendUnavailableError, match="did not answer"):
        await backend.read_journal()
    assert asyncio.get_running_loop().time() - began < stretched(20)


async def test_a_body_that_ends_early_is_not_taken_for_the_whole(behind, proxy, made):
    backend = behind()
    path = wheel(made, "foo", payload=bytes(1_000_000))
    file = await publish(backend, path)
    proxy.faults = [StoreFault("GET", r"\.whl$", "half", times=9)]
    with pytest.raises(BackendUnavailableError):
        await content(backend, FOO, file)


# What lies in the bucket.


async def test_a_bucket_emptied_by_hand(opened, made):
    backend = opened("index.json")
    path = wheel(made, "foo")
    await publish(backend, path)
    cursor = (await backend.read_journal()).cursor
    await indexed(backend)
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    prefix = parts.layout.prefix.rstrip("/")
    await parts.client.delete([stat.key async for page in parts.client.pages(prefix) for stat in page])
    read = await backend.read_journal(cursor)
    assert (read.entries, read.restarted) == ((), True)
    assert await backend.read_index() is None
    assert await backend.find_project(FOO) is None
    file = await publish(backend, path)
    assert await content(backend, FOO, file) == path.read_bytes()


async def test_a_record_without_its_object_is_a_problem_and_publishing_again_mends_it(opened, made):
    backend, path = opened("index.json"), wheel(made, "foo")
    file = await publish(backend, path)
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    await parts.client.delete([parts.layout.content(FOO, file.filename)])
    for _ in range(2):
        _, problems = await scanned(backend)
        (problem,) = problems
        assert problem.startswith(f"foo/{file.filename} is left out: its record is there, but not the object itself")
    with pytest.raises(NotFoundError):
        await content(backend, FOO, file)
    assert await publish(backend, path) == file
    assert await scanned(backend) == ([await backend.find_project(FOO)], [])


async def test_an_object_without_a_record_gets_one(opened, made):
    """It was put there by hand; one whose upload is under way is left alone."""
    backend, path = opened("index.json"), wheel(made, "foo")
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    await parts.client.put(parts.layout.content(FOO, path.name), path.read_bytes())
    await parts.client.put(parts.layout.content(FOO, "foo-2.0.tar.gz"), b"no archive")
    await parts.client.put(f"{parts.layout.storage}/Not_Normal/x.whl", b"")
    await parts.client.put(parts.layout.content(ProjectName("bar"), "bar-1-py3-none-any.whl"), b"under way")
    await parts.client.put(
        parts.layout.claim(ProjectName("bar"), "bar-1-py3-none-any.whl"), b"bar-1-py3-none-any.whl x"
    )
    stored, problems = await indexed(backend)
    assert b"bar-1" not in stored.content
    assert any("foo-2.0.tar.gz is left out" in problem for problem in problems)
    assert any("'Not_Normal' is left out" in problem for problem in problems)
    found = await backend.find_project(FOO)
    assert found is not None
    (file,) = found.files
    assert (file.sha256, file.metadata_sha256) == (file_of(path)[1].sha256, file_of(path)[1].metadata_sha256)
    assert await backend.read_metadata(FOO, file) == file_of(path)[2]


async def test_what_uploads_left_behind_is_removed_after_a_day(opened, monkeypatch):
    backend = opened("index.json")
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    await parts.client.put(f"{parts.layout.staging}/left", b"x")
    for age_s, left in ((24 * 3600, 1), (-3600, 0)):
        monkeypatch.setattr(scanning, "_LEFTOVER_AGE_S", age_s)
        await scanned(backend)
        assert len([stat async for page in parts.client.pages(parts.layout.staging) for stat in page]) == left


async def test_a_claim_whose_upload_never_went_on_is_taken_over_after_an_hour(opened, made, monkeypatch):
    backend = opened("index.json")
    path = wheel(made, "foo")
    other = "Foo-1.0.0-py3-none-any.whl"
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    await parts.client.put(parts.layout.claim(FOO, other), f"{other} x".encode())
    with pytest.raises(FileExistsInRepoError, match=f"is the same distribution as {other}"):
        await publish(backend, path)
    monkeypatch.setattr(publishing, "CLAIM_S", -3600.0)
    await publish(backend, path)
    renamed = path.with_name(other)
    path.rename(renamed)
    with pytest.raises(FileExistsInRepoError, match=r"is the same distribution as foo-1\.0"):
        await publish(backend, renamed)


async def test_a_file_that_an_interrupted_upload_left_is_recorded_after_an_hour(opened, made, monkeypatch):
    backend, path = opened("index.json"), wheel(made, "foo")
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    await parts.client.put(parts.layout.claim(FOO, path.name), f"{path.name} x".encode())
    await parts.client.put(parts.layout.content(FOO, path.name), path.read_bytes())
    assert await scanned(backend) == ([], [])
    monkeypatch.setattr(scanning, "CLAIM_S", -3600.0)
    projects, problems = await scanned(backend)
    assert [file.filename for project in projects for file in project.files] == [path.name]
    assert problems == []


async def test_an_interrupted_deletion_is_completed(opened, made):
    """By the same deletion again, or by update_index."""
    backend = opened("index.json")
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    for finish in (lambda file: backend.change(Change(FOO, Delete(file.filename))), lambda _: scanned(backend)):
        path = wheel(made, "foo", f"{time.monotonic_ns()}")
        file = await publish(backend, path)
        await backend.change(Change(FOO, Delete(file.filename)))
        await parts.client.put(parts.layout.content(FOO, path.name), path.read_bytes())  # as if never removed
        await finish(file)
        with pytest.raises(ObjectMissingError):
            await parts.client.head(parts.layout.content(FOO, path.name))


async def test_a_second_scan_reads_only_what_changed(behind, proxy, made):
    backend = behind()
    files = [await publish(backend, wheel(made, name, version)) for name in ("a", "a-b", "b") for version in "123"]
    await indexed(backend)
    await backend.change(Change(ProjectName("a-b"), SetYanked(files[4].filename, "broken")))
    await backend.change(Change(ProjectName("b"), Delete(files[6].filename)))
    proxy.seen.clear()
    stored, problems = await indexed(backend)
    assert problems == ()
    assert sum(".meta" in path for method, path in proxy.seen if method == "GET") == 2
    for _ in range(2):
        proxy.seen.clear()
        assert await indexed(backend) == (stored, ())
        assert not any(".meta" in path for method, path in proxy.seen if method == "GET")
    projects, _ = await scanned(backend)
    assert [p.name for p in projects] == ["a", "a-b", "b"]
    assert [f.yanked for f in projects[1].files] == [None, "broken", None]


# What a store must keep, and what credentials do.


@pytest.mark.parametrize("header", ["if-none-match", "x-goog-if-generation-match"])
async def test_a_store_that_ignores_preconditions_is_refused(gcs, tmp_path, header):
    with fault_proxy(gcs.endpoint) as proxy:
        proxy.stripped = {header}
        backend = gcs.open(gcs.table(endpoint=proxy.url), tmp_path)
        for _ in range(2):
            with pytest.raises(PreconditionsIgnoredError, match="so servers could overwrite each other's files"):
                await backend.read_journal()
        proxy.stripped = set()
        assert (await backend.read_journal()).entries == ()


@pytest.mark.parametrize(
    ("fields", "secret", "said"),
    [
        ({"bucket": "no-such-bucket"}, None, "The bucket 'no-such-bucket' does not exist; create it, or correct"),
        ({"region": "eu-west-1"}, None, "keeps the bucket in the region us-east-1; set the repo's region to that"),
        ({}, ("nobody", "x" * 20), "does not know the access key; put valid keys into the repo's secret"),
        ({}, ("access-of-tests", "x" * 20), "rejects the signature, so the secret key is wrong"),
        ({"endpoint": "http://127.0.0.1:1"}, None, "cannot be connected to; check the endpoint and the network"),
        ({"endpoint": "http://no-such-host.invalid:9"}, None, "cannot be resolved"),
    ],
)
async def test_wrong_settings_are_named_and_nothing_secret_is(s3, tmp_path, fields, secret, said):
    text = s3.secret if secret is None else f'access_key_id = "{secret[0]}"\nsecret_access_key = "{secret[1]}"\n'
    backend = s3.open(s3.table(**fields), tmp_path, text)
    with pytest.raises(BackendUnavailableError) as raised:
        await backend.read_journal()
    assert said in str(raised.value)
    assert "Signature=" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


async def test_a_tenant_never_has_the_servers_identity(s3, tmp_path, monkeypatch, made):
    """The variables would lead to another store, with another identity, and without signatures."""
    with fault_proxy(s3.endpoint) as others:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": others.url,
            "AWS_ENDPOINT": others.url,
            "AWS_ACCESS_KEY_ID": "the-servers",
            "AWS_SECRET_ACCESS_KEY": "the-servers",
            "AWS_SESSION_TOKEN": "the-servers",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_BUCKET": "the-servers",
        }.items():
            monkeypatch.setenv(name, value)
        cloud_variables.cache_clear()
        backend = s3.open(s3.table(), tmp_path)
        await publish(backend, wheel(made, "foo"))
        assert others.seen == []
    cloud_variables.cache_clear()


def opening(table: dict[str, object], secret: str | None) -> OpenBackend[S3Spec]:
    fields = {name: value for name, value in table.items() if name != "type"}
    return OpenBackend(S3Spec(**fields), RepoName("team-a"), Path("/nowhere"), secret)  # type: ignore[arg-type]


def test_a_repo_without_a_secret_is_refused_unless_it_may_have_the_servers_identity(s3):
    with pytest.raises(InvalidConfigError, match=r"has no admin secret.*or set ambient_identity = true"):
        open_backend(opening(s3.table(), None))
    with pytest.raises(InvalidConfigError, match="has both a secret and ambient_identity"):
        open_backend(opening(s3.table(ambient_identity=True, endpoint=""), s3.secret))
    open_backend(opening(s3.table(ambient_identity=True, endpoint=""), None))
    with pytest.raises(ValueError, match="endpoint and ambient_identity do not go together"):
        opening(s3.table(ambient_identity=True), None)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (("s3.example.com",), "is not among the hosts"),
        (("*",), "is not among the hosts"),
        ((), "is not among the hosts"),
    ],
)
async def test_an_endpoint_that_is_not_allowed_is_never_asked(s3, proxy, tmp_path, listed, said):
    request = opening(s3.table(endpoint=proxy.url), s3.secret)
    request = msgspec.structs.replace(request, root=tmp_path, egress=Egress(listed))
    with pytest.raises(BackendUnavailableError, match=said):
        await open_backend(request).read_journal()
    assert proxy.seen == []


async def test_a_host_with_a_private_address_needs_to_be_listed(s3, tmp_path):
    request = opening(s3.table(endpoint="http://localhost.localdomain.test.invalid:9"), s3.secret)
    request = msgspec.structs.replace(request, root=tmp_path, egress=Egress(("*",)))
    with pytest.raises(BackendUnavailableError):
        await open_backend(request).read_journal()


async def test_an_idle_repo_costs_a_list_and_a_request_for_the_index_a_poll(behind, proxy, made):
    backend = behind()
    await publish(backend, wheel(made, "foo"))
    cursor = (await backend.read_journal()).cursor
    version = (await indexed(backend))[0].version
    cursor = (await backend.read_journal(cursor)).cursor
    await backend.read_index(version)
    proxy.seen.clear()
    for _ in range(10):
        assert (await backend.read_journal(cursor)).entries == ()
        await backend.read_index(version)
    lists = [path for _, path in proxy.seen if "list-type" in path]
    assert len(lists) == 10
    assert len(proxy.seen) - len(lists) == 10


def clock_of(by: float) -> Callable[[], float]:
    return lambda: time.time() + by


async def test_entries_of_clocks_that_differ_are_read_once_each(s3, tmp_path):
    """A writer may not have read the others' entries, and so write one that sorts before what readers have read."""
    backend = s3.open(s3.table(), tmp_path)
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - its client
    folder = f"{parts.layout.prefix}journal"
    writers = [BucketJournal(parts.client, folder, clock_of(by)) for by in (-300, 0, 200, -20)]
    reader = BucketJournal(parts.client, folder)
    cursor = (await reader.read()).cursor
    seen: list[str] = []
    for number in range(12):
        file = File(filename=f"foo-{number}.zip", sha256="0" * 64)
        await writers[number % 4].add(JournalEntry(FOO, file))
        read = await reader.read(cursor)
        assert not read.restarted
        seen += [entry.file.filename for entry in read.entries if entry.file is not None]
        cursor = read.cursor
    assert seen == [f"foo-{number}.zip" for number in range(12)]
    await writers[0].read()
    await writers[0].add(JournalEntry(FOO, File(filename="last.zip", sha256="0" * 64)))
    whole = (await BucketJournal(parts.client, folder).read()).entries
    assert whole[-1].file is not None
    assert whole[-1].file.filename == "last.zip", "a writer that has read the others' goes on after them"


# Hostile stores, and private authorities.


def page(*keys: str) -> str:
    """Return a page of a list that says it is not the last one."""
    objects = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><ETag>x</ETag><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        "</Contents>"
        for key in keys
    )
    return (
        "<?xml version='1.0'?><ListBucketResult><IsTruncated>true</IsTruncated>"
        f"<NextContinuationToken>again</NextContinuationToken>{objects}</ListBucketResult>"
    )


@pytest.mark.parametrize(
    "keys", [("{prefix}journal/a", "{prefix}journal/b"), ("{prefix}journal/b", "{prefix}journal/a")]
)
async def test_a_list_without_end_or_order_is_an_error(s3, proxy, tmp_path, keys):
    table = s3.table(endpoint=proxy.url)
    backend = s3.open(table, tmp_path)
    await backend.read_journal()
    body = page(*(key.format(prefix=table["prefix"]) for key in keys))
    proxy.faults = [StoreFault("GET", "list-type", 200, times=10**6, body=body)]
    for call in (backend.read_journal, lambda: scanned(backend), lambda: backend.find_project(FOO)):
        with pytest.raises(BackendUnavailableError, match="unsorted or has no end"):
            await call()
    proxy.faults = []
    assert (await backend.read_journal()).entries == ()


async def test_objects_that_are_too_large_or_not_ours_are_refused_alone(behind, proxy, made):
    backend = behind()
    file = await publish(backend, wheel(made, "foo"))
    assert isinstance(backend, ObjectStoreBackend)
    parts = await backend._open()  # noqa: SLF001 - the hand
    other = "bar-1-py3-none-any.whl"
    bar = ProjectName("bar")
    await parts.client.put(parts.layout.content(bar, other), b"x")
    for content_ in (b"x" * 3_000_000, b"\xff", b"[", b"distrib = 1", b'distrib = "bar"\nsha256 = "x"'):
        await parts.client.put(parts.layout.record(bar, other), content_)
        projects, problems = await scanned(backend)
        assert [f for p in projects for f in p.files] == [file]
        assert len(problems) == 1
        assert problems[0].startswith(f"bar/{other} is left out: ")
        with pytest.raises(BackendUnavailableError, match="Mend or remove the object"):
            await backend.change(Change(bar, SetYanked(other, "")))
    for name, content_ in (("00000000000000001-0123456789ab.json", b"x" * 100_000), ("junk", b""), ("9" * 40, b"{}")):
        await parts.client.put(f"{parts.layout.journal}/{name}", content_)
    for status in (b"", b"status = 1", b'status = "archived"\nreason = "%s"' % (b"x" * 5000), b"x" * 100_000):
        await parts.client.put(parts.layout.status(FOO), status)
        found = await backend.find_project(FOO)
        assert found is not None
        assert found.status == "quarantined"
    assert [e.file for e in await entries(backend)] == [file]


async def test_a_store_s_redirect_leads_nowhere_else(s3, proxy, tmp_path):
    """The library follows redirects, and a tenant's store could lead it to a host that only the server reaches."""
    with fault_proxy(s3.endpoint) as elsewhere:
        backend = s3.open(s3.table(endpoint=proxy.url), tmp_path)
        await backend.read_journal()
        proxy.faults = [
            StoreFault(
                "GET", "list-type", 307, times=9, location=f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/metadata"
            )
        ]
        with pytest.raises(BackendUnavailableError):
            await backend.read_journal()
        assert elsewhere.seen == []


async def test_a_private_authority(tmp_path, made):
    made_ = certificates(tmp_path / "tls")
    with running_s3(tmp_path / "data", tls=made_) as store:
        table = store.table(endpoint=store.endpoint, allow_http=False)
        with pytest.raises(BackendUnavailableError, match="certificate that is not trusted; set the repo's ca_bundle"):
            await store.open(table, tmp_path).read_journal()
        trusted = store.open(table | {"ca_bundle": made_.authority.read_text()}, tmp_path)
        await publish(trusted, wheel(made, "foo"))
