"""Check that several threads may concurrently be the first to decode a type; msgspec alone would crash the process."""

import subprocess
import sys

# Run in a separate process: msgspec inspects a type only once, and a failure ends the process.
CONCURRENT = """
import sys, threading
from pathlib import Path
import msgspec
from pywharf.backends.file_system.journal import FileJournal
from pywharf.config.repo_config import FileSystemSpec, parse_config
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.codecs import decode_index
from pywharf.index.ports import JournalEntry
from pywharf.index.upstream.pages import parse_page

folder = Path(sys.argv[1])
journal = FileJournal(folder / "journal")
journal.append(JournalEntry(ProjectName("a"), File(filename="a-1.0.tar.gz", sha256="0" * 64)))
file = b'{"filename": "a-1.tar.gz", "sha256": "%s"}' % (b"0" * 64)
as_json = b'{"format": 1, "mtime": 1, "projects": {"a": {"files": [%s]}}}' % file
as_toml = '''mtime = 1
[[pkgs]]
distrib = "a"
package = "a-1.0"
ext = "tar.gz"
sha256 = "%s"
''' % ("0" * 64)
page = b'{"meta": {"api-version": "1.1"}, "files": [{"filename": "a-1.tar.gz", "url": "a", "hashes": {"sha256": "x"}}]}'
config = '[a]\\ntype = "file_system"\\nread_secret = {env = "A"}\\n'
admin = '[a]\\ntype = "file_system"\\nraw = "x"\\n'

def work(barrier):
    barrier.wait()
    FileJournal(folder / "journal").read(None)
    decode_index(as_json, "index.json").project(ProjectName("a"))
    decode_index(as_toml.encode(), "index.toml")
    parse_page(ProjectName("a"), page, "application/vnd.pypi.simple.v1+json", "http://x/simple/a/")
    parse_config(config, admin, specs={"file_system": FileSystemSpec})
    done.append(1)

done = []
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
threads = [threading.Thread(target=work, args=(barrier,)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(len(done) != 8)
"""


def test_several_threads_may_use_a_type_first(tmp_path):
    for attempt in range(4):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", CONCURRENT, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"attempt {attempt} ended with {done.returncode}:\n{done.stderr[-3000:]}"
