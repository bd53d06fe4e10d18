"""Tests of a server with GitHub repos, from twine to pip and uv, with the repos' own secrets or GitHub's tokens."""

import hashlib
import http.client
import os
import subprocess
import time
from urllib.parse import urlencode, urlsplit

import pytest

from support.certificates import certificates
from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.distributions.wheels import wheel
from support.github.faults import Fault, secondary_limit
from support.github.repository import BRANCH, OWNER
from support.server.calling import basic, call, form
from support.server.metrics import metric
from support.server.serving import PYWHARF, running
from support.waiting import stretched, wait_for

WHEEL = "parcel-1.0-py3-none-any.whl"
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


def table(repository, name="demo", **fields):
    """Return a repo's two TOML tables: of the configuration and of the admin secrets."""
    given = {
        "type": "github",
        "owner": OWNER,
        "repo": repository.name,
        "branch": BRANCH,
        "api_url": repository.github.url,
        "sync_index_interval": 1,
    } | fields
    lines = [f"{key} = {value!r}" for key, value in given.items()]
    return "\n".join([f"[{name}]", *lines, ""]), f'[{name}]\ntype = "github"\nraw = "{repository.token_of("write")}"\n'


@pytest.fixture
def repository(github):
    made = github.repository()
    yield made
    made.mend()


@pytest.fixture
def serve(tmp_path, repository):
    """Return a function that runs a server of the repository as a context manager."""

    def serve(flags=(), env=None, **fields):
        config, secrets = table(repository, **fields)
        (tmp_path / "admin_secret.toml").write_text(secrets)
        flags = [f"--admin_secret={tmp_path / 'admin_secret.toml'}", *flags]
        return running(tmp_path, flags, config=config, env=env)

    return serve


def twine(computer, index, *files, fails=False):
    flags = ("--non-interactive", "--disable-progress-bar", f"--repository-url={index.url}")
    named = (f"--username={index.user}", f"--password={index.secret}")
    return computer.run("twine", "upload", *flags, *named, *files, fails=fails)


