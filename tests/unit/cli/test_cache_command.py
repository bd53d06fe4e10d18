"""`pywharf cache list` and `pywharf cache remove`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pywharf.backends.file_system.cache_store import FileSystemCacheStore
from pywharf.cli.cache_command import cache
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import Pin
from support.storage.caches import about, all_pins, digest_of, keep, kept

TORCH, SIX = "torch-2.0-py3-none-any.whl", "six-1.0.tar.gz"
TEAM, OTHER = RepoName("team-a"), RepoName("team-b")


def in_store(root: Path, do: Callable[[FileSystemCacheStore], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        store = FileSystemCacheStore(root / "upstream-cache")
        try:
            return await do(store)
        finally:
            await store.aclose()

    return asyncio.run(run())


def pin(content: bytes, filename: str) -> Pin:
    return Pin(ProjectName("torch"), filename, digest_of(content), len(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a ROOT whose cache has a wheel with its metadata, which two repos have pinned, and two sdists."""

    async def fill(store: FileSystemCacheStore) -> None:
        await keep(store, b"torch", about(TORCH, "torch"))
        await keep(store, b"metadata", about(TORCH, "torch"))
        await keep(store, b"six", about(SIX, "six"))
        await keep(store, b"odd", about("odd-1\x1b[31m.tar.gz", "odd"))
        for repo in (TEAM, OTHER):
            await store.pin(repo, pin(b"torch", TORCH))
            await store.pin(repo, pin(b"metadata", f"{TORCH}.metadata"))

    in_store(tmp_path, fill)
    return tmp_path


def run(*args: object) -> Result:
    result = CliRunner().invoke(cache, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def listed(*args: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", *args).stdout.splitlines()]


def left(root: Path) -> set[str]:
    return set(in_store(root, kept))


def pins(root: Path) -> dict[RepoName, tuple[Pin, ...]]:
    found: dict[RepoName, tuple[Pin, ...]] = in_store(root, all_pins)
    return found


def digests(*contents: bytes) -> set[str]:
    return {digest_of(content) for content in contents}


def test_every_kept_file_is_listed(root):
    found = {entry["sha256"]: entry for entry in listed(root)}
    assert found.keys() == digests(b"torch", b"metadata", b"six", b"odd")
    six = found[digest_of(b"six")]
    assert six.pop("last_used") > 1.7e9
    assert six == {
        "project": "six",
        "filename": SIX,
        "sha256": digest_of(b"six"),
        "size": 3,
        "source": about().source,
        "pinned_by": [],
    }
    assert found[digest_of(b"metadata")]["pinned_by"] == ["team-a", "team-b"]


@pytest.mark.parametrize(
    ("flags", "contents"),
    [
        (["--project=Torch"], [b"torch", b"metadata"]),
        (["--filename", SIX], [b"six"]),
        ([f"--digest=sha256:{digest_of(b'odd').upper()}"], [b"odd"]),
        (["--repo=team-a"], [b"torch", b"metadata"]),
        (["--repo=team-a", f"--digest={digest_of(b'torch')}"], [b"torch"]),
        (["--repo=team-c"], []),
        (["--project=six", "--filename=torch"], []),
    ],
)
def test_the_list_is_filtered(root, flags, contents):
    assert {entry["sha256"] for entry in listed(root, *flags)} == digests(*contents)


def test_a_table_is_sorted_and_controls_no_terminal(root):
    result = run("list", root, "--format=table")
    rows = result.stdout.splitlines()
    assert [row.split()[4] for row in rows[1:]] == ["odd-1?[31m.tar.gz", SIX, TORCH, TORCH]
    assert rows[-1].endswith("pinned by team-a, team-b")
    assert result.stderr == "4 files, 19 bytes\n"


def test_files_are_removed(root):
    removed = json.loads(run("remove", root, "--project=six", "--yes").stdout)
    assert removed == {"files": 1, "bytes": 3, "pins": 0, "pinned": 0}
    assert left(root) == digests(b"torch", b"metadata", b"odd")


def test_pinned_files_stay(root):
    removed = json.loads(run("remove", root, "--project=torch", "--yes").stdout)
    assert removed == {"files": 0, "bytes": 0, "pins": 0, "pinned": 2}
    assert len(left(root)) == 4


def test_pinned_files_are_removed_with_their_pins(root):
    removed = json.loads(run("remove", root, "--project=torch", "--yes", "--pinned").stdout)
    assert removed == {"files": 2, "bytes": 13, "pins": 4, "pinned": 0}
    assert (left(root), pins(root)) == (digests(b"six", b"odd"), {})


def test_what_another_repo_has_pinned_stays(root):
    removed = json.loads(run("remove", root, "--repo=team-a", "--yes", "--pinned").stdout)
    assert removed == {"files": 0, "bytes": 0, "pins": 2, "pinned": 2}
    assert pins(root).keys() == {OTHER}
    removed = json.loads(run("remove", root, "--repo=team-b", "--yes", "--pinned").stdout)
    assert removed == {"files": 2, "bytes": 13, "pins": 2, "pinned": 0}
    assert (left(root), pins(root)) == (digests(b"six", b"odd"), {})


def test_a_cache_is_found_by_its_configuration(root, tmp_path):
    config = tmp_path / "cache.toml"
    config.write_text(f'type = "file_system"\nfolder = "{root / "upstream-cache"}"\n')
    assert len(listed("--cache_config", config)) == 4
    config.write_text('type = "file_system"\n')
    assert len(listed(root, "--cache_config", config)) == 4


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["list"], "Give the ROOT"),
        (["list", "ROOT/none"], "There is no cache in the folder"),
        (["list", "ROOT", "--digest=abc"], "--digest is no SHA-256"),
        (["list", "ROOT", "--project=.."], "project"),
        (["remove", "ROOT", "--yes"], "Say what to remove"),
        (["remove", "ROOT", "--repo=team-a", "--yes"], "give --pinned, too"),
        (["remove", "ROOT", "--project=six"], "there is no terminal: give --yes"),
    ],
)
def test_wrong_flags_are_refused(root, args, said):
    with pytest.raises(InvalidConfigError) as refused:
        run(*(arg.replace("ROOT", str(root)) for arg in args))
    assert said in str(refused.value)
    assert len(left(root)) == 4


def test_a_list_writes_nothing(root):
    before = sorted(root.rglob("*"))
    listed(root)
    assert sorted(root.rglob("*")) == before
