"""The npm packages that tests/support/github/emulate pins, installed once into the cache outside the checkout."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.cluster.build import cache, held
from support.parts import missing

_SOURCE = Path(__file__).with_name("emulate")
_FILES = ("package.json", "package-lock.json")


def emulate_command() -> list[str]:
    """Return the program and its first argument. Skips the calling test if it cannot be installed."""
    npm = shutil.which("npm")
    if npm is None:
        missing("npm", "apt-get install npm; it brings GitHub's API for tests")
    machine = f"{os.uname().sysname}-{os.uname().machine}".encode()
    key = hashlib.sha256(b"\0".join([*((_SOURCE / name).read_bytes() for name in _FILES), machine])).hexdigest()[:16]
    folder = cache() / f"emulate-{key}"
    with held(folder):
        modules = folder / "node_modules"
        if not modules.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                for name in _FILES:
                    shutil.copy(_SOURCE / name, unfinished)
                command = [npm, "ci", "--no-audit", "--no-fund"]
                done = subprocess.run(command, cwd=unfinished, capture_output=True, text=True, check=False)
                if done.returncode:
                    missing("emulate from npm", f"npm ci failed: {done.stderr[-500:]}")
                (Path(unfinished) / "node_modules").rename(modules)
    return [str(modules / "node" / "bin" / "node"), str(modules / "emulate" / "dist" / "index.js")]
