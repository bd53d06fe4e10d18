"""A real server and real clients on the example of a third party's backend."""

import hashlib
import json
import subprocess

from support.clients.computer import Computer, Index
from support.distributions.wheels import wheel
from support.server.serving import PYWHARF, clean_environment, running
from support.storage.example_backend import install_example

CONFIG = """
[team-a]
type = "sqlite"
read_secret = "team-a-read"
write_secret = "team-a-write"
"""


def test_clients_publish_and_install(tmp_path, computer: Computer):
    env = {"PYTHONPATH": str(install_example(tmp_path / "installed"))}
    built = wheel(tmp_path, "acme-thing", payload=b"x" * 700_000)
    with running(tmp_path / "server", config=CONFIG, env=env) as server:
        url = server.repo("team-a")
        upload = ("upload", "--non-interactive", "--repository-url", url, "-u", "team-a", "-p", "team-a-write", built)
        computer.run("twine", *upload)
        computer.run("twine", *upload)  # the same bytes again
        (tmp_path / "other").mkdir()
        changed = wheel(tmp_path / "other", "acme-thing", payload=b"other bytes")
        refused = computer.run("twine", *upload[:-1], changed, fails=True)
        assert "File already exists" in refused.text

        index = Index(url, "team-a", "team-a-read").with_user
        computer.run("pip", "download", f"--index-url={index}", "--no-deps", "--dest", tmp_path / "got", "acme-thing")
        (fetched,) = (tmp_path / "got").iterdir()
        assert hashlib.sha256(fetched.read_bytes()).digest() == hashlib.sha256(built.read_bytes()).digest()
        computer.python().pip_install(index).run(computer, "acme-thing")
        assert computer.python().installed() == {"acme-thing": "1.0"}

        done = subprocess.run(
            [PYWHARF, "update_index", "sqlite", "team-a", f"--root={server.root}"],
            env=clean_environment(env),
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["files"] == 1
        computer.run("pip", "download", f"--index-url={index}", "--no-deps", "--dest", tmp_path / "again", "acme-thing")
