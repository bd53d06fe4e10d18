"""Tests of signing in and browsing with a real browser, which enforces the server's cookie and frame policies."""

import base64
import re
import time
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from support.certificates import certificates
from support.distributions.wheels import sdist, wheel
from support.parts import chromium
from support.server.calling import call, form
from support.server.serving import Server, running
from support.waiting import wait_for

COOKIE = "pywharf_session"
ELSEWHERE = "http://elsewhere.test"
CONFIG = """
[demo]
type = "file_system"
read_secret = {{file = "{folder}/read"}}
write_secret = "demo-write"

[other]
type = "file_system"
read_secret = "other-read"
write_secret = "other-write"

[open]
type = "file_system"
anonymous_read = true
write_secret = "open-write"
"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"]
        browser = playwright.chromium.launch(executable_path=str(chromium()), args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "read").write_text("demo-read\n")
    with running(folder, config=CONFIG.format(folder=folder)) as server:
        server.secrets |= {"demo-read", "rotated-read"}
        for repo, names in (
            ("demo", ("first-project", "second-project")),
            ("other", ("others-project",)),
            ("open", ("open-project",)),
        ):
            for name in names:
                publish(server, wheel(folder, name), repo)
        publish(server, sdist(folder, "first-project", "0.9"), "demo")
        yield server


@pytest.fixture
def context(browser: Browser):
    """Yield a new browser context, without cookies."""
    context = browser.new_context(java_script_enabled=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext):
    """Yield a page of the context. Afterwards, check that the pages broke no Content Security Policy of their own."""
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    refused = [text for text in said if "Content Security Policy" in text]
    assert not refused, refused


def publish(server: Server, file, repo: str) -> None:
    body, content_type = form(("content", file.name, file.read_bytes()))
    headers = {"Content-Type": content_type}
    reply = call(server.repo(repo), "POST", auth=f"{repo}:{repo}-write", headers=headers, body=body)
    assert reply.status == 200, reply


def sign_in(page: Page, repo: str, secret: str) -> None:
    page.get_by_label("Repo").fill(repo)
    page.get_by_label("Secret").fill(secret)
    page.get_by_role("button", name="Sign in").click()


def session(context: BrowserContext) -> dict[str, object]:
    """Return the session cookie as the browser stores it, or {} if there is none."""
    found = [dict(cookie) for cookie in context.cookies() if cookie.get("name") in {COOKIE, f"__Host-{COOKIE}"}]
    assert len(found) <= 1, found
    return found[0] if found else {}


def path(page: Page) -> str:
    return urlsplit(page.url).path


def test_sign_in_browse_download_sign_out(server, page, context, tmp_path):
    page.goto(server.url)
    page.get_by_role("link", name="Sign in").click()
    sign_in(page, "Demo", "demo-read")
    expect(page).to_have_url(f"{server.url}/repo/demo/simple/")
    assert page.get_by_role("link").all_inner_texts() == ["first-project", "second-project"]
    page.get_by_role("link", name="first-project").click()
    expect(page.get_by_role("heading")).to_have_text("Links for first-project")
    names = page.get_by_role("link").all_inner_texts()
    assert sorted(names) == ["first_project-0.9.tar.gz", "first_project-1.0-py3-none-any.whl"]
    for name in names:
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        reply = call(f"{server.repo()}first-project/{name}", auth="demo:demo-read")
        assert (tmp_path / name).read_bytes() == reply.body
    page.goto(server.url)
    expect(page.get_by_text("You are signed in to demo")).to_be_visible()
    page.get_by_role("link", name="browse its projects").click()
    expect(page).to_have_url(f"{server.url}/repo/demo/simple/")
    page.goto(f"{server.url}/simple/")  # the original's address; the session names the repo
    assert "first-project" in page.content()
    page.goto(server.url)
    page.get_by_role("link", name="sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert session(context) == {}
    response = page.goto(f"{server.url}/repo/demo/simple/")
    assert response is not None
    assert response.status == 401


def test_a_page_that_needs_a_session_asks_for_one_and_then_shows_itself(server, page):
    wanted = "/repo/demo/simple/first-project/"
    response = page.goto(server.url + wanted)
    assert response is not None
    assert response.status == 401
    expect(page.get_by_role("heading")).to_have_text("Authentication needed")
    sign_in(page, "demo", "demo-read")
    expect(page).to_have_url(server.url + wanted)
    # Another repo needs another session, which replaces the first.
    response = page.goto(f"{server.url}/repo/other/simple/")
    assert response is not None
    assert response.status == 401
    sign_in(page, "other", "other-read")
    expect(page).to_have_url(f"{server.url}/repo/other/simple/")
    response = page.goto(server.url + wanted)
    assert response is not None
    assert response.status == 401


@pytest.mark.parametrize(
    ("repo", "secret"),
    [
        ("demo", "wrong-secret"),
        ("demo", "other-read"),
        ("nobody", "demo-read"),
        ("Not a name!", "x"),
        ("<script>", "x"),
    ],
)
def test_a_wrong_secret_says_so_and_makes_no_session(server, page, context, repo, secret):
    page.goto(f"{server.url}/login?next=/repo/demo/simple/second-project/")
    sign_in(page, repo, secret)
    expect(page.get_by_role("alert")).to_have_text("The repo's name or the secret is wrong.")
    expect(page.get_by_label("Repo")).to_have_value(repo)
    expect(page.get_by_label("Secret")).to_have_value("")
    assert secret not in page.url
    assert session(context) == {}
    sign_in(page, "demo", "demo-write")  # the second attempt leads to where the first should have
    expect(page).to_have_url(f"{server.url}/repo/demo/simple/second-project/")


def test_the_cookie(server, page, context):
    """The cookie is HttpOnly and SameSite, covers the whole site and expires. It holds no secret."""
    page.goto(f"{server.url}/login")
    sign_in(page, "demo", "demo-write")
    page.wait_for_url("**/simple/")
    cookie = session(context)
    expires = cookie["expires"]
    assert isinstance(expires, int | float)
    assert 3500 < expires - time.time() < 3700
    flags = {name: cookie[name] for name in ("httpOnly", "sameSite", "secure", "path", "domain")}
    assert flags == {"httpOnly": True, "sameSite": "Lax", "secure": False, "path": "/", "domain": "127.0.0.1"}
    assert page.evaluate("document.cookie") == ""
    value = str(cookie["value"])
    payload = base64.urlsafe_b64decode(value.partition(".")[0] + "==")
    for text in (value, payload.decode()):
        assert "demo-write" not in text
        assert "demo-read" not in text


def test_over_tls_the_cookie_is_secure(tmp_path, browser):
    made = certificates(tmp_path / "certificates")
    with running(tmp_path, made.flags) as server:
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"{server.url}/login")
        sign_in(page, "demo", "demo-read")
        page.wait_for_url("**/repo/demo/simple/")
        cookie = session(context)
        assert (cookie["secure"], cookie["name"], cookie["path"]) == (True, f"__Host-{COOKIE}", "/")
        page.goto(f"{server.url}/logout")
        assert session(context) == {}
        context.close()


def test_no_other_site_can_sign_in_or_out_or_show_this_one(server, page, context):
    """A page of another site sends this server's forms and shows its pages in a frame; neither works."""
    fields = "".join(
        f'<input name="{name}" value="{value}">'
        for name, value in (("pkg_repo_name", "demo"), ("pkg_repo_secret_raw", "demo-read"), ("next", "/"))
    )
    attack = f'<form method="post" action="{server.url}/login">{fields}<button>go</button></form>'
    frame = f'<iframe src="{server.url}/login"></iframe>'
    context.route(f"{ELSEWHERE}/**", lambda route: route.fulfill(body=attack + frame, content_type="text/html"))
    page.goto(f"{ELSEWHERE}/attack")
    expect(page.frame_locator("iframe").get_by_label("Secret")).to_have_count(0)
    with page.expect_response(f"{server.url}/login") as response:
        page.get_by_role("button", name="go").click()
    assert response.value.status == 403
    expect(page.get_by_role("alert")).to_contain_text("own form")
    assert session(context) == {}
    # The session cookie is not sent with a foreign form either, so nothing is published with it.
    page.goto(f"{server.url}/login")
    sign_in(page, "demo", "demo-write")
    page.wait_for_url("**/simple/")
    page.goto(f"{ELSEWHERE}/attack")
    status = page.evaluate(
        """async url => {
            const body = new FormData();
            body.append('content', new Blob(['x']), 'evil-1.0.tar.gz');
            try { return (await fetch(url, {method: 'POST', body, credentials: 'include'})).status; }
            catch (error) { return 'blocked'; }
        }""",
        f"{server.url}/simple/",
    )
    assert status in {401, 403, "blocked"}
    assert call(f"{server.url}/simple/evil/", auth="demo:demo-read").status == 404


