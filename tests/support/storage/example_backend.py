"""The example of a third party's backend, installed as its users install it."""

import subprocess
import sys
from pathlib import Path

from support.parts import CHECKOUT

FOLDER = CHECKOUT / "examples" / "backend"


def install_example(target: Path) -> Path:
    """Build the example and install it into an empty folder, without network; returns the folder, for PYTHONPATH."""
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", target)
    command = [sys.executable, "-m", "pip", "install", "--quiet", *options, FOLDER]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return target
