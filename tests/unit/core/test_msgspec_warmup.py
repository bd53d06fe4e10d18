"""Check that several threads may concurrently be the first to decode a type; msgspec alone would crash the process."""

import ast
import subprocess
import sys

from support.parts import CHECKOUT

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


def test_every_type_that_is_decoded_is_known_before():
    """Every type given to msgspec's decoders is passed to `warmed_up(...)` somewhere, or decorated with it."""
    decoded: dict[str, str] = {}
    known: set[str] = set()
    for path in sorted((CHECKOUT / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                known |= {node.name for d in node.decorator_list if ast.unparse(d) == "warmed_up"}
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "warmed_up":
                    known.add(ast.unparse(node.args[0]))
                elif called in {"msgspec.json.decode", "msgspec.convert"}:
                    types = [k.value for k in node.keywords if k.arg == "type"] or node.args[1:2]
                    for given in types:
                        decoded.setdefault(ast.unparse(given), f"{path.name}:{node.lineno}")
    unknown = {name: where for name, where in decoded.items() if name not in known and "warmed_up(" not in name}
    assert decoded
    assert not unknown, f"decorate these with core.msgspec_warmup.warmed_up: {unknown}"
