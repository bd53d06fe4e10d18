"""Storage changed by people or by the original: valid files are served, all others are clearly refused."""

import contextlib
import http.client
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pywharf.core.toml_text import dumps
from support.distributions.wheels import sdist, wheel
from support.server.calling import basic, call, connect
from support.server.index_client import IndexClient, sha256
from support.server.serving import Server, running
from support.server.updating import finished, update_index
from support.waiting import wait_for


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with running(tmp_path / "server") as started:
        yield started


def storage(server: Server, project: str = "") -> Path:
    return server.root / "cache" / "demo" / "storage" / project


def summary_of(server: Server) -> dict[str, Any]:
    """Run update_index and return its summary."""
    found: dict[str, Any] = json.loads(finished(update_index(server.root)))
    return found


def lay(path: Path, server: Server, project: str) -> Path:
    """Copy a file into the storage without notifying the server."""
    folder = storage(server, project)
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder))


def replace_with(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


def replace_unnoticed(path: Path) -> None:
    """Replace a file by one of the same size and times."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


class TestDamage:
    """An indexed file that has changed or is missing."""

    WHOLE = 400_000

    DAMAGES: dict[str, tuple[Callable[[Path], object], int, str]] = {  # noqa: RUF012 - a table
        "removed": (Path.unlink, 404, "no longer in the storage"),
        "cut": (lambda p: os.truncate(p, 1000), 503, "has not the size that the index says"),
        "emptied": (lambda p: os.truncate(p, 0), 503, "has not the size that the index says"),
        "longer": (lambda p: os.truncate(p, 10**6), 503, "has not the size that the index says"),
        "a folder": (to_folder, 503, "cannot be read now"),
        "written over": (lambda p: p.write_bytes(bytes(p.stat().st_size)), 503, "is not the one that the index names"),
        "replaced": (replace_unnoticed, 503, "is not the one that the index names"),
    }

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_reported_and_never_served(self, tmp_path, server, damage):
        do, status, reason = self.DAMAGES[damage]
        client = IndexClient.of(server)
        good, bad = wheel(tmp_path, "one", "1.0"), wheel(tmp_path, "one", "2.0", payload=bytes(self.WHOLE))
        for path in (good, bad):
            assert client.upload(path).status == 200
        summary_of(server)
        do(storage(server, "one") / bad.name)
        for wanted in ("bytes=0-", "bytes=0-99", "bytes=-5"):
            reply = client.get(f"one/{bad.name}", Range=wanted)
            assert (reply.status, reason in reply.json()["detail"]) == (status, True), str(reply)
        assert client.download("one", good.name).body == good.read_bytes()

        summary = summary_of(server)
        assert summary["files"] == 1
        wait_for(lambda: bad.name not in client.files("one"), "the page leaves it out")
        assert client.everything() == {good.name: good.read_bytes()}
        # If the record beside a file belongs to other bytes, the content is checked before the file is served.
        replaced = damage in {"written over", "replaced"}
        assert client.download("one", bad.name).status == (503 if replaced else 404)
        problems = " ".join(summary["problems"])
        assert (bad.name in problems) == (damage != "removed"), problems
        if damage == "removed":
            assert client.upload(bad).status == 200, "what was removed may be uploaded again"
            assert client.download("one", bad.name).body == bad.read_bytes()

    def test_a_volume_that_was_restored_is_served_and_read_once(self, tmp_path, server):
        """Only its inodes and times have changed: it is served, and the next update_index records the new ones."""
        client = IndexClient.of(server)
        path = wheel(tmp_path, "one")
        assert client.upload(path).status == 200
        summary_of(server)
        stored = storage(server, "one") / path.name
        for moved in (lambda: replace_with(stored, path.read_bytes()), lambda: os.utime(stored, (1, 1))):
            moved()
            assert client.download("one", path.name).body == path.read_bytes()
            summary = summary_of(server)
            assert (summary["files"], summary["problems"], summary["changed"]) == (1, [], True)
            assert summary_of(server)["changed"] is False
            assert client.download("one", path.name).body == path.read_bytes()

    def test_during_a_download_ends_the_connection(self, tmp_path, server):
        """The connection closes, so the client does not wait for bytes that never come."""
        client = IndexClient.of(server)
        large = wheel(tmp_path, "large", payload=bytes(24 * 1024 * 1024))
        assert client.upload(large).status == 200
        for do, is_whole in ((Path.unlink, True), (lambda p: os.truncate(p, 20 * 1024 * 1024), False)):
            path = lay(large, server, "large")
            with contextlib.closing(connect(server.url, timeout_s=20)) as connection:
                connection.request(
                    "GET",
                    f"{urlsplit(client.index).path}large/{large.name}",
                    headers={"Authorization": basic("demo:demo-read")},
                )
                response = connection.getresponse()
                first = response.read(100_000)
                do(path)
                if is_whole:  # a removed file can still be read while it is open
                    assert first + response.read() == large.read_bytes()
                    continue
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    response.read()
        assert "became shorter while it was sent" in server.text()


class TestLaidThere:
    """Files that somebody copied into the storage."""

    def test_shows_after_update_index_with_everything(self, tmp_path, server):
        client = IndexClient.of(server)
        made = [wheel(tmp_path, "by-hand"), sdist(tmp_path, "by-hand", "2.0")]
        for path in made:
            lay(path, server, "by-hand")
        assert client.upload(made[0]).status == 200, "the same bytes lie there already, and are recorded now"
        (tmp_path / "other").mkdir()
        other = sdist(tmp_path / "other", "by-hand", "2.0", members={"by_hand-2.0/more.py": b""})
        assert client.upload(other).status == 409, "other bytes lie there already"
        assert summary_of(server)["files"] == 2
        expected = {path.name: path.read_bytes() for path in made}
        wait_for(lambda: client.everything() == expected, "both are listed")
        of_wheel, of_sdist = (client.files("by-hand")[path.name] for path in made)
        assert of_wheel["requires-python"] == ">=3.8"
        assert "core-metadata" in of_wheel
        assert "upload-time" in of_wheel
        assert "core-metadata" not in of_sdist
        metadata = client.get(f"by-hand/{made[0].name}.metadata")
        assert sha256(metadata.body) == of_wheel["core-metadata"]["sha256"]
        assert summary_of(server)["changed"] is False

    def test_a_copy_that_is_not_finished_waits_for_the_next_run(self, tmp_path, server):
        client = IndexClient.of(server)
        made = wheel(tmp_path, "slow", payload=bytes(100_000))
        path = lay(made, server, "slow")
        os.truncate(path, 50_000)
        summary = summary_of(server)
        assert (summary["files"], len(summary["problems"])) == (0, 1)
        assert made.name in summary["problems"][0]
        assert client.files("slow") == {}
        lay(made, server, "slow")
        assert summary_of(server)["problems"] == []
        wait_for(lambda: client.everything() == {made.name: made.read_bytes()}, "it is listed")

    def test_what_cannot_be_indexed_is_reported_and_the_rest_is_served(self, tmp_path, server):
        client = IndexClient.of(server)
        good = wheel(tmp_path, "good")
        assert client.upload(good).status == 200
        lay(wheel(tmp_path, "elsewhere"), server, "good")
        (storage(server, "good") / "good-2.0-py3-none-any.whl").write_text("no zip")
        broken = lay(wheel(tmp_path, "broken"), server, "broken")
        broken.with_name(broken.name + ".meta").write_text("no = TOML = at all")
        missing = lay(wheel(tmp_path, "missing"), server, "missing")
        missing.with_name(missing.name + ".meta").write_text('distrib = "missing"\n')
        (storage(server, "Not_Normal")).mkdir()
        (storage(server, "good") / "notes.txt").write_text("no distribution")
        (storage(server) / "loose.txt").write_text("no folder")
        summary = summary_of(server)
        problems = " ".join(summary["problems"])
        for name in ("elsewhere-1.0", "good-2.0", "broken-1.0", "missing-1.0"):
            assert name in problems, f"nothing is said about {name}: {problems}"
        assert summary["files"] == 1
        wait_for(lambda: client.everything() == {good.name: good.read_bytes()}, "the good one alone is listed")


def test_an_emptied_volume_is_used_again_without_a_restart(tmp_path, server):
    client = IndexClient.of(server)
    one, two = wheel(tmp_path, "one"), wheel(tmp_path, "two")
    assert client.upload(one).status == 200
    summary_of(server)
    parsed = b'pywharf_index_parses_total{repo="demo"} 1.0'
    wait_for(lambda: parsed in call(f"{server.url}/metrics").body, "the index is served")
    shutil.rmtree(server.root / "cache")
    wait_for(lambda: client.projects() == [], "nothing is listed")
    assert client.download("one", one.name).status == 404
    assert client.upload(two).status == 200
    assert client.everything() == {two.name: two.read_bytes()}


class TestOwner:
    """A folder's record of who owns its packages."""

    CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
owner = "ml/demo"

[other]
type = "file_system"
read_secret = "other-read"
write_secret = "other-write"
"""

    def test_of_another_repo_keeps_its_packages_until_an_admin_says_otherwise(self, tmp_path):
        root = tmp_path / "root"
        one, two = wheel(tmp_path, "one"), wheel(tmp_path, "two")
        with running(tmp_path / "a", root=root, config=self.CONFIG.replace("ml/demo", "web/first")) as server:
            assert IndexClient.of(server).upload(one).status == 200
        folder = root / "cache" / "demo"
        assert (folder / "owner").read_text() == "web/first\n"
        before = sorted(folder.rglob("*"))
        with running(tmp_path / "b", root=root, config=self.CONFIG) as server:
            client, other = IndexClient.of(server), IndexClient.of(server, "other")
            wait_for(lambda: "belong" in call(client.index, auth="demo:demo-read").json()["detail"], "it is reported")
            for reply in (client.get(""), client.get("one/"), client.download("one", one.name), client.upload(two)):
                assert reply.status == 503, str(reply)
                detail = reply.json()["detail"]
                assert "The stored packages belong to another owner, not to 'ml/demo'." in detail
                assert "remove the file 'owner'" in detail
                assert "web/first" not in detail, "another namespace's names are not shown"
                assert one.read_bytes() not in reply.body
            run = update_index(root, "--owner=ml/demo")
            assert "belong to another owner, not to 'ml/demo'" in finished(run, status=1)
            assert sorted(folder.rglob("*")) == before
            assert other.upload(two).status == 200, "the other repo serves"
            assert other.everything() == {two.name: two.read_bytes()}
            assert call(f"{server.url}/readyz").status == 200

            (folder / "owner").unlink()
            wait_for(lambda: client.get("").status == 200, "the packages were handed over")
            assert (folder / "owner").read_text() == "ml/demo\n"
            assert client.everything() == {one.name: one.read_bytes()}
            assert client.upload(two).status == 200


class TestOriginal:
    """A ROOT written by the original, without sizes, times and metadata digests."""

    FORM = {  # noqa: RUF012 - a table
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "summary": 'a "quoted" line\nand a \\x backslash',
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "requires_python": ">=3.8",
        "md5_digest": "0" * 32,
        "home_page": "",
    }

    def lay(self, root: Path, path: Path, *, indexed: bool) -> dict[str, Any]:
        """Write a file and its record as the original did. Returns its entry in the index, or {} if not `indexed`."""
        name, version = path.name.split("-")[:2]
        content = path.read_bytes()
        meta = self.FORM | {"name": name, "version": version, "distrib": name, "sha256": sha256(content)}
        folder = root / "cache" / "demo" / "storage" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(content)
        (folder / f"{path.name}.meta").write_text(dumps(meta))
        entry = {"type": "file_system", "distrib": name, "package": path.stem, "ext": "whl", "sha256": sha256(content)}
        moved_since = {"package_path": f"/before/the/move/cache/demo/storage/{name}/{path.name}"}
        return entry | {"meta": meta} | moved_since if indexed else {}

    def test_is_served_as_it_is_and_completed_by_update_index(self, tmp_path):
        root = tmp_path / "root"
        indexed, later, gone = (wheel(tmp_path, "one", v) for v in ("1.0", "2.0", "3.0"))
        entries = [self.lay(root, path, indexed=True) for path in (indexed, gone)]
        self.lay(root, later, indexed=False)
        storage = root / "cache" / "demo" / "storage"
        (storage / "index.toml").write_text(dumps({"mtime": 1_600_000_000, "pkgs": entries}))
        (storage / "one" / gone.name).unlink()
        with running(tmp_path / "server", root=root) as server:
            client = IndexClient.of(server)
            assert call(f"{server.url}/index_mtime/", auth="demo:demo-read").body == b"1600000000"
            # The size of `gone` can no longer be known, so JSON must leave that file out. HTML needs no size.
            assert client.everything() == {indexed.name: indexed.read_bytes()}
            page = client.get("one/", Accept="text/html").body.decode()
            assert (indexed.name in page, gone.name in page) == (True, True)
            assert client.files("one")[indexed.name]["requires-python"] == ">=3.8"
            reply = client.download("one", gone.name)
            assert (reply.status, "no longer in the storage" in str(reply)) == (404, True)

            finished(update_index(root))
            both = {path.name: path.read_bytes() for path in (indexed, later)}
            wait_for(lambda: client.everything() == both, "what lay there unindexed is listed, what is gone is not")
            for entry in client.files("one").values():
                assert entry["size"] == len(both[entry["filename"]])
                assert entry["upload-time"].endswith("Z")
                assert "core-metadata" in entry
            assert gone.name not in client.get("one/", Accept="text/html").body.decode()
            assert client.upload(gone).status == 200, "its name is free again"
            assert client.upload(indexed).status == 200, "the same bytes again"
            (tmp_path / "other").mkdir()
            assert client.upload(wheel(tmp_path / "other", "one", payload=b"OTHER = 1\n")).status == 409
        written = (storage / "index.toml").read_text()
        assert f'package_path = "{storage / "one" / indexed.name}"' in written
        assert "[pkgs.meta]" in written