NEXT = [
    ("/repo/demo/simple/second-project/", "/repo/demo/simple/second-project/"),
    ("/repo/demo/simple/?x=1&y=2", "/repo/demo/simple/?x=1&y=2"),
    ("/", "/"),
    ("", None),
    ("//elsewhere.test/", None),
    ("///elsewhere.test/", None),
    ("/\\elsewhere.test/", None),
    ("\\/elsewhere.test", None),
    ("/\t/elsewhere.test/", None),
    ("/\n/elsewhere.test/", None),
    ("\t//elsewhere.test/", None),
    (" //elsewhere.test/", None),
    ("http://elsewhere.test/", None),
    ("https:elsewhere.test/", None),
    ("http:///elsewhere.test/", None),
    ("javascript:alert(1)", None),
    ("data:text/html,x", None),
    ("elsewhere.test", None),
    ("/x\r\nSet-Cookie: a=b", None),
    ("/\u2028/elsewhere.test", None),
    ("/\x00/elsewhere.test", None),
    ("//[/x", None),
    ("http://[/x", None),
]


@pytest.mark.parametrize(("given", "expected"), NEXT, ids=[repr(given) for given, _ in NEXT])
@pytest.mark.parametrize("where", ["form", "query"])
def test_signing_in_leads_to_no_other_site(server, given, expected, where):
    body = {"pkg_repo_name": "demo", "pkg_repo_secret_raw": "demo-read"} | ({"next": given} if where == "form" else {})
    query = "" if where == "form" else "?" + urlencode({"next": given})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = call(f"{server.url}/login{query}", "POST", headers=headers, body=urlencode(body).encode())
    assert reply.status == 303, reply
    location = reply.header("Location")
    assert location is not None
    assert location.startswith(("./", "../")), location
    assert urljoin("/login", location) == (expected if expected is not None else "/repo/demo/simple/")
    assert (reply.header("Set-Cookie") or "").count("=") < 8
    shown = call(f"{server.url}/login{query}")
    assert shown.status == 200, shown


