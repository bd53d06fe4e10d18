"""npm packages that a folder pins by package.json and package-lock.json, installed once into the cache."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.cluster.build import cache, held
from support.parts import missing

_FILES = ("package.json", "package-lock.json")


def installed(source: Path) -> Path:
    """Return the `node_modules` of the folder's packages. Skips the calling test if they cannot be installed."""
    npm = shutil.which("npm")
    if npm is None:
        missing("npm", f"apt-get install npm; it brings {source.name} for tests")
    machine = f"{os.uname().sysname}-{os.uname().machine}".encode()
    key = hashlib.sha256(b"\0".join([*((source / name).read_bytes() for name in _FILES), machine])).hexdigest()[:16]
    folder = cache() / f"{source.name}-{key}"
    with held(folder):
        modules = folder / "node_modules"
        if not modules.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                for name in _FILES:
                    shutil.copy(source / name, unfinished)
                command = [npm, "ci", "--no-audit", "--no-fund"]
                done = subprocess.run(command, cwd=unfinished, capture_output=True, text=True, check=False)
                if done.returncode:
                    missing(f"{source.name} from npm", f"npm ci failed: {done.stderr[-500:]}")
                (Path(unfinished) / "node_modules").rename(modules)
    return modules
