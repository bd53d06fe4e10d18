"""Trusted publishing with real tools: CI jobs publish to a TLS server that stores no secret of theirs."""

import concurrent.futures
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from support.certificates import Certificates, certificates
from support.clients.computer import Computer, Index, Output
from support.clients.publishing import publish
from support.distributions.projects import source_tree
from support.distributions.wheels import wheel
from support.server.calling import Reply, call, form
from support.server.ci_identity import github_job, gitlab_job, identity_document, signed
from support.server.minting import GITHUB
from support.server.serving import PYWHARF, Server, running
from support.waiting import stretched, wait_for

WITHIN_S = 2.0
CONFIG = """
identity_file = "{identity}"

[team-a]
type = "file_system"
read_secret = "team-a-read"
[[team-a.access]]
name = "release"
permission = "Publish"
projects = ["acme-*"]
github = {{repository = "acme/tool", workflow = "release.yml", environment = "pypi", owner_id = 4711}}
[[team-a.access]]
name = "lib"
permission = "Publish"
projects = ["acme-lib"]
gitlab = {{project = "acme/lib", namespace_id = 815, environment = "production"}}

[team-b]
type = "file_system"
read_secret = "team-b-read"

[team-c]
type = "file_system"
read_secret = "team-c-read"
[[team-c.access]]
name = "release"
permission = "Publish"
github = {{repository = "acme/tool", workflow = "release.yml", environment = "pypi", owner_id = 4711}}
"""
WITHOUT_RELEASE = CONFIG.replace('name = "release"', 'name = "other"').replace("4711", "4712")


class Site:
    """Servers with TLS that share a ROOT and a session key."""

    def __init__(self, folder: Path, certificates: Certificates, servers: list[Server]) -> None:
        self.folder, self.certificates, self.servers = folder, certificates, servers

    @property
    def upload_url(self) -> str:
        return self.servers[0].repo("team-a").replace("127.0.0.1", "localhost")

    def call(
        self, path: str, body: object = None, *, server: int = 0, auth: str | None = None, raw: bytes | None = None
    ) -> Reply:
        return call(
            self.servers[server].url + path,
            "GET" if body is None and raw is None else "POST",
            auth=auth,
            body=json.dumps(body).encode() if raw is None and body is not None else raw,
            context=self.certificates.client_context(),
        )

    def mint(self, sent: str, server: int = 0, query: str = "") -> Reply:
        return self.call(f"/_/oidc/mint-token{query}", {"token": sent}, server=server)

    def reads(self, token: str, server: int = 0) -> int:
        return self.call("/repo/team-a/simple/", server=server, auth=f"__token__:{token}").status

    def upload(self, token: str, path: Path) -> Reply:
        body, content_type = form((":action", "file_upload"), ("content", path.name, path.read_bytes()))
        return call(
            self.upload_url,
            "POST",
            auth=f"__token__:{token}",
            headers={"Content-Type": content_type},
            body=body,
            context=self.certificates.client_context(),
        )

    def listed(self, project: str) -> list[str]:
        reply = call(
            f"{self.upload_url}{project}/",
            auth="team-a:team-a-read",
            headers={"Accept": "application/vnd.pypi.simple.v1+json"},
            context=self.certificates.client_context(),
        )
        return sorted(file["filename"] for file in reply.json()["files"]) if reply.status == 200 else []

    def configure(self, text: str) -> None:
        for config in self.folder.glob("*/config.toml"):
            new = config.with_suffix(".new")
            new.write_text(text.format(identity=self.folder / "identity.json"))
            new.replace(config)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    certs = certificates(folder / "tls")
    (folder / "identity.json").write_text(json.dumps(identity_document()))
    (folder / "session").write_text(secrets.token_hex(32))
    flags = (*certs.flags, f"--session_secret={folder / 'session'}")
    config = CONFIG.format(identity=folder / "identity.json")
    root = folder / "root"
    with (
        running(folder / "1", flags, config=config, root=root) as first,
        running(folder / "2", flags, config=config, root=root) as second,
    ):
        yield Site(folder, certs, [first, second])


@pytest.fixture
def computer(tmp_path: Path, site: Site) -> Computer:
    """Return a CI's machine, which trusts the servers' authority."""
    authority = str(site.certificates.authority)
    trusting = {
        "SSL_CERT_FILE": authority,
        "TWINE_CERT": authority,
        "REQUESTS_CA_BUNDLE": authority,
        "POETRY_CERTIFICATES_WHARF_CERT": authority,
    }
    return Computer(tmp_path / "home", trusting)


def uv_publish(computer: Computer, site: Site, path: Path, env: dict[str, str], *, fails: bool = False) -> Output:
    arguments = ("publish", "--trusted-publishing", "always", "--publish-url", site.upload_url, path)
    return computer.run("uv", *arguments, env=env, fails=fails)


