"""A user without a name, of group 0 and at home nowhere, as clusters have it that give the ids themselves."""

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
    """The command, run by that user. Elsewhere than for root the calling test is left out."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        missing("another user", "root and setpriv (util-linux) start a process as another user")
    return ("setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs", *command)


@contextmanager
def group_folder() -> Iterator[Path]:
    """A folder of root, writable by its group, as a volume is whose group the cluster gives."""
    made = Path(tempfile.mkdtemp(prefix="pywharf-any-user-"))
    try:
        made.chmod(0o770 | stat.S_ISGID)
        yield made
    finally:
        shutil.rmtree(made)
