"""A container's process: a program of this machine in its own mount namespace with the pod's volumes.

Nothing else is isolated: the process runs as the user of the tests (`runAsUser` and capabilities are ignored), in
the machine's network, and may write wherever the machine lets it.
"""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.parts import CHECKOUT, missing, require
from support.server.serving import clean_environment

_HINT = "root, or user namespaces that may mount (a container needs CAP_SYS_ADMIN)"


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine, mounted at `target`."""

    source: Path
    target: str
    read_only: bool = False


@functools.cache
def unshared() -> tuple[str, ...]:
    """Return the command prefix that gives a command its own mounts. Skips the calling test if that is not allowed."""
    program = str(require("unshare", "apt-get install util-linux"))
    command = (program, *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount", "--propagation=private")
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if tried.returncode:
        missing("a mount namespace", f"{_HINT} ({tried.stderr.decode().strip()})")
    return command


def start(
    command: Sequence[str], mounts: Sequence[Mount], folder: Path, env: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Start `command` with its mounts.

    The process is `command` itself and has its own process group. It ends with the thread that started it.
    """
    setpriv = str(require("setpriv", "apt-get install util-linux"))
    script = "\n".join(["set -e", *_commands(mounts, folder), f"exec {shlex.join(command)}"])
    path = folder / "start.sh"
    path.write_text(script + "\n")
    with log.open("ab") as output:
        return subprocess.Popen(
            [setpriv, "--pdeathsig=KILL", "--", *unshared(), "sh", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=clean_environment(env),
            cwd="/",
            start_new_session=True,
        )


def _commands(mounts: Sequence[Mount], folder: Path) -> list[str]:
    """Return the shell commands that make the mounts, outer ones first.

    Where a target's parent is a folder of this machine, an empty folder with links to its entries covers it, so the
    target need not exist on this machine. The sources stay bound under a path that no mount hides.
    """
    targets = {mount.target for mount in mounts}
    # The programs themselves, in case a mount (of /tmp) would hide them.
    ours = {CHECKOUT, Path(sys.prefix)}
    hidden = [Mount(path, str(path)) for path in sorted(ours) if _within(str(path), targets)]
    ordered = sorted((*mounts, *hidden), key=lambda mount: len(Path(mount.target).parts))
    bases = {_base(mount.target) for mount in ordered if not _within(mount.target, targets)}
    outermost = {base for base in bases if not _within(base, bases)}
    hold = folder / "mounts"
    hold.mkdir(exist_ok=True)
    made = []
    for number, mount in enumerate(ordered):
        held = hold / str(number)
        if mount.source.is_dir():
            held.mkdir(exist_ok=True)
        else:
            held.touch()
        made.append(f"mount --bind {_q(mount.source)} {_q(held)}")
    # The process does not need the content of /mnt.
    made += ["mount -t tmpfs none /mnt", "mkdir /mnt/held", f"mount --rbind {_q(hold)} /mnt/held"]
    for base in sorted(outermost):
        made += _mirrored(base)
    for number, mount in enumerate(ordered):
        target, shown = _q(mount.target), f"/mnt/held/{number}"
        if mount.source.is_dir():
            made.append(f"mkdir -p {target}")
        else:
            made += [f"mkdir -p {_q(Path(mount.target).parent)}", f"touch {target}"]
        made.append(f"mount --bind {shown} {target}")
        if mount.read_only:
            made.append(f"mount -o remount,bind,ro {target}")
    return made


def _within(target: str, targets: set[str]) -> bool:
    return any(str(parent) in targets for parent in Path(target).parents)


def _base(target: str) -> str:
    """Return the folder of this machine that must be mirrored so that the target can be created in it."""
    path = Path(target).parent
    while not path.is_dir():
        path = path.parent
    assert str(path) != "/" or Path(target).is_dir(), f"{target}: a mount straight in / needs a folder there"
    return str(path)


def _mirrored(base: str) -> list[str]:
    if base == "/":
        return []
    links = []
    for entry in Path(base).iterdir():
        goal = entry.readlink() if entry.is_symlink() else Path(base, ".host", entry.name)
        links.append(f"ln -s {_q(goal)} {_q(entry)}")
    return [
        "mkdir /mnt/base",
        f"mount --rbind {_q(base)} /mnt/base",
        f"mount -t tmpfs none {_q(base)}",
        f"mkdir {_q(base)}/.host",
        f"mount --rbind /mnt/base {_q(base)}/.host",
        *links,
        "umount --lazy /mnt/base",
        "rmdir /mnt/base",
    ]


def _q(path: object) -> str:
    return shlex.quote(str(path))