def test_a_job_of_github_publishes_with_uv(site, computer, tmp_path):
    built = [wheel(tmp_path, "acme-tool", "1.0"), wheel(tmp_path, "acme-more", "1.0")]
    with github_job() as job:
        arguments = ("publish", "--trusted-publishing", "always", "--publish-url", site.upload_url, *built)
        computer.run("uv", *arguments, env=job.environment)
    assert [site.listed(name) for name in ("acme-tool", "acme-more")] == [[path.name] for path in built]
    assert "/_/oidc/burn-token 202" in site.servers[0].settled_text(), "uv gives the token up"


def test_a_job_of_gitlab_publishes_with_uv(site, computer, tmp_path):
    built = wheel(tmp_path, "acme-lib", "1.0")
    uv_publish(computer, site, built, gitlab_job())
    assert site.listed("acme-lib") == [built.name]


def test_a_project_beyond_the_entry_is_refused_by_its_name(site, computer, tmp_path):
    with github_job() as job:
        output = uv_publish(computer, site, wheel(tmp_path, "other", "1.0"), job.environment, fails=True)
    assert "403" in output.text
    assert "'release'" in output.text
    assert site.listed("other") == []


REFUSED = {
    "a reusable workflow": {"job_workflow_ref": "evil/shared/.github/workflows/release.yml@refs/heads/main"},
    "a name registered again": {"repository_owner_id": "4712"},
}


@pytest.mark.parametrize("claims", REFUSED.values(), ids=REFUSED)
def test_a_job_that_no_entry_names_is_told_what_to_check(site, computer, tmp_path, claims):
    with github_job(**claims) as job:
        output = uv_publish(computer, site, wheel(tmp_path, "acme-tool", "9.0"), job.environment, fails=True)
    assert "422" in output.text
    assert "invalid-publisher" in output.text
    assert not [name for name in site.listed("acme-tool") if "9.0" in name]


@pytest.mark.parametrize("tool", ["twine", "poetry"])
def test_other_tools_publish_with_an_exchanged_token(site, computer, tmp_path, tool):
    name = f"acme-{tool}"
    tree = source_tree(tmp_path / "src", name, "poetry")
    (tree.folder / "dist").mkdir()
    built = wheel(tree.folder / "dist", name, "1.0")
    with github_job() as job:
        exchanged = computer.run_program(Path(PYWHARF), "token", "exchange", site.upload_url, env=job.environment)
    token = exchanged.stdout.strip()
    assert token.startswith("pywharf-minted-")
    assert f"::add-mask::{token}" in exchanged.text
    publish(tool, computer, tree, Index(site.upload_url, "__token__", token))
    assert site.listed(name) == [built.name]


@pytest.mark.parametrize("given", ["gitlab", "file", "github for all repos"])
def test_a_token_is_exchanged_from_where_it_is(site, computer, tmp_path, given):
    path = tmp_path / "token"
    path.write_text(signed() + "\n")
    with github_job() as job:
        url, arguments, env = {
            "gitlab": (site.upload_url, (), gitlab_job()),
            "file": (site.upload_url, (f"--file={path}",), {}),
            "github for all repos": (site.upload_url.partition("/repo/")[0], (), job.environment),
        }[given]
        output = computer.run_program(Path(PYWHARF), "token", "exchange", url, *arguments, env=env)
    assert site.reads(output.stdout.strip()) == 200


# The environment is made by the test that takes it: a token ends five minutes after it was signed.
EXCHANGE_REFUSED: dict[str, tuple[Callable[[str], str], Callable[[], dict[str, str]], str]] = {
    "plain HTTP": (lambda url: url.replace("https:", "http:"), dict, "must be the https URL"),
    "a secret in the URL": (lambda url: url.replace("https://", "https://u:hunter2@"), dict, "must be the https URL"),
    "no token": (lambda url: url, dict, "There is no OIDC token"),
    "a variable that is missing": (lambda url: url, lambda: {"GITLAB_CI": "true"}, "PYWHARF_ID_TOKEN is not set"),
    "a permission that is missing": (lambda url: url, lambda: {"GITHUB_ACTIONS": "true"}, "id-token: write"),
    "another server": (lambda _: "https://localhost:9/", lambda: {"GITLAB_CI": "true"}, "cannot be reached"),
    "a used token": (
        lambda url: url,
        lambda: gitlab_job(jti="used-before"),
        "answered 422: The token was exchanged before",
    ),
}


@pytest.mark.parametrize(("change", "environment", "said"), EXCHANGE_REFUSED.values(), ids=EXCHANGE_REFUSED)
def test_an_exchange_that_fails_says_why(site, computer, change, environment, said):
    env = environment()
    if "PYWHARF_ID_TOKEN" in env:
        assert site.mint(env["PYWHARF_ID_TOKEN"]).status == 200
    output = computer.run_program(Path(PYWHARF), "token", "exchange", change(site.upload_url), env=env, fails=True)
    assert said in output.text
    assert "hunter2" not in output.text
    assert "Traceback" not in output.text


