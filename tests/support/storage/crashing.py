"""Processes killed at each step of an operation on a repo's folder.

`python crashing.py FOLDER OPERATION` copies FOLDER/start for each step, forks, and kills the child at that step. It
prints a line for each step: the copy, the step, and whether the child ended by itself.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pywharf.core.names import ProjectName
from pywharf.index.ports import Action, Change, Delete, SetStatus, SetYanked, StoredIndex
from support.storage.faults import CALLS, Fault, injected
from support.storage.storages import REPO, STORAGES
from support.storage.uploads import publish

HERE = Path(__file__).resolve()
TIMEOUT_S = 100
NEW_INDEX = b'{"format":1,"mtime":2,"projects":{}}' + b" " * 100_000


@dataclass(frozen=True)
class Crash:
    """One run. `root` is the ROOT that the process left; `ended` means that it was not killed but ended by itself."""

    root: Path
    step: str
    ended: bool


def crashes(folder: Path, operation: str) -> list[Crash]:
    """Return one crash for each step of the operation on the ROOT FOLDER/start; FOLDER/new holds the wheel."""
    done = subprocess.run(
        [sys.executable, str(HERE), str(folder), operation],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [Crash(Path(root), step, ended == "ended") for root, step, ended in lines]


async def _publish(root: Path, wheel: Path) -> None:
    await publish(STORAGES["file_system"].make(root)("index.json"), wheel)


async def _adopt(root: Path, wheel: Path) -> None:
    """Scan a storage where somebody has put the wheel."""
    shutil.copy(wheel, root / "cache" / REPO / "storage" / "foo")
    backend = STORAGES["file_system"].make(root)("index.json")
    async for _ in backend.scan(lambda _n, _what: None):
        pass


async def _write_index(root: Path, wheel: Path) -> None:
    backend = STORAGES["file_system"].make(root)("index.json")
    current = await backend.read_index()
    expected = current.version if isinstance(current, StoredIndex) else None
    await backend.write_index(NEW_INDEX, expected=expected)


async def _fold(root: Path, wheel: Path) -> None:
    backend = STORAGES["file_system"].make(root)("index.json")
    await backend.fold_journal((await backend.read_journal()).cursor)


async def _change(root: Path, action: Action) -> None:
    backend = STORAGES["file_system"].make(root)("index.json")
    await backend.change(Change(ProjectName("foo"), action))


OPERATIONS: Mapping[str, Callable[[Path, Path], Coroutine[Any, Any, None]]] = {
    "publish": _publish,
    "adopt": _adopt,
    "write_index": _write_index,
    "fold": _fold,
    "yank": lambda root, _wheel: _change(root, SetYanked("foo-1.0-py3-none-any.whl", "broken")),
    "delete": lambda root, _wheel: _change(root, Delete("foo-1.0-py3-none-any.whl")),
    "archive": lambda root, _wheel: _change(root, SetStatus("archived", "use bar")),
}


KILLS = [(call, when) for call in CALLS for when in ("before", "after")]
AT_MOST = 20


def main(folder: Path, operation: str) -> None:
    """Run the operation once for each fault. The parent never starts a thread, so forking it is safe."""
    (wheel,) = (folder / "new").iterdir()
    for call, when in KILLS:
        for nth in range(1, AT_MOST):
            if _tried(folder, operation, wheel, Fault(call, do="kill", nth=nth, when=when)):
                break
    for nth in (1, 2):
        _tried(folder, operation, wheel, Fault("os.write", do="half", nth=nth))


def _tried(folder: Path, operation: str, wheel: Path, fault: Fault) -> bool:
    """Run the operation in a child with the fault; returns whether it ended by itself."""
    step = f"{fault.do} {fault.when} {fault.call} no. {fault.nth}"
    root = folder / step.replace(" ", "-")
    shutil.copytree(folder / "start", root)
    child = os.fork()
    if not child:
        with injected(fault):
            asyncio.run(OPERATIONS[operation](root, wheel))
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sys.stdout.write(f"{root}\t{step}\t{'ended' if ended else 'killed'}\n")
    sys.stdout.flush()
    return ended


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
