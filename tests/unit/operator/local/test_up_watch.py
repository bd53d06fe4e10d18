"""The folder that `up` watches: changed content is noticed, and the last good state stays while a file is broken."""

import os

from pywharf_operator.local.up.watch import WatchedFolder

REPO = (
    "apiVersion: pywharf.dev/v1alpha1\nkind: PackageRepo\nmetadata: {name: NAME}\nspec: {backend: {fileSystem: {}}}\n"
)
BROKEN = "spec: [\n"
STAYS = "The last good version stays in use."


def repo(name):
    return REPO.replace("NAME", name)


def poll(folder):
    """Scan the folder and return what has changed; the test expects a change."""
    found = folder.poll()
    assert found is not None
    return found


def names(manifests):
    return sorted(item.resource.key.name for item in manifests.loaded)


def test_only_changes_are_given(tmp_path):
    (tmp_path / "a.yaml").write_text(repo("one"))
    folder = WatchedFolder(tmp_path, "default")
    assert names(poll(folder)) == ["one"]
    assert folder.poll() is None
    os.utime(tmp_path / "a.yaml", (1, 1))
    assert folder.poll() is None
    (tmp_path / "b.yaml").write_text(repo("two"))
    assert names(poll(folder)) == ["one", "two"]
    (tmp_path / "a.yaml").unlink()
    assert names(poll(folder)) == ["two"]


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(repo("one"))
    before = path.stat()
    folder = WatchedFolder(tmp_path, "default")
    poll(folder)
    path.write_text(repo("two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(poll(folder)) == ["two"]


def test_a_broken_file_keeps_what_it_held(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"{repo('one')}---\n{repo('two')}")
    folder = WatchedFolder(tmp_path, "default")
    poll(folder)
    path.write_text(f"{repo('one')}---\n{BROKEN}")
    found = poll(folder)
    assert names(found) == ["one", "two"]
    assert found.problems[0].sentence.endswith(STAYS)
    path.write_bytes(b"\xff")
    found = poll(folder)
    assert names(found) == ["one", "two"]
    assert found.problems[0].sentence == f"it is not UTF-8 (byte 0); save it as UTF-8. {STAYS}"
    path.write_text(repo("two"))
    found = poll(folder)
    assert names(found) == ["two"]
    assert found.problems == ()


def test_a_broken_object_keeps_its_last_version_and_no_other(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"{repo('one')}---\n{repo('two')}")
    folder = WatchedFolder(tmp_path, "default")
    poll(folder)
    path.write_text(repo("one").replace("fileSystem", "filesystem"))
    found = poll(folder)
    assert names(found) == ["one"]
    assert found.problems[0].sentence.endswith(f"did you mean fileSystem? {STAYS}")
    path.unlink()
    assert names(poll(folder)) == []


def test_what_was_never_good_is_only_reported(tmp_path):
    (tmp_path / "a.yaml").write_text(BROKEN)
    found = poll(WatchedFolder(tmp_path, "default"))
    assert found.loaded == ()
    assert STAYS not in found.problems[0].sentence


def test_a_folder_that_vanishes_changes_nothing(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a.yaml").write_text(repo("one"))
    folder = WatchedFolder(path, "default")
    poll(folder)
    path.rename(tmp_path / "away")
    found = poll(folder)
    assert names(found) == ["one"]
    assert "the folder cannot be read" in found.problems[0].sentence
    assert folder.poll() is None
    (tmp_path / "away").rename(path)
    found = poll(folder)
    assert (names(found), found.problems) == (["one"], ())
