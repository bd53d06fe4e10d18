"""`pywharf up` and `pywharf render` as users run them."""

import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from pywharf.core.access.tokens import digest_of, new_token
from support.parts import CHECKOUT
from support.server.serving import PYWHARF, clean_environment

QUICKSTART = CHECKOUT / "examples" / "quickstart"
SERVED_WITHIN_S = 30.0


@dataclass
class Up:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def status(self, name, secret):
        token = base64.b64encode(f"{name}:{secret}".encode()).decode()
        request = urllib.request.Request(f"{self.url}/repo/{name}/simple/", headers={"Authorization": f"Basic {token}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def becomes(self, name, secret, status):
        end = time.monotonic() + SERVED_WITHIN_S
        while self.status(name, secret) != status:
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def says(self, text):
        end = time.monotonic() + SERVED_WITHIN_S
        while text not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)


@contextlib.contextmanager
def running(folder, tmp_path):
    log = tmp_path / "up.log"
    command = [PYWHARF, "up", str(folder), "--root", str(tmp_path / "root"), "--port", "0"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with log.open("wb") as output:
        environment = clean_environment({"TMPDIR": str(temporary)})
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        end = time.monotonic() + 20
        while not (found := re.search(r"Serving on (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield Up(process, found[1], log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert list(temporary.iterdir()) == []  # no secret is left behind
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(QUICKSTART, tmp_path / "manifests"))


def test_manifests_come_change_break_and_go(folder, tmp_path):
    with running(folder, tmp_path) as up:
        assert up.status("demo", "demo-read") == 200
        assert up.status("demo", "wrong") == 401
        second = (folder / "repo.yaml").read_text().replace("name: demo\n", "name: second\n")
        (folder / "second.yaml").write_text(second)
        up.becomes("second", "demo-read", 200)
        (folder / "third.yaml").write_text(second.replace("second", "third").replace("fileSystem", "filesystem"))
        up.says("problem: third.yaml, document 1 (PackageRepo default/third): the field spec.backend.filesystem is")
        assert up.status("demo", "demo-read") == up.status("second", "demo-read") == 200
        assert up.status("third", "demo-read") == 401
        (folder / "third.yaml").unlink()
        up.says("solved: third.yaml")
        secret = folder / "secret.yaml"
        secret.write_text(secret.read_text().replace("demo-read", "another-read"))
        up.becomes("demo", "another-read", 200)
        assert up.status("demo", "demo-read") == 401
        secret.write_text(secret.read_text().replace("pywharf.dev/credentials", "x"))
        up.becomes("demo", "another-read", 401)
        up.says("(SecretNotLabelled)")
        up.says("Index of demo: updated")
        assert not re.search("(demo|another)-(read|write)", up.log.read_text())


def test_the_folder_is_owned(folder, tmp_path):
    """The rendered owner reaches the storage, so that another repo with the same name is refused."""
    with running(folder, tmp_path) as up:
        up.says("Index of demo:")
    repo = (folder / "repo.yaml").read_text()
    thief = repo.replace("name: demo\n", "name: thief\n", 1).replace("spec:", "spec:\n  repoName: demo")
    (folder / "repo.yaml").write_text(thief)
    shutil.rmtree(tmp_path / "tmp")
    with running(folder, tmp_path) as up:
        assert up.status("demo", "demo-read") == 503


def pywharf(*arguments, cwd=None):
    command = [PYWHARF, *arguments]
    env = clean_environment()
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, timeout=60, env=env)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["up", "nowhere"], 2, "Directory 'nowhere' does not exist"),
        (["up", str(QUICKSTART), "--port", "99999"], 2, "99999 is not in the range"),
        (["up", str(QUICKSTART), "--host", "192.0.2.1", "--port", "1"], 2, "Cannot listen on 192.0.2.1 port 1"),
        (["render", str(QUICKSTART), "--namespace", "A b"], 2, "namespace is 'A b': it must be lower-case letters"),
        (["render", "nowhere"], 2, "Directory 'nowhere' does not exist"),
        (["render", str(QUICKSTART)], 0, "demo.read: ZGVtby1yZWFk"),
        (["render", str(QUICKSTART), "--namespace", "ml"], 0, "namespace: ml"),
        (["render", str(CHECKOUT / "tests" / "golden" / "render" / "broken")], 1, "problem: input.yaml, document 1"),
    ],
    ids=[
        "up nowhere",
        "up port",
        "up host",
        "render bad namespace",
        "render nowhere",
        "render",
        "render namespace",
        "render broken",
    ],
)
def test_exit_codes(arguments, status, words, tmp_path):
    run = pywharf(*arguments, cwd=tmp_path)
    assert run.returncode == status, run.stderr
    assert words in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", ["up", "render"])
def test_help_has_defaults_and_an_example(command):
    run = pywharf(command, "--help")
    assert "Example:\n" in run.stdout
    assert "[default:" in run.stdout


def manifests(*entries, **identity):
    """Return a server and a repo without any Secret."""
    version = "pywharf.dev/v1alpha1"
    spec: dict[str, Any] = {"storage": {"size": "1Gi"}, "upstream": {"mode": "None"}, "identity": identity}
    server = {"apiVersion": version, "kind": "PackageServer", "metadata": {"name": "pywharf"}, "spec": spec}
    spec = {"backend": {"fileSystem": {}}, "access": list(entries)}
    repo = {"apiVersion": version, "kind": "PackageRepo", "metadata": {"name": "team"}, "spec": spec}
    return yaml.safe_dump_all([server, repo])


def test_up_believes_tokens_and_issuers_and_no_service_account(tmp_path):
    """An issuer's keys in the manifest, as in an air gap; an entry that is taken out is refused without a restart."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "one"}
    issuer = {"name": "corp", "url": "https://sso.corp.example", "jwks": json.dumps({"keys": [public]})}
    now = int(time.time())

    def signed(subject):
        claims = {"iss": issuer["url"], "aud": "pywharf", "sub": subject, "iat": now, "exp": now + 600}
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "one"})

    token = new_token()
    by_digest = {"name": "ci", "permission": "Read", "tokenDigests": [digest_of(token)]}
    by_claims = {"name": "builds", "permission": "Publish", "oidc": {"issuer": "corp", "claims": {"sub": "build-*"}}}
    pods = {"name": "pods", "permission": "Read", "serviceAccounts": [{"namespace": "ml", "name": "*"}]}
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(manifests(by_digest, by_claims, pods, issuers=[issuer]))
    with running(folder, tmp_path) as up:
        up.becomes("team", token, 200)
        up.becomes("team", signed("build-7"), 200)
        assert up.status("team", signed("other")) == 401
        up.says("AccessResolved is False (NoCluster)")
        up.says("password: a token of a client that spec.access names: ci, builds, pods")
        up.says("--username __token__ dist/*\n    (password: a token of a client that spec.access names: builds)")
        (folder / "a.yaml").write_text(manifests(by_claims, issuers=[issuer]))
        up.says("solved: PackageRepo default/team: AccessResolved is False (NoCluster)")
        up.becomes("team", token, 401)
        assert up.status("team", signed("build-7")) == 200
        text = up.log.read_text()
    assert token not in text
    assert signed("build-7") not in text
