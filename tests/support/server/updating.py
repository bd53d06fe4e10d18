"""`pywharf update_index file_system` as a process."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.server.serving import PYWHARF, clean_environment

TIMEOUT_S = 60.0


def update_index(
    root: Path,
    *flags: str,
    name: str = "demo",
    program: Sequence[str] = (PYWHARF,),
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start an update of one repo of a ROOT."""
    return start("update_index", "file_system", name, f"--root={root}", *flags, program=program, env=env)


def start(
    *arguments: str, program: Sequence[str] = (PYWHARF,), env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start any `pywharf` command."""
    return subprocess.Popen(
        [*program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(env),
    )


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for the process to end with this status. Returns stdout, plus stderr if the expected status is not 0."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        msg = f"still running after {TIMEOUT_S} s: {process.args!r}\n{out}{err}"
        raise AssertionError(msg) from None
    assert process.returncode == status, f"status {process.returncode}, expected {status}: {process.args!r}\n{out}{err}"
    return out if status == 0 else out + err
