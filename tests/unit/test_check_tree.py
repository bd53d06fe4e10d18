import runpy

import pytest

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
