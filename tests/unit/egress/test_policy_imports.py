"""Check what a run of update_index on a volume imports: an HTTP client would be a third of its start."""

import subprocess
import sys

PROGRAM = """
import sys
import pywharf.backends.file_system.backend, pywharf.cli.update_index
print("aiohttp" in sys.modules)
"""


def test_a_run_on_a_volume_imports_no_http_client():
    assert subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout == b"False\n"
