"""Commands on a pseudo-terminal."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping

from support.server.serving import clean_environment


def on_terminal(command: list[str], env: Mapping[str, str]) -> tuple[int, str]:
    """Run with stdout and stderr on a pseudo-terminal. Returns the status and what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=clean_environment(env))
    os.close(theirs)
    shown = bytearray()
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            readable, _, _ = select.select([ours], [], [], 0.1)
            if not readable:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # no process holds the other side any longer
                break
            if not piece:
                break
            shown += piece
    finally:
        os.close(ours)
        process.kill()
    return process.wait(10), shown.decode()