def test_a_token_is_worth_one_of_a_hundred_exchanges_on_two_servers(site):
    sent = signed()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        # Wrong secrets are counted by repo, so that the other tests are not slowed.
        replies = [*pool.map(lambda n: site.mint(sent, n % 2, "?repo=team-c"), range(100))]
    assert {reply.status for reply in replies} <= {200, 422, 429}  # further wrong ones are slowed
    assert [reply.status for reply in replies].count(200) == 1


def test_a_burned_token_ends_on_every_server_within_two_seconds(site):
    token = site.mint(signed()).json()["token"]
    assert [site.reads(token, server) for server in (0, 1)] == [200, 200]
    assert site.call("/_/oidc/burn-token", {"token": token}).status == 202
    began = time.monotonic()
    assert site.reads(token, 0) == 401
    wait_for(lambda: site.reads(token, 1) == 401, "the other server to know the burned token")
    assert time.monotonic() - began < stretched(WITHIN_S)


def test_a_token_ends_with_its_entry(site, tmp_path):
    token = site.mint(signed()).json()["token"]
    assert site.reads(token) == 200
    try:
        site.configure(WITHOUT_RELEASE)
        began = time.monotonic()
        wait_for(lambda: site.reads(token) == 401, "the entry's end")
        assert time.monotonic() - began < stretched(WITHIN_S)
        assert site.upload(token, wheel(tmp_path, "acme-tool", "3.0")).status == 401
    finally:
        site.configure(CONFIG)
        wait_for(lambda: site.mint(signed(), query="?repo=team-c").status == 200, "the entry")


def test_a_token_opens_no_repo_but_its_own(site):
    token = site.mint(signed()).json()["token"]
    answers = [site.call(f"/repo/{name}/simple/", auth=f"__token__:{token}") for name in ("team-b", "nobody")]
    assert {(a.status, a.json()["detail"]) for a in answers} == {(401, answers[0].json()["detail"])}


FORGED = {
    "an audience of another": lambda: signed(aud="pypi"),
    "expired": lambda: signed(exp=int(time.time()) - 31, iat=int(time.time()) - 400, nbf=int(time.time()) - 400),
    "another issuer": lambda: signed(iss=f"{GITHUB['iss']}/"),
    "another signature": lambda: signed().rpartition(".")[0] + "." + signed().rpartition(".")[2],
}


@pytest.mark.parametrize("sent", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_not_exchanged(site, sent):
    reply = site.mint(sent(), query="?repo=not-slowed-by-other-tests")
    assert reply.status == 422
    assert [error["code"] for error in reply.json()["errors"]] == ["invalid-token"]


def test_no_token_is_in_a_log(site, computer, tmp_path):
    sent = signed()
    token = site.mint(sent).json()["token"]
    site.upload(token, wheel(tmp_path, "acme-logged", "1.0"))
    site.mint(sent)
    site.call("/_/oidc/burn-token", {"token": token})
    for server in site.servers:
        log = server.settled_text()
        assert token not in log
        assert sent not in log
        assert sent.split(".")[2] not in log


def test_an_exchanged_token_publishes_no_longer_itself(site, tmp_path):
    sent, path = signed(), wheel(tmp_path, "acme-itself", "1.0")
    assert site.upload(sent, path).status == 200
    assert site.mint(sent).status == 200
    wait_for(lambda: site.upload(sent, path).status == 401, "the server to know that the token was exchanged")
    assert site.reads(sent) == 200


def test_a_browser_s_session_of_a_token_only_reads(site, tmp_path):
    """Otherwise an exchanged token could sign in, and publish."""
    sent = signed()
    form_sent = urlencode({"pkg_repo_name": "team-a", "pkg_repo_secret_raw": sent}).encode()
    signed_in = call(
        f"{site.servers[0].url}/login",
        "POST",
        body=form_sent,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        context=site.certificates.client_context(),
    )
    assert signed_in.status == 303
    cookie = (signed_in.header("Set-Cookie") or "").partition(";")[0]
    path = wheel(tmp_path, "acme-browser", "1.0")
    body, content_type = form((":action", "file_upload"), ("content", path.name, path.read_bytes()))
    headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    context = site.certificates.client_context()
    assert call(site.upload_url, headers=headers, context=context).status == 200
    headers["Content-Type"] = content_type
    refused = call(site.upload_url, "POST", headers=headers, body=body, context=context)
    assert (refused.status, refused.json()["detail"].partition(";")[0]) == (403, "This session allows reading only")