def update(repository, tmp_path, *, env=None, fails=False, **more):
    """Run `update_index` as a CronJob or a workflow does."""
    secret = tmp_path / "token"
    secret.write_text(repository.token_of("write"))
    fields = {"owner": OWNER, "repo": repository.name, "branch": BRANCH, "api_url": repository.github.url} | more
    command = [PYWHARF, "update_index", "github", "demo", f"--secret_file={secret}"]
    done = subprocess.run(
        [*command, *(f"--{key}={value}" for key, value in fields.items())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=None if env is None else os.environ | env,
    )
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr if fails else done.stdout


def on_page(server, secret, name="parcel"):
    reply = call(f"{server.repo()}{name}/", auth=f"demo:{secret}", headers=JSON)
    return [file["filename"] for file in reply.json()["files"]] if reply.status == 200 else []


def test_an_enterprise_s_own_authority(serve, repository, tmp_path):
    """One variable names the CA for every connection, to the API and to the files' hosts."""
    tls = certificates(tmp_path / "tls")
    trust = {"SSL_CERT_FILE": str(tls.authority)}
    url = repository.github.api.over_tls(tls.server_context())
    assert "cannot be reached" in update(repository, tmp_path, api_url=url, fails=True)
    path = wheel(tmp_path, "parcel")
    with serve(env=trust, api_url=url, download="stream", read_secret="own", write_secret="own-write") as server:
        body, content_type = form(("content", path.name, path.read_bytes()))
        sent = {"Content-Type": content_type}
        reply = call(server.repo(), "POST", auth="demo:own-write", headers=sent, body=body)
        assert reply.status == 200, reply
        assert '"files":1' in update(repository, tmp_path, env=trust, api_url=url)
        wait_for(lambda: on_page(server, "own") == [WHEEL], "the index")
        assert call(f"{server.repo()}parcel/{WHEEL}", auth="demo:own").body == path.read_bytes()


@pytest.mark.parametrize("download", ["redirect", "stream"])
@pytest.mark.parametrize("own", [True, False], ids=["own-secrets", "tokens"])
def test_from_twine_to_pip_and_uv(serve, repository, tmp_path, computer: Computer, download, own):
    secrets = {"read_secret": "own-read", "write_secret": "own-write"} if own else {}
    read = "own-read" if own else repository.token_of("read")
    write = "own-write" if own else repository.token_of("write")
    with serve(download=download, **secrets) as server:
        server.secrets |= {read, write}
        writing, reading = (Index(server.repo(), "demo", secret) for secret in (write, read))
        path = wheel(tmp_path, "parcel", payload=b"VALUE = 'sent'\n")
        twine(computer, writing, path)
        assert repository.visible() == [WHEEL]
        assert on_page(server, read) == [WHEEL], "before any update"
        twine(computer, writing, path)  # uploading the same bytes again succeeds
        (tmp_path / "other").mkdir()
        assert "409" in twine(computer, writing, wheel(tmp_path / "other", "parcel"), fails=True).text
        assert repository.visible() == [WHEEL]
        assert '"files":1' in update(repository, tmp_path)
        wait_for(lambda: on_page(server, read) == [WHEEL], "the index")
        for tool in ("pip", "uv"):
            python, _ = install(tool, computer, reading, "parcel", into=f"{tool}-{download}")
            assert python.value("parcel") == "sent"
        reply = call(f"{server.repo()}parcel/{WHEEL}", auth=f"demo:{read}", headers={"Range": "bytes=2-5"})
        if download == "redirect":
            assert (reply.status, reply.header("Cache-Control")) == (302, "private, no-store")
            reply = call(str(reply.header("Location")), headers={"Range": "bytes=2-5"})
        assert (reply.status, reply.body) == (206, path.read_bytes()[2:6])
        reply = call(f"{server.repo()}parcel/{WHEEL}.metadata", auth=f"demo:{read}")
        assert (reply.status, b"Name: parcel" in reply.body) == (200, True)
        assert "403" in twine(computer, Index(server.repo(), "demo", read), wheel(tmp_path, "other"), fails=True).text
        assert 0 < metric(server, "pywharf_backend_rate_limit_remaining", "demo") < 5000


def test_a_token_that_is_revoked_is_let_in_until_it_is_asked_about_again(serve, repository, tmp_path):
    with serve(["--auth_read_expires=2", "--auth_write_expires=1"]) as server:
        token = repository.token_of("read")
        url = server.repo()
        assert call(url, auth=f"demo:{token}").status == 200
        repository.revoke(token)
        assert call(url, auth=f"demo:{token}").status == 200
        wait_for(lambda: call(url, auth=f"demo:{token}").status == 401, "the end of its time")
        assert call(url, auth="demo:ghp_unknown").status == 401
        assert call(url).status == 401


def test_where_github_is_down_who_is_known_goes_on_and_nobody_else_comes_in(serve, repository, tmp_path):
    with serve() as server:
        url, known, new = server.repo(), repository.token_of("read"), repository.token_of("write")
        assert call(url, auth=f"demo:{known}").status == 200
        for verb in ("GET", "POST"):
            repository.fail(Fault(verb, ".*", 502, times=999))
        assert call(url, auth=f"demo:{known}").status == 200
        for secret in (new, "ghp_unknown"):
            reply = call(url, auth=f"demo:{secret}")
            assert (reply.status, reply.json()["type"]) == (503, "urn:pywharf:problem:backend-unavailable")
        repository.mend()
        assert call(url, auth=f"demo:{new}").status == 200
        assert call(url, auth="demo:ghp_unknown").status == 401


def test_signing_in_with_a_token(serve, repository):
    """The cookie allows reading; publishing needs the token itself."""
    with serve() as server:
        token = repository.token_of("write")
        body = urlencode({"pkg_repo_name": "demo", "pkg_repo_secret_raw": token}).encode()
        sent = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = call(f"{server.url}/login", "POST", headers=sent, body=body)
        assert reply.status == 303
        cookie = str(reply.header("Set-Cookie")).partition(";")[0]
        assert token not in cookie
        assert call(server.repo(), headers={"Cookie": cookie}).status == 200
        origin = {"Cookie": cookie, "Origin": server.url, "Sec-Fetch-Site": "same-origin"}
        assert call(server.repo(), "POST", headers=origin, body=b"").status in {401, 403}
        body = urlencode({"pkg_repo_name": "demo", "pkg_repo_secret_raw": "ghp_unknown"}).encode()
        assert call(f"{server.url}/login", "POST", headers=sent, body=body).status == 401


def test_a_limit_is_reported_with_the_time_to_wait(serve, repository, tmp_path, computer):
    with serve(read_secret="own-read", write_secret="own-write") as server:
        repository.fail(secondary_limit("POST", "/releases", 1800, times=9))
        said = twine(computer, Index(server.repo(), "demo", "own-write"), wheel(tmp_path, "parcel"), fails=True).text
        assert "try again in 1800 seconds" in said
        assert repository.visible() == repository.drafts() == []
        repository.mend()
        assert call(server.repo(), auth="demo:own-read").status == 200, "reading has a limit of its own"


def test_while_github_answers_slowly_others_are_served(serve, repository, tmp_path):
    with serve(read_secret="own-read", write_secret="own-write") as server:
        server_url = server.repo()
        wait_for(lambda: call(server_url, auth="demo:own-read").status == 200, "the first look")
        repository.fail(Fault("GET", ".*", times=999, delay_s=3, is_only_late=True))
        began = time.monotonic()
        for _ in range(20):
            assert call(server_url, auth="demo:own-read").status == 200
            assert call(f"{server.url}/healthz").status == 200
        assert time.monotonic() - began < stretched(3)


def test_the_original_s_index_is_read(serve, repository, tmp_path):
    """The original's release has no size and no time; it is listed, indexed and downloadable all the same."""
    path = wheel(tmp_path, "parcel")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    release = repository.kept.releases.add({"tag_name": WHEEL, "body": f'distrib = "parcel"\nsha256 = "{digest}"\n'})
    repository.kept.releases.attach(release.id, WHEEL, path.read_bytes())
    with serve(read_secret="own-read", write_secret="own-write") as server:
        wait_for(lambda: on_page(server, "own-read") == [WHEEL], "the release")
        update(repository, tmp_path)
        assert b'url = "http' in (repository.index() or b"")
        assert call(f"{server.repo()}parcel/{WHEEL}", auth="demo:own-read").status == 302


def asked_from(server, address, repo, secret):
    """Request a repo's root from a local address. Returns the status, the headers without date and id, and the body."""
    target = urlsplit(server.url)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=30, source_address=(address, 0))
    try:
        connection.request("GET", f"/repo/{repo}/simple/", headers={"Authorization": basic(f"{repo}:{secret}")})
        answer = connection.getresponse()
        headers = sorted((key, value) for key, value in answer.getheaders() if key not in {"Date", "X-Request-Id"})
        return answer.status, headers, answer.read()
    finally:
        connection.close()


