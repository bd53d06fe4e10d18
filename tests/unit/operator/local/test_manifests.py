"""A folder of YAML files: what is read, what is ignored, and that a broken file affects nothing else."""

import time

import pytest

from pywharf_operator.local.manifests import MAX_FILE_BYTES, load_folder, read_folder
from pywharf_operator.local.yaml_text import documents
from pywharf_operator.spec import PackageRepo, Secret
from support.operator.manifest_text import parsed

REPO = (
    "apiVersion: pywharf.dev/v1alpha1\nkind: PackageRepo\nmetadata: {name: NAME}\nspec: {backend: {fileSystem: {}}}\n"
)


def repo(name):
    return REPO.replace("NAME", name)


def test_files_documents_and_lists(tmp_path):
    (tmp_path / "a.yaml").write_text(f"---\n{repo('one')}---\n# nothing\n---\n{repo('two')}")
    (tmp_path / "sub").mkdir()
    items = "".join(
        f"- {line}" if i == 0 else f"  {line}" for i, line in enumerate(repo("three").splitlines(keepends=True))
    )
    (tmp_path / "sub" / "b.yml").write_text(f"apiVersion: v1\nkind: List\nitems:\n{items}")
    (tmp_path / "c.json").write_text("{")
    (tmp_path / ".hidden.yaml").write_text("a: [")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "d.yaml").write_text("a: [")
    found = load_folder(tmp_path, "ns")
    assert [item.identity for item in found.loaded] == [
        "PackageRepo ns/one",
        "PackageRepo ns/two",
        "PackageRepo ns/three",
    ]
    assert found.problems == found.notes == ()
    assert len(found.of(PackageRepo)) == 3
    assert found.of(Secret) == []


def test_what_is_broken_affects_nothing_else(tmp_path):
    (tmp_path / "a.yaml").write_text(
        f"{repo('one')}---\na: b: c\n---\n{repo('two')}---\n{repo('BAD')}---\n{repo('three')}"
    )
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.yaml").write_text(repo("four"))
    (tmp_path / "d.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    found = load_folder(tmp_path, "default")
    assert [item.resource.key.name for item in found.loaded] == ["one", "two", "three", "four"]
    assert [str(problem) for problem in found.problems] == [
        (
            "a.yaml, document 2: line 6, column 5: it is not valid YAML (mapping values are not allowed here); check "
            "the indentation, and put texts with special characters in quotes."
        ),
        (
            "a.yaml, document 4 (PackageRepo default/BAD): metadata.name is 'BAD': it must be lower-case letters, "
            "digits, '-' and '.', starting and ending with a letter or digit."
        ),
        "b.yaml, document 1: it is not UTF-8 (byte 0); save it as UTF-8.",
        f"d.yaml: it is larger than {MAX_FILE_BYTES} bytes; split it.",
    ]


def test_other_kinds_are_noted(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    (tmp_path / "other.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\n- 1\n")
    found = load_folder(tmp_path, "default")
    assert found.problems == ()
    assert [str(note) for note in found.notes] == [
        "kustomization.yaml, document 1: its kind is missing, which is not one of pywharf's, so it is ignored.",
        (
            "other.yaml, document 1 (Deployment default/x): its kind is 'Deployment', which is not one of pywharf's, "
            "so it is ignored."
        ),
        "other.yaml, document 2: it is not an object, so it is ignored.",
    ]


def test_the_first_of_two_with_one_name_counts(tmp_path):
    (tmp_path / "a.yaml").write_text(repo("one"))
    (tmp_path / "b.yaml").write_text(repo("one").replace("{fileSystem: {}}", "{gcs: {bucket: abc}}"))
    found = load_folder(tmp_path, "default")
    assert [item.file for item in found.loaded] == ["a.yaml"]
    assert [str(problem) for problem in found.problems] == [
        "b.yaml, document 1 (PackageRepo default/one): it stands in a.yaml, document 1 too, which counts; remove one."
    ]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.yaml").write_text(repo("one"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.yaml").symlink_to(tmp_path / "outside" / "a.yaml")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "round").symlink_to(folder)
    (folder / "real.yaml").write_text(repo("two"))
    (folder / "same.yaml").symlink_to("real.yaml")
    assert sorted(read_folder(folder)) == ["real.yaml", "same.yaml"]


def bomb(levels, width):
    lines = ["a0: &a0 x"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (bomb(30, 10), "it stands for more than 500000 values; split it."),
        ("a: &a [*a]", "an alias stands for a part that holds it; write it out."),
        ("a: &a {b: {c: *a}}", "an alias stands for a part that holds it; write it out."),
        ("[" * 50_000, "it is nested too deeply; a manifest has some ten levels."),
        ("- " * 50_000, "it is nested too deeply; a manifest has some ten levels."),
        ("a: 1\na: 2", "line 2, column 1: a key stands there for the second time; remove one."),
        ("a: {1: 2}", "line 1, column 5: a key must be a text; put it in quotes."),
        ("? [a]\n: b", "line 1, column 3: a key must be a text; put it in quotes."),
        ("a: 0x_", "it holds a number or a tagged value that cannot be read; put it in quotes."),
        ("a: " + "1" * 5000, "it holds a number or a tagged value that cannot be read; put it in quotes."),
        ("a: !!bool x", "it holds a number or a tagged value that cannot be read; put it in quotes."),
        ("a: !!timestamp x", "it holds a number or a tagged value that cannot be read; put it in quotes."),
        ("a: !!python/object/apply:os.system [id]", "it is not valid YAML (could not determine a constructor for the"),
        ("a: b\n\tc: d", "it is not valid YAML"),
        ("a:\n  b: \x01", "line 2: it holds a character that YAML does not allow; remove it."),
    ],
    ids=range(15),
)
def test_yaml_that_could_hurt(text, sentence):
    start = time.thread_time()  # CPU time, independent of the machine's load
    found = list(documents(text.encode()))
    assert sentence in (found[-1].fault or "")
    assert time.thread_time() - start < 5


def test_values_mean_what_they_mean_to_kubernetes():
    text = "date: 2026-01-01\ntime: 2026-01-01T00:00:00Z\nmode: None\nnothing: ~\nx: &x {a: 1}\nz: {<<: *x, b: 2}\n"
    assert [document.value for document in documents(text.encode())] == [
        {
            "date": "2026-01-01",
            "time": "2026-01-01T00:00:00Z",
            "mode": "None",
            "nothing": None,
            "x": {"a": 1},
            "z": {"a": 1, "b": 2},
        }
    ]


def test_a_byte_order_mark_and_a_line_of_dashes_in_a_text():
    text = "\ufeffa: |\n  ---\n  b\n---\nc: d\n"
    assert [document.value for document in documents(text.encode())] == [{"a": "---\nb\n"}, {"c": "d"}]


def test_many_repos_are_read_in_reasonable_time():
    start = time.thread_time()  # CPU time, independent of the machine's load
    found = parsed("---\n".join(repo(f"repo-{i}") for i in range(1000)))
    assert len(found.loaded) == 1000
    assert time.thread_time() - start < 20
