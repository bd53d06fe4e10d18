"""Tests of github.init_pkg_repo and github.gen_gh_pages as people run them, against GitHub's API."""

import json
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from pywharf.backends.github.releases import body_of
from pywharf.backends.github.workflow import is_untouched
from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import GithubSpec, parse_config
from pywharf.core.model import File
from pywharf.core.names import RepoName, normalize
from support.clients.computer import Computer
from support.distributions.wheels import metadata, wheel
from support.github.faults import Fault
from support.github.repository import OWNER, Github, TestRepository, asked
from support.server.serving import PYWHARF, clean_environment

WITHOUT_THE_EXTRA = """
import sys
sys.modules["github"] = sys.modules["nacl"] = None
from pywharf.cli.main import main
sys.argv = ["pywharf", *sys.argv[1:]]
main()
"""


@pytest.fixture
def planned(github) -> TestRepository:
    """Return a repository that does not exist yet, with a token of its owner."""
    name = f"made-{len(github.api.tokens)}-{len(github.api.calls)}"
    token = f"ghp_{name.replace('-', '_')}_owner"
    github.api.tokens[token] = {"*": "admin"}
    return TestRepository(github, name, token)


def run(command: str, of: TestRepository, *flags: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command on that repository, with its admin's token in the environment."""
    arguments = [f"--owner={OWNER}", f"--repo={of.name}", f"--api_url={of.github.url}", "--secret_env=TOKEN", *flags]
    done = subprocess.run(
        [PYWHARF, *command.split(), *arguments],
        env={**clean_environment(), "TOKEN": of.admin, "LESS": "ghp_less"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert of.admin not in done.stdout + done.stderr
    return done


def init(of: TestRepository, *flags: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    return run("github.init_pkg_repo --name=team-a", of, *flags, status=status)


def steps(done: subprocess.CompletedProcess[str], before: str = "") -> list[str]:
    """Return the steps that the command reports as done or, after the prefix `before`, as planned."""
    verbs = ("Create ", "Write ", "Replace ", "Set ", "Enable ", "Rename ", "Let ")
    lines = [line.removeprefix(before) for line in done.stderr.splitlines() if line.startswith(before)]
    return [line for line in lines if line.startswith(verbs)]


def writes(of: TestRepository) -> list[tuple[str, str]]:
    calls = [one for one in of.github.api.calls if one.token == of.admin and one.path != "/graphql"]
    made = [(one.verb, one.path) for one in calls if one.verb != "GET"]
    return [(verb, path.removeprefix(f"/repos/{of.full_name}")) for verb, path in made]


def file_of(of: TestRepository, path: str, branch: str = "master") -> str:
    status, found = asked(f"{of.github.url}/repos/{of.full_name}/contents/{path}?ref={branch}", of.admin)
    assert status == 200, f"{path}: {status}"
    _, blob = asked(f"{of.github.url}/repos/{of.full_name}/git/blobs/{found['sha']}", of.admin)
    return b64decode(blob["content"]).decode()


WORKFLOW = ".github/workflows/update_index.yml"


def test_from_nothing_then_again(planned):
    tried = init(planned, "--workflow_secret_env=LESS", "--dry-run")
    assert writes(planned) == []
    assert asked(f"{planned.github.url}/repos/{planned.full_name}", planned.admin)[0] == 404
    made = init(planned, "--workflow_secret_env=LESS")
    assert steps(tried, "Would: ") == steps(made)
    assert len(steps(made)) == 5
    _, about = asked(f"{planned.github.url}/repos/{planned.full_name}", planned.admin)
    assert (about["private"], about["default_branch"]) == (True, "master")
    _, branches = asked(f"{planned.github.url}/repos/{planned.full_name}/branches", planned.admin)
    assert [one["name"] for one in branches] == ["master"]
    assert planned.kept.secrets == {"PYWHARF_TOKEN": "ghp_less"}
    assert file_of(planned, "README.md").startswith(f"# {planned.name}\n\nPython packages")
    assert file_of(planned, "index.toml") == "mtime = 0\npkgs = []\n"
    text = file_of(planned, WORKFLOW)
    assert is_untouched(text)
    assert yaml.safe_load(text)["jobs"].keys() == {"update_index"}
    # The dry run shows the text that is then written.
    assert all(line in tried.stderr for line in text.splitlines())
    config, _, secrets = made.stdout.partition("# Of its --admin_secret:")
    parsed = parse_config(config, secrets, specs=spec_types())
    spec = parsed.repos[RepoName("team-a")]
    assert isinstance(spec, GithubSpec)
    assert spec.repo == planned.name
    assert parsed.admin_secrets[RepoName("team-a")].env == "LESS"
    assert "ghp_less" not in made.stdout + made.stderr + tried.stdout + tried.stderr

    before = writes(planned)
    again = init(planned, "--workflow_secret_env=LESS")
    assert writes(planned) == before
    assert "Nothing to do." in again.stderr
    assert again.stdout == made.stdout
    # The workflow's command works immediately, and commits nothing if there is no package.
    run("update_index github team-a", planned, "--branch=master")
    assert writes(planned) == before


def test_pages_of_a_public_one(planned):
    refused = init(planned, "--enable_gh_pages", status=2)
    assert "would tell everybody the names" in refused.stderr
    made = init(planned, "--enable_gh_pages", "--no_private", "--branch=main")
    assert "Enable GitHub Pages, built by the workflow." in steps(made)
    assert planned.kept.pages == {"build_type": "workflow"}
    assert yaml.safe_load(file_of(planned, ".github/workflows/gen_gh_pages.yml", "main"))["jobs"].keys() == {"pages"}
    before = writes(planned)
    init(planned, "--enable_gh_pages", "--no_private", "--branch=main")
    assert writes(planned) == before


def test_one_that_is_there(github):
    repository = github.repository()
    base = f"{github.url}/repos/{repository.full_name}/contents"
    _, old = asked(f"{base}/README.md", repository.admin)
    mine = {"message": "Mine", "branch": "main", "content": "TWluZQo=", "sha": old["sha"]}
    assert asked(f"{base}/README.md", repository.admin, "PUT", mine)[0] == 200
    refused = init(repository, status=2)
    assert "give --branch=main" in refused.stderr
    made = init(repository, "--branch=main", "--index_filename=index.json")
    assert "README.md is left as it is." in made.stderr
    assert file_of(repository, "README.md", "main") == "Mine\n"
    assert json.loads(file_of(repository, "index.json", "main"))["projects"] == {}
    assert repository.kept.secrets == {"PYWHARF_TOKEN": repository.admin}

    _, stored = asked(f"{base}/{WORKFLOW}?ref=main", repository.admin)
    change = {"message": "Mine", "branch": "main", "content": "bmFtZTogbWluZQo=", "sha": stored["sha"]}
    assert asked(f"{base}/{WORKFLOW}", repository.admin, "PUT", change)[0] == 200
    left = init(repository, "--branch=main", "--index_filename=index.json")
    assert "was changed by somebody and is left as it is; --force replaces it." in left.stderr
    assert file_of(repository, WORKFLOW, "main") == "name: mine\n"
    forced = init(repository, "--branch=main", "--index_filename=index.json", "--force", "--replace-secret")
    assert steps(forced) == [
        "Replace the Actions secret PYWHARF_TOKEN.",
        f"Replace {WORKFLOW} in the branch main.",
    ]
    assert is_untouched(file_of(repository, WORKFLOW, "main"))


@pytest.mark.parametrize(
    ("level", "flags", "status", "said"),
    [
        ("none", (), 2, "If it exists already, your token must be allowed to see it; otherwise choose another name."),
        ("none", ("--owner=nobody",), 1, "Or create an empty one by hand"),
        ("read", (), 1, "Contents: write (classic: scope repo)"),
        (None, (), 1, "GitHub does not know this token"),
        ("read", ("--repo=a/b",), 2, "repo is 'a/b'"),
        ("read", ("--name=-",), 2, "--name: '-' is not a valid repo name"),
        ("read", ("--branc=x",), 2, "Did you mean"),
        ("read", ("--secret=x",), 2, "--secret and --secret_env do not go together; give one."),
        ("read", ("--workflow-secret-env=NONE",), 2, "--workflow_secret_env: the environment variable NONE is empty"),
        ("read", ("--api_url=http://h/${{x}}",), 2, "api_url may hold no '{'"),
        ("read", ("--requirement=${{ secrets.X }}",), 2, "requirement must be one in one line"),
        ("read", ("--requirement=a\nb",), 2, "requirement must be one in one line"),
        ("read", ("--requirement=",), 2, "requirement must be one in one line"),
    ],
)
def test_refusals_say_what_to_do(github, level, flags, status, said):
    repository = github.repository()
    repository.admin = "ghp_unknown" if level is None else repository.token_of(level)
    done = init(repository, "--branch=main", *flags, status=status)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


REFUSED = {"message": "refusing to allow a Personal Access Token to create or update workflow without `workflow` scope"}


@pytest.mark.parametrize(
    ("fault", "status", "said", "left"),
    [
        (Fault("POST", "/git/refs"), 1, "GitHub cannot be reached, or broke off", 5),
        (Fault("PUT", "/contents/README.md", when="after"), 1, "GitHub cannot be reached, or broke off", 3),
        (Fault("PUT", "/contents/index.toml", 409), 2, "Somebody may have changed it in the meantime", 3),
        (Fault("GET", "/actions/secrets/public-key", 403, body=REFUSED), 1, "Secrets: write (classic: scope repo)", 2),
        (Fault("PUT", f"/contents/{WORKFLOW}", 403, body=REFUSED), 1, "Workflows: write and Contents: write", 1),
    ],
)
def test_a_run_that_broke_off_is_finished_by_the_next(planned, fault, status, said, left):
    planned.fail(fault)
    broken = init(planned, status=status)
    assert said in broken.stderr
    assert "Traceback" not in broken.stderr
    planned.mend()
    assert len(steps(init(planned))) == left
    _, branches = asked(f"{planned.github.url}/repos/{planned.full_name}/branches", planned.admin)
    assert [one["name"] for one in branches] == ["master"]
    assert planned.kept.secrets == {"PYWHARF_TOKEN": planned.admin}
    assert is_untouched(file_of(planned, WORKFLOW))
    before = writes(planned)
    init(planned)
    assert writes(planned) == before


@pytest.mark.parametrize("command", ["github.init_pkg_repo --name=x", "github.gen_gh_pages"])
def test_without_the_extra(command):
    arguments = [*command.split(), "--owner=acme", "--repo=x", "--secret=x"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA, *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "pip install 'pywharf[github]'" in done.stderr
    command_line = [sys.executable, "-c", WITHOUT_THE_EXTRA, "--help"]
    listed = subprocess.run(command_line, env=clean_environment(), capture_output=True, check=True, timeout=60)
    assert b"github.gen_gh_pages" in listed.stdout
    assert b"github.init_pkg_repo" in listed.stdout


class _Site(SimpleHTTPRequestHandler):
    """A static server that also serves release assets under GitHub's paths."""

    def __init__(self, repository: TestRepository, asked_for: list[str], *rest: object, **more: object) -> None:
        self._repository, self._asked_for = repository, asked_for
        super().__init__(*rest, **more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._asked_for.append(self.path)
        if not self.path.startswith("/releases/download/"):
            super().do_GET()
            return
        tag, name = map(unquote, self.path.split("/")[3:])
        release = self._repository.kept.releases.by_tag(tag)
        found = [one for one in (release.assets.values() if release else ()) if one.name == name]
        if not found:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(found[0].content)))
        self.end_headers()
        self.wfile.write(found[0].content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(github, tmp_path) -> Iterator[tuple[TestRepository, Path, str, list[str]]]:
    """Yield a repository, the served folder, its URL and the list of requested paths."""
    folder = tmp_path / "site"
    folder.mkdir()
    repository = github.repository()
    asked_for: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Site, repository, asked_for, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield repository, folder, f"http://127.0.0.1:{server.server_port}", asked_for
    server.shutdown()
    thread.join(30)
    server.server_close()


def release(of: TestRepository, path: Path, project: str, requires_python: str = ">=3.8") -> None:
    """Add a release as an upload leaves it."""
    content = path.read_bytes()
    core = metadata(project, path.name.split("-")[1], requires_python)
    file = File(
        filename=path.name,
        sha256=sha256(content).hexdigest(),
        size=len(content),
        requires_python=requires_python,
        metadata_sha256=sha256(core).hexdigest(),
    )
    kept = of.kept.releases.add({"tag_name": path.name, "body": body_of(normalize(project), file)})
    of.kept.releases.attach(kept.id, path.name, content)
    of.kept.releases.attach(kept.id, f"{path.name}.metadata", core)


def test_pip_and_uv_install_from_a_static_site(site, tmp_path):
    repository, folder, url, asked_for = site
    for version, requires in (("1.0", ">=3.8"), ("2.0+cpu.1", ">=3.8"), ("3.0", ">=99")):
        made = wheel(tmp_path, "one", version, payload=f"VALUE = {version!r}\n".encode(), requires_python=requires)
        release(repository, made, "one", requires)
    release(repository, wheel(tmp_path, "two"), "two")
    run("update_index github team-a", repository, "--branch=main")
    generate = ("--branch=main", f"--folder={folder}", f"--download_base={url}/releases/download")
    run("github.gen_gh_pages", repository, *generate)
    assert json.loads((folder / "simple" / "one" / "index.json").read_bytes())["meta"] == {"api-version": "1.4"}

    computer = Computer(tmp_path / "home")
    for install in ("pip_install", "uv_install"):
        python = computer.python(install)
        getattr(python, install)(f"{url}/simple/").run(computer, "one")
        assert python.installed() == {"one": "2.0+cpu.1"}
        assert python.value("one") == "2.0+cpu.1"
    assert any(path.endswith(".metadata") for path in asked_for)
    assert not any("three" in path or "3.0" in path for path in asked_for)

    gone = repository.kept.releases.by_tag("two-1.0-py3-none-any.whl")
    del repository.kept.releases.all[gone.id]
    run("update_index github team-a", repository, "--branch=main")
    again = run("github.gen_gh_pages", repository, *generate)
    assert "1 projects: 2 files written" in again.stderr
    assert sorted(path.name for path in (folder / "simple").iterdir()) == ["index.html", "index.json", "one"]


def test_of_a_local_index(github: Github, tmp_path):
    index = tmp_path / "index.json"
    index.write_text('{"format":1,"mtime":1,"projects":{"a":{}}}')
    command = [PYWHARF, "github.gen_gh_pages", "--owner=acme", "--repo=wheels", f"--index={index}", "--folder=out"]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "out/simple\n"), done.stderr
    assert (tmp_path / "out" / "simple" / "a" / "index.html").exists()


def test_an_index_that_is_not_there(github):
    done = run("github.gen_gh_pages", github.repository(), "--branch=main", status=1)
    assert "There is no index.toml in the branch 'main'" in done.stderr
