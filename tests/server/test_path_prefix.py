"""A server behind a proxy that serves it under a path prefix, as ingresses do."""

import html
import re
from collections.abc import Iterator
from urllib.parse import urlencode, urljoin

import pytest

from support.distributions.wheels import wheel
from support.server.calling import call, form
from support.server.prefix_proxy import behind_prefix
from support.server.serving import running

BROWSER = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SECRET = {"pkg_repo_name": "demo", "pkg_repo_secret_raw": "demo-read"}


@pytest.fixture(scope="module", params=["/team/packages", ""])
def url(request, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prefix")
    with running(folder) as server, behind_prefix(server.url, request.param) as url:
        file = wheel(folder, "pkg")
        body, content_type = form(("content", file.name, file.read_bytes()))
        headers = {"Content-Type": content_type}
        reply = call(f"{url}/repo/demo/simple/", "POST", auth="demo:demo-write", headers=headers, body=body)
        assert reply.status == 200, reply
        yield url


def links(page: bytes, attribute: str = "href") -> list[str]:
    return [html.unescape(found) for found in re.findall(rf'{attribute}="([^"]*)"', page.decode())]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/login",
        "/login/",
        "/repo/demo/simple/",
        "/repo/demo/simple/pkg/",
        "/nowhere/at/all",
        "/simple/",
    ],
)
def test_every_link_of_a_page_stays_under_the_prefix(url, path):
    for auth in (None, "demo:demo-read"):
        page = call(url + path, auth=auth, headers=BROWSER)
        for link in [*links(page.body), *links(page.body, "action")]:
            assert urljoin(url + path, link).startswith(f"{url}/"), f"{path}: {link}"
        assert page.status in {200, 401, 404}


@pytest.mark.parametrize("wanted", ["/repo/demo/simple/pkg/", "/repo/demo/simple", "/simple/pkg/", "/login"])
def test_signing_in_leads_back(url, wanted):
    """The test uses the form that a page shows, its hidden field and the address that the response redirects to."""
    page = call(url + wanted, headers=BROWSER)
    action, following = (
        links(page.body, "action")[0],
        html.unescape(re.findall(rb'name="next" value="([^"]*)"', page.body)[0].decode()),
    )
    address = urljoin(url + wanted, action)
    assert address == f"{url}/login"
    reply = call(address, "POST", headers=FORM, body=urlencode(SECRET | {"next": following}).encode())
    assert reply.status == 303, reply
    cookie = str(reply.header("Set-Cookie")).partition(";")[0]
    target = urljoin(address, reply.header("Location"))
    assert target == url + (wanted if wanted != "/login" else "/repo/demo/simple/")
    answer = call(target, headers=BROWSER | {"Cookie": cookie})
    if answer.status == 301:
        answer = call(urljoin(target, answer.header("Location")), headers=BROWSER | {"Cookie": cookie})
    assert answer.status == 200, answer
    out = call(f"{url}/logout", headers={"Cookie": cookie})
    assert urljoin(f"{url}/logout", out.header("Location")) == f"{url}/login"


@pytest.mark.parametrize("climbing", ["/../x", "/repo/../../x", "/%2e%2e/x", "/.%2E/x", "/./x"])
def test_signing_in_leads_to_nothing_above(url, climbing):
    reply = call(f"{url}/login", "POST", headers=FORM, body=urlencode(SECRET | {"next": climbing}).encode())
    assert urljoin(f"{url}/login", reply.header("Location")) == f"{url}/repo/demo/simple/"


def test_a_redirect_to_the_normal_form_stays_under_the_prefix(url):
    for path, target in [
        ("/repo/demo/simple", "/repo/demo/simple/"),
        ("/repo/demo/simple/P.K-G", "/repo/demo/simple/p-k-g/"),
    ]:
        reply = call(url + path, auth="demo:demo-read")
        assert (reply.status, urljoin(url + path, reply.header("Location"))) == (301, url + target)


def test_the_challenge_names_the_form(url):
    reply = call(f"{url}/repo/demo/simple/", headers=BROWSER)
    found = re.search(r'form-action="([^"]+)"', str(reply.header("WWW-Authenticate")))
    assert found is not None
    assert urljoin(f"{url}/repo/demo/simple/", found[1]) == f"{url}/login"
