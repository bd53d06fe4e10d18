import runpy

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pywharf import __version__
from pywharf.backends.github.workflow import REQUIREMENT
from support.parts import CHECKOUT

CHECK = runpy.run_path(str(CHECKOUT / ".ci" / "check_tree.py"))
HASH = "--hash=sha256:" + "0" * 64
PINNED = f"name==1.0 ; sys_platform == 'linux' \\\n    {HASH} \\\n    {HASH}\n    # via other\n"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (PINNED, 0),
        ("# a comment\n" + PINNED + PINNED, 0),
        (PINNED.replace("name", "name[one, two]"), 0),
        (PINNED + "unpinned>=1\n", 1),
        (PINNED + "unhashed==1\n", 1),
        ("--index-url https://index.example/simple\n" + PINNED, 2),
        ("-e .\n" + PINNED, 1),
        ("name @ file:///wheels/name.whl\n", 2),
    ],
)
def test_lock(text, faults):
    assert len(CHECK["lock_faults"]("a.txt", text)) == faults


@pytest.mark.parametrize("folder", ["root", "work", "home/someone", "Users/someone"])
@pytest.mark.parametrize(
    ("line", "faulty"),
    [
        ("see /{}/x", True),
        ("path='/{}/x'", True),
        ("/data/{}/x", False),
        ("https://host.example/{}/x", False),
        ("{{tmp_path}}/{}/x", False),
        ("../{}/x", False),
        ("{}/x", False),
    ],
)
def test_path_of_a_machine(folder, line, faulty):
    assert bool(CHECK["path_faults"]("a.txt", line.format(folder))) is faulty


@pytest.mark.parametrize(
    ("version", "semantic"),
    [("1.0.0", "1.0.0"), ("1.0.0a1", "1.0.0-alpha.1"), ("1.0.0b2", "1.0.0-beta.2"), ("1.2.3rc10", "1.2.3-rc.10")],
)
def test_version_in_both_forms(version, semantic):
    assert CHECK["semantic_version"](version) == semantic


@pytest.mark.parametrize("version", ["1.0", "1.0.0.dev1", "1.0.0.post1", "1.0.0+local", "v1.0.0", "1.0.0-rc.1", ""])
def test_other_versions_are_not_released(version):
    with pytest.raises(ValueError, match="neither"):
        CHECK["semantic_version"](version)


def version_texts(python: str, chart: str, app: str, image: str, tag: str) -> dict[str, str]:
    return {
        "server/pywharf/__init__.py": f'"""Text."""\n\n__version__ = "{python}"\n',
        "deploy/helm/pywharf/Chart.yaml": f'name: pywharf\nversion: {chart}\nappVersion: "{app}"\n',
        "Dockerfile": f"FROM x\nARG VERSION={image}\n",
        "README.md": f"$ docker push registry.example.com/pywharf:{tag}\n",
    }


@pytest.mark.parametrize(
    ("versions", "faults"),
    [
        (["1.0.0"] * 5, []),
        (["1.0.0rc1", *["1.0.0-rc.1"] * 4], []),
        (["1.0.0rc1"] * 5, ["Chart.yaml", "Chart.yaml", "Dockerfile", "README.md"]),
        (["1.0.0", "0.2.0", "1.0.0", "1.0.0", "1.0.0"], ["Chart.yaml: the version is 0.2.0"]),
        (["1.0.0", "1.0.0", "1.0.0", "1.0.0", "0.1.0"], ["README.md: the version is 0.1.0"]),
        (["1.0", *["1.0"] * 4], ["__init__.py: '1.0' is neither"]),
    ],
)
def test_distribution_chart_and_image_have_one_version(versions, faults):
    found = CHECK["version_faults"](version_texts(*versions))
    assert [fault in said for fault, said in zip(faults, found, strict=True)] == [True] * len(faults), found


def test_this_tree_is_above_the_original():
    """Pip, image tags and requirements must never mean the original of this name, whose last version is 0.2.3."""
    places = [CHECK["PYTHON_VERSION"], *CHECK["SEMANTIC_VERSIONS"]]
    assert CHECK["version_faults"]({name: (CHECKOUT / name).read_text("utf-8") for name, _ in places}) == []
    assert Version(__version__) > Version("0.2.3")
    assert not Requirement(REQUIREMENT).specifier.contains("0.2.3", prereleases=True)
    assert Requirement(REQUIREMENT).extras == {"github"}


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ('"""Reconcile a server at once."""\n', 1),
        ("a = 1  # the rest is passed over\n", 1),
        ('def a() -> int:\n    """Look\n\n    again, anew.\n    """\n    return 1\n', 1),
        ('a = 1\n"""It is told, whoever asks."""\n', 2),
        ('print("it is told at once")  # messages are not prose of the code\n', 0),
        ('"""Retry no more than twice; report it immediately."""\n', 0),
    ],
)
def test_words(source, faults):
    found = CHECK["word_faults"]("a.py", source)
    assert len(found) == faults, found
