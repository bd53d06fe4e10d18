"""Tests of who gets access, and of the responses to everybody else."""

import base64
import binascii
import itertools
import time
from urllib.parse import quote, urlencode

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.serving.config_source import ConfigGiven, ConfigSource
from pywharf.serving.definitions import LoadedConfig, RepoDefinition
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.opened_repo import RepoOpener
from pywharf.serving.repos import ServedRepos
from pywharf.serving.session_files import SessionFiles
from pywharf.serving.sessions import Sessions
from pywharf.serving.worker_digests import ServedConfigs
from pywharf.web.access_log import AccessLog
from pywharf.web.app import Services, build_app
from pywharf.web.initialize import Initializer
from support.distributions.wheels import wheel
from support.server.calling import Reply, basic, call, form
from support.server.serving import CONFIG, Server, running

CONFIG_HERE = (
    CONFIG
    + """
[open]
type = "file_system"
read_secret = "open-read"
write_secret = "open-write"
anonymous_read = true

[closed]
type = "file_system"
"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auth")
    with running(folder, config=CONFIG_HERE) as server:
        for repo in ("demo", "other", "open"):
            reply = upload(server, f"/repo/{repo}/simple/", f"{repo}:{repo}-write", folder, "pkg")
            assert reply.status == 200, reply
        yield server


def upload(server: Server, path: str, auth, folder, project, *, headers=None) -> Reply:
    (folder / project).mkdir(exist_ok=True)
    file = wheel(folder / project, project)
    body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
    return call(
        server.url + path, "POST", auth=auth, headers={"Content-Type": content_type, **(headers or {})}, body=body
    )


PATHS = (
    "/simple/",
    "/simple",
    "/simple/pkg/",
    "/simple/pkg",
    "/simple/nothing-here/",
    "/simple/Not%20A%20Name/",
    "/simple/pkg/pkg-1.0-py3-none-any.whl",
    "/simple/pkg/pkg-1.0-py3-none-any.whl.metadata",
    "/simple/pkg/no-such-file.whl",
    "/simple/pkg/..%2f..%2fconfig.toml",
    "/simple/a/b/c/d",
    "/simple//",
    "",
    "/",
    "/other/",
)
CREDENTIALS = {
    "none": None,
    "wrong secret": basic("{repo}:wrong-secret"),
    "empty secret": basic("{repo}:"),
    "another repo's secret": basic("{repo}:other-write"),
    "upper case secret": basic("{repo}:DEMO-READ"),
    "secret with a byte more": basic("{repo}:demo-read\n"),
    "another user name": basic("nobody:demo-read"),
    "no user name": basic(":demo-read"),
    "impossible user name": basic("../demo:demo-read"),
    "long user name": basic("x" * 4000 + ":demo-read"),
    "no colon": basic("demo-read"),
    "scheme alone": "Basic",
    "no base64": "Basic demo:demo-read",
    "not UTF-8": "Basic //79Og==",
    "another scheme": "Bearer demo-read",
    "digest": 'Digest username="demo"',
    "empty": "",
}


def without_id(reply: Reply) -> tuple[object, ...]:
    headers = sorted((k, v) for k, v in reply.headers.items() if k not in {"Date", "X-Request-Id"})
    return reply.status, reply.reason, headers, reply.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_a_stranger_gets_401_and_learns_nothing(server, method, credentials):
    """The response is the same whether or not the repo, project, file or path exists."""
    wrong = []
    for path in PATHS:
        if method == "POST" and path not in {"/simple/", "/simple"}:
            continue
        replies = {}
        for repo in ("demo", "no-such-repo"):
            value = CREDENTIALS[credentials]
            if value is not None and "{repo}" in _decoded(value):
                value = basic(_decoded(value).replace("{repo}", repo))
            headers = {} if value is None else {"Authorization": value}
            reply = call(f"{server.url}/repo/{repo}{path}", method, headers=headers)
            replies[repo] = without_id(reply)
            challenge = reply.header("WWW-Authenticate") or ""
            if reply.status != 401 or not challenge.startswith('Basic realm="'):
                wrong.append(f"{method} /repo/{repo}{path}: {reply.status} {reply.reason}, challenge {challenge!r}")
        if replies["demo"] != replies["no-such-repo"]:
            wrong.append(f"{method} {path} differs: {replies}")
        if path.startswith("/simple"):
            headers = {} if CREDENTIALS[credentials] is None else {"Authorization": CREDENTIALS[credentials] or ""}
            reply = call(f"{server.url}{path}", method, headers=headers)
            if reply.status != 401 or "WWW-Authenticate" not in reply.headers:
                wrong.append(f"{method} {path}: {reply.status} {reply.reason}")
    assert not wrong, "\n".join(wrong)


def _decoded(value: str) -> str:

    try:
        return base64.b64decode(value.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


@pytest.mark.parametrize("repo", ["no-such-repo", "closed", "Not%20a%20repo", "%2e%2e", "x" * 300, "%00", "é"])
@pytest.mark.parametrize("path", ["/simple/", "/simple/pkg/"])
def test_repos_that_let_nobody_in_are_like_repos_that_are_not_there(server, repo, path):
    expected = without_id(call(f"{server.url}/repo/demo{path}"))

    url = f"{server.url}/repo/{quote(repo, safe='%')}{path}"
    assert without_id(call(url)) == expected
    assert call(url, auth="closed:").status == 401
    assert call(url, auth="closed:anything").status == 401


@pytest.mark.parametrize("secret", ["demo-read", "demo-write"])
@pytest.mark.parametrize("path", ["/simple/", "/simple/pkg/", "/simple/pkg/pkg-1.0-py3-none-any.whl"])
def test_both_secrets_read_under_both_addresses(server, secret, path):
    for prefix, user in itertools.product(("", "/repo/demo", "/repo/DEMO"), ("demo", "Demo")):
        reply = call(f"{server.url}{prefix}{path}", auth=f"{user}:{secret}")
        assert reply.status == 200, f"{prefix}{path} as {user}: {reply}"


def test_the_scheme_may_be_written_in_any_case(server):
    value = basic("demo:demo-read").replace("Basic ", "bAsIC   ")
    assert call(f"{server.url}/simple/", headers={"Authorization": value}).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/repo/other/simple/", "/repo/open/simple/", "/repo/nowhere/simple/"])
def test_path_and_user_name_must_agree(server, method, path):
    """Valid credentials are refused if they belong to another repo than the path's."""
    for secret in ("demo-read", "demo-write"):
        reply = call(f"{server.url}{path}", method, auth=f"demo:{secret}")
        assert reply.status == 401, reply
        assert reply.header("WWW-Authenticate"), reply


# path, credentials, status
UPLOADS = [
    ("/repo/demo/simple/", "demo:demo-read", 403),
    ("/repo/demo/simple", "demo:demo-read", 403),
    ("/simple/", "demo:demo-read", 403),
    ("/simple", "demo:demo-read", 403),
    ("/repo/other/simple/", "other:demo-write", 401),
    ("/repo/open/simple/", "open:open-read", 403),
    ("/repo/open/simple/", "open:wrong-secret", 401),
    ("/repo/open/simple/", "open:", 401),
    ("/repo/open/simple/", None, 401),
    ("/repo/closed/simple/", "closed:", 401),
    ("/simple/", None, 401),
    ("/repo/demo/simple/", "demo:demo-write", 200),
    ("/simple/", "open:open-write", 200),
]


@pytest.mark.parametrize(("path", "auth", "status"), UPLOADS)
def test_only_the_write_secret_writes(server, tmp_path, path, auth, status):
    project = f"writes{UPLOADS.index((path, auth, status))}"
    reply = upload(server, path, auth, tmp_path, project)
    assert reply.status == status, reply
    if status == 403:
        assert "write secret" in reply.reason, reply
    for repo in ("demo", "other", "open"):
        seen = call(f"{server.url}/repo/{repo}/simple/{project}/", auth=f"{repo}:{repo}-read").status
        stored = status == 200 and auth.startswith(f"{repo}:")
        assert seen == (200 if stored else 404)


def test_anonymous_reading(server):
    """Reading needs no credentials at the repo's own address. `/simple/` needs a user name, which names the repo."""
    assert call(f"{server.url}/repo/open/simple/").status == 200
    assert call(f"{server.url}/repo/open/simple/pkg/").status == 200
    assert call(f"{server.url}/repo/open/simple/missing/").status == 404
    assert call(f"{server.url}/simple/", auth="open:").status == 200
    assert call(f"{server.url}/simple/").status == 401
    assert call(f"{server.url}/repo/open/simple/", auth="demo:demo-read").status == 401


def sign_in(server: Server, repo="demo", secret="demo-write") -> str:
    body = urlencode({"pkg_repo_name": repo, "pkg_repo_secret_raw": secret}).encode()
    reply = call(
        f"{server.url}/login", "POST", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=body
    )
    assert reply.status == 303, reply
    cookie = reply.header("Set-Cookie")
    assert cookie is not None
    return cookie.partition(";")[0]


def test_a_session_reads_its_own_repo_only(server):
    headers = {"Cookie": sign_in(server, secret="demo-read")}
    for path, status in [
        ("/simple/", 200),
        ("/simple/pkg/pkg-1.0-py3-none-any.whl", 200),
        ("/repo/demo/simple/pkg/", 200),
        ("/index_mtime/", 200),
        ("/simple/missing/", 404),
        ("/repo/other/simple/", 401),
        ("/repo/nowhere/simple/", 401),
        ("/repo/open/simple/", 200),  # anonymously
    ]:
        reply = call(server.url + path, headers=headers)
        assert reply.status == status, f"{path}: {reply}"


def test_credentials_go_before_the_session(server):
    cookie = sign_in(server, secret="demo-read")
    assert call(f"{server.url}/simple/", headers={"Cookie": cookie}, auth="demo:wrong-secret").status == 401
    reply = call(f"{server.url}/repo/other/simple/pkg/", headers={"Cookie": cookie}, auth="other:other-read")
    assert reply.status == 200, reply


def test_a_session_publishes_from_this_servers_pages_only(server, tmp_path):
    cookie = {"Cookie": sign_in(server)}
    own = server.url
    table = [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": own}, 403),
        ({"Origin": own}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ]
    for number, (headers, status) in enumerate(table):
        reply = upload(server, "/repo/demo/simple/", None, tmp_path, f"session{number}", headers=cookie | headers)
        assert reply.status == status, f"{headers}: {reply}"
    reading = {"Cookie": sign_in(server, secret="demo-read"), "Sec-Fetch-Site": "same-origin"}
    reply = upload(server, "/repo/demo/simple/", None, tmp_path, "session-read", headers=reading)
    assert reply.status in {401, 403}, reply


def test_a_changed_cookie_is_none(server):
    cookie = sign_in(server)
    name, _, value = cookie.partition("=")
    payload, _, signature = value.partition(".")
    other_payload = sign_in(server, "other", "other-write").partition("=")[2].partition(".")[0]
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    for forged in (
        f"{payload}.{flipped}",
        f"{payload}.",
        payload,
        f"{other_payload}.{signature}",
        f".{signature}",
        "",
        "x" * 5000,
        "%00.%00",
        f"{payload}.{signature}.{signature}",
        f"{payload[:-2]}.{signature}",
        f"{payload}.é",
    ):
        reply = call(f"{server.url}/simple/", headers={"Cookie": f"{name}={forged}".encode().decode("latin-1")})
        assert reply.status == 401, f"{forged!r}: {reply}"
    assert call(f"{server.url}/simple/", headers={"Cookie": cookie}).status == 200


def test_a_cookie_of_another_server_is_none(server, tmp_path):
    """Without --session_secret each server signs with its own key; servers with the same --session_secret share one."""
    key = tmp_path / "key"
    key.write_text("a-key-for-sessions\n")
    flags = [f"--session_secret={key}"]
    with running(tmp_path / "a", flags) as first, running(tmp_path / "b", flags) as second:
        first.secrets.add("a-key-for-sessions")
        cookie = {"Cookie": sign_in(first)}
        assert call(f"{second.url}/simple/", headers=cookie).status == 200
        assert call(f"{server.url}/simple/", headers=cookie).status == 401
        assert call(f"{first.url}/simple/", headers={"Cookie": sign_in(server)}).status == 401


def test_write_permission_expires_before_read_permission(tmp_path):
    with running(tmp_path, ["--auth_write_expires=0", "--auth_read_expires=2"]) as server:
        signed_in = time.monotonic()
        headers = {"Cookie": sign_in(server), "Sec-Fetch-Site": "same-origin"}
        reply = upload(server, "/simple/", None, tmp_path, "late", headers=headers)
        assert reply.status in {401, 403}, reply
        reading = call(f"{server.url}/simple/", headers=headers).status
        if time.monotonic() - signed_in < 1:
            assert reading == 200
        while call(f"{server.url}/simple/", headers=headers).status != 401:
            assert time.monotonic() - signed_in < 10, "the session did not end"
            time.sleep(0.1)


async def test_a_repo_that_cannot_be_opened_shows_strangers_nothing(tmp_path):
    """Only clients with the repo's secret get the reason; strangers get the usual 401."""

    def refuse(spec, name, secret):
        raise InvalidConfigError("the reason")

    metrics = Metrics()
    sessions = Sessions(b"key", 60, 60, SessionFiles(tmp_path / "sessions"))
    credentials = Credentials(read="demo-read", write="demo-write")
    definition = RepoDefinition(FileSystemSpec(), credentials, None)
    initializer = Initializer(None, ConfigSource(ConfigGiven(), {}), None, ServedConfigs(None))
    client = UpstreamClient(metrics.count_upstream, "tests")
    gatekeeper = Gatekeeper(60, 60)
    opener = RepoOpener(refuse, gatekeeper, SharedResources(ExtraIndex(client)), metrics, extra_index_url="")
    async with ServedRepos(opener, gatekeeper, metrics) as repos:
        await repos.apply(LoadedConfig({RepoName("demo"): definition}, "digest"))
        services = Services(
            repos=repos,
            gatekeeper=gatekeeper,
            sessions=sessions,
            metrics=metrics,
            running=RunningRequests(),
            max_uploads=1,
        )
        app = build_app(services, initializer, AccessLog("off"))
        async with TestClient(TestServer(app)) as http:
            cookie = sessions.issue(RepoName("demo"), Permission.READ, credentials)
            table = [
                ({}, 401),
                ({"Authorization": basic("demo:wrong-secret")}, 401),
                ({"Authorization": basic("demo:demo-read")}, 503),
                ({"Cookie": f"pywharf_session={cookie}"}, 503),
            ]
            for headers, status in table:
                async with http.get("/repo/demo/simple/", headers=headers) as reply:
                    text = await reply.text()
                    assert (reply.status, "the reason" in text) == (status, status == 503), text
            sent = {"pkg_repo_name": "demo", "pkg_repo_secret_raw": "wrong-secret"}
            async with http.post("/login", data=sent) as reply:
                assert (reply.status, "the reason" in await reply.text()) == (401, False)
