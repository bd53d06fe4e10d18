"""Faults at chosen file system calls: an error, a pause, or the process's sudden end.

In a test: `with injected(Fault("os.link", do="EPERM")):`. In a separate process: `PROGRAM` with `environment(...)`,
which runs this file as the command `pywharf`.
"""

import contextlib
import errno
import io
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "FAULTS"
CALLS = (
    "os.link",
    "os.fsync",
    "os.fdatasync",
    "os.replace",
    "os.rename",
    "os.write",
    "os.mkdir",
    "file.open",
    "file.write",
)
PROGRAM = (sys.executable, __file__)


@dataclass(frozen=True)
class Fault:
    """A fault `before` or `after` the `nth` call (0: each call) of `call` on a path that the pattern `path` matches.

    `file.open` is Path.open for writing, `file.write` a write to a file opened that way. `do` is an errno's name,
    `kill` or `sleep SECONDS`. For os.write it may also be `half` (write half, then kill) or `short ERRNO` (write half,
    then raise the error).
    """

    call: str
    path: str = ""
    do: str = "ENOSPC"
    nth: int = 0
    when: str = "before"

    def __post_init__(self) -> None:
        assert self.call in CALLS, self.call
        assert self.when in {"before", "after"}, self.when


def environment(*faults: Fault) -> dict[str, str]:
    """Return the environment that passes the faults to `PROGRAM`."""
    return {VARIABLE: json.dumps([asdict(f) for f in faults])}


class _Faults:
    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._seen = [0] * len(faults)
        self._lock = threading.Lock()

    def of(self, call: str) -> "_Faults":
        return _Faults([f for f in self._faults if f.call == call])

    def __bool__(self) -> bool:
        return bool(self._faults)

    def matches(self, path: str) -> bool:
        return any(re.search(f.path, path) for f in self._faults)

    def around(self, paths: Sequence[str], call: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        due = self._due(paths)
        for fault in due:
            if fault.do == "half" or fault.do.startswith("short "):
                assert half is not None
                half()
            if fault.when == "before":
                _do(fault, paths)
        result = call()
        for fault in due:
            if fault.when == "after":
                _do(fault, paths)
        return result

    def _due(self, paths: Sequence[str]) -> list[Fault]:
        due = []
        with self._lock:
            for number, fault in enumerate(self._faults):
                if any(re.search(fault.path, path) for path in paths):
                    self._seen[number] += 1
                    if fault.nth in {0, self._seen[number]}:
                        due.append(fault)
        return due


def _do(fault: Fault, paths: Sequence[str]) -> None:
    match fault.do.split():
        case ["kill" | "half"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case [*_, name]:
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number), paths[0])


@contextlib.contextmanager
def injected(*faults: Fault) -> Iterator[None]:
    """Inject the faults into this process within the context."""
    everything = _Faults(faults)
    undo: list[Callable[[], None]] = []

    def patch(owner: Any, name: str, replacement: Any) -> None:
        original = getattr(owner, name)
        undo.append(lambda: setattr(owner, name, original))
        setattr(owner, name, replacement)

    for call in CALLS:
        chosen = everything.of(call)
        if not chosen:
            continue
        owner, _, name = call.partition(".")
        if owner == "file":
            patch(Path, "open", _opener(Path.open, chosen, fails=name == "open"))
        else:
            patch(os, name, _wrapped(getattr(os, name), chosen))
    try:
        yield
    finally:
        for one in reversed(undo):
            one()


def _wrapped(original: Callable[..., Any], faults: _Faults) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        def half() -> Any:
            return original(args[0], args[1][: len(args[1]) // 2])

        return faults.around([_path(a) for a in args[:2]], lambda: original(*args, **kwargs), half)

    return call


def _path(given: object) -> str:
    if isinstance(given, int):
        try:
            return str(Path(f"/proc/self/fd/{given}").readlink())
        except OSError:
            return ""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else ""


class _FaultyFile(io.FileIO):
    faults: _Faults

    def write(self, content: Any) -> int:
        written: int = self.faults.around([str(self.name)], lambda: super(_FaultyFile, self).write(content))
        return written


def _opener(original: Callable[..., Any], faults: _Faults, *, fails: bool) -> Callable[..., Any]:
    """Return a Path.open that has the faults itself (`fails`), otherwise in the writes to the files it opens."""

    def call(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "b" not in mode or not set(mode) & {"w", "x", "a"} or not faults.matches(str(path)):
            return original(path, mode, *args, **kwargs)
        if fails:
            return faults.around([str(path)], lambda: original(path, mode, *args, **kwargs))
        opened = _FaultyFile(str(path), mode.replace("b", ""))
        opened.faults = faults
        return opened

    return call


if __name__ == "__main__":
    from pywharf.cli.main import main

    with injected(*(Fault(**f) for f in json.loads(os.environ.pop(VARIABLE)))):
        main()