def test_wrong_tokens_shut_nobody_else_out(serve, repository):
    token, other = repository.token_of("read"), repository.token_of("write")
    with serve() as server:
        wait_for(lambda: call(server.repo(), auth=f"demo:{token}").status == 200, "the index")
        calls = len(repository.calls)
        for number in range(100):  # what cannot be a token costs no calls
            assert asked_from(server, f"127.0.1.{number}", "demo", f"!!junk{number}")[0] == 401
        assert len(repository.calls) - calls <= 5  # polls of the storage; none is for these requests
        assert asked_from(server, "127.0.0.1", "demo", other)[0] == 200
        third = repository.token_of("read")
        found = [asked_from(server, "127.0.0.1", "demo", f"junk{number}")[0] for number in range(70)]
        assert found == [401] * 60 + [503] * 10
        assert asked_from(server, "127.0.0.1", "demo", token)[0] == 200  # it was accepted before
        assert asked_from(server, "127.0.0.2", "demo", third)[0] == 200


def test_repos_that_do_not_exist_are_answered_alike(serve, repository):
    del repository
    with serve() as server:
        for secret in ("!!junk", "junk", "ghp_" + "a" * 36):
            there, not_there = (asked_from(server, "127.0.0.3", name, secret) for name in ("demo", "none"))
            assert there == not_there
            assert there[0] == 401
        for number in range(60):
            asked_from(server, "127.0.0.3", "demo", f"wrong-{number}")
        there, not_there = (asked_from(server, "127.0.0.3", name, "another") for name in ("demo", "none"))
        assert there == not_there
        assert there[0] == 503
