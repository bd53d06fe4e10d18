"""A user without a name or home, in group 0, like the users of clusters that assign the ids themselves."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.parts import missing

USER = 1000680000
GROUP = 0
HOME = {"HOME": "/nonexistent"}


def as_any_user(*command: str) -> tuple[str, ...]:
    """Return the command line that runs `command` as that user. Skips the calling test without root or setpriv."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        missing("another user", "root and setpriv (util-linux) start a process as another user")
    return ("setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs", *command)


@contextmanager
def group_folder() -> Iterator[Path]:
    """Create a folder of root that its group may write, like a volume whose group the cluster assigns."""
    made = Path(tempfile.mkdtemp(prefix="pywharf-any-user-"))
    try:
        made.chmod(0o770 | stat.S_ISGID)
        yield made
    finally:
        shutil.rmtree(made)