@pytest.mark.parametrize(
    "given", ["//elsewhere.test/", "/\\elsewhere.test/", "/%09/elsewhere.test/", "https://elsewhere.test"]
)
def test_a_browser_stays_on_this_site_after_signing_in(server, page, given):
    page.goto(f"{server.url}/login?next={given}")
    sign_in(page, "demo", "demo-read")
    page.wait_for_load_state()
    assert page.url.startswith(server.url + "/"), page.url


def test_a_rotated_secret_ends_its_sessions(server, page, context, browser):
    """This includes sessions of the write secret: everybody who signed in with the old pair must sign in again."""
    folder = server.log.parent
    page.goto(f"{server.url}/login")
    sign_in(page, "demo", "demo-read")
    page.wait_for_url("**/simple/")
    second = browser.new_context()
    other = second.new_page()
    other.goto(f"{server.url}/login")
    sign_in(other, "other", "other-read")
    other.wait_for_url("**/simple/")
    try:
        (folder / "read").write_text("rotated-read\n")
        wait_for(lambda: call(f"{server.url}/simple/", auth="demo:rotated-read").status == 200, "the new secret")
        response = page.reload()
        assert response is not None
        assert response.status == 401
        sign_in(page, "demo", "demo-read")
        expect(page.get_by_role("alert")).to_be_visible()
        sign_in(page, "demo", "rotated-read")
        page.wait_for_url("**/simple/")
        response = other.reload()
        assert response is not None
        assert response.status == 200
    finally:
        (folder / "read").write_text("demo-read\n")
        second.close()
        wait_for(lambda: call(f"{server.url}/simple/", auth="demo:demo-read").status == 200, "the first secret again")


def test_a_session_ends_in_time(tmp_path, page, context):
    """The browser drops the cookie, and the server refuses a copy of it."""
    with running(tmp_path, ["--auth_read_expires=2"]) as server:
        page.goto(f"{server.url}/login")
        sign_in(page, "demo", "demo-read")
        page.wait_for_url("**/simple/")
        kept = f"{COOKIE}={session(context)['value']}"
        assert call(f"{server.url}/simple/", headers={"Cookie": kept}).status == 200
        wait_for(lambda: call(f"{server.url}/simple/", headers={"Cookie": kept}).status == 401, "the session's end")
        wait_for(lambda: session(context) == {}, "the cookie's end")
        response = page.reload()
        assert response is not None
        assert response.status == 401


def test_without_javascript_and_without_credentials(server, browser):
    """The pages need no scripts, and a repo that everybody may read needs no session."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/repo/open/simple/")
    page.get_by_role("link", name="open-project").click()
    expect(page.get_by_role("link")).to_have_count(1)
    page.goto(f"{server.url}/login")
    sign_in(page, "demo", "demo-read")
    page.wait_for_url("**/repo/demo/simple/")
    context.close()


def test_an_error_is_a_page_with_a_way_on(server, page):
    page.goto(f"{server.url}/login")
    sign_in(page, "demo", "demo-read")
    page.wait_for_url("**/simple/")
    response = page.goto(f"{server.url}/repo/demo/simple/missing/")
    assert response is not None
    assert response.status == 404
    expect(page.get_by_role("heading")).to_have_text("Not found")
    expect(page.get_by_role("alert")).to_contain_text("missing")
    page.get_by_role("link", name="Back to the start").click()
    assert path(page) == "/"


def test_the_pages_fit_a_phone(server, browser):
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    for address in ("/", "/login", "/repo/demo/simple/", "/nowhere/" + "x" * 150):
        page.goto(server.url + address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, address
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.title()
    context.close()


def test_pages_for_people_are_not_kept_and_not_framed(server):
    for address, status in (("/", 200), ("/login", 200), ("/logout", 303), ("/simple/", 401)):
        reply = call(server.url + address, headers={"Accept": "text/html"})
        assert reply.status == status
        assert "no-store" in (reply.header("Cache-Control") or ""), reply
        if status != 303:
            policy = reply.header("Content-Security-Policy") or ""
            for part in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"):
                assert part in policy, f"{address}: {policy}"
            assert reply.header("X-Content-Type-Options") == "nosniff", reply
            assert re.fullmatch(r"text/html; charset=utf-8", reply.header("Content-Type") or "")
