"""Check that NO_PROXY means the same as in Go programs, and that the environment's proxies are found."""

import pytest

from pywharf.core.proxies import bypasses_proxy
from pywharf.egress.policy import proxy_for

# Host, port, NO_PROXY, whether the connection is direct; most are from the tests of golang.org/x/net/http/httpproxy
CASES = [
    ("localhost", 80, "", True),
    ("127.0.0.1", 80, "", True),
    ("127.0.0.2", 80, "", True),
    ("::1", 80, "", True),
    ("[::1]", 80, "", True),
    ("example.com", 80, "", False),
    ("192.168.1.1", 80, "192.168.1.1", True),
    ("192.168.1.3", 80, "192.168.1.1", False),
    ("192.168.1.1", 80, "192.168.1.1:80", True),
    ("192.168.1.1", 81, "192.168.1.1:80", False),
    ("10.96.0.1", 443, "10.96.0.0/12", True),
    ("10.112.0.1", 443, "10.96.0.0/12", False),
    ("10.96.0.1", 443, "10.96.0.1/12", True),
    ("example.com", 443, "10.0.0.0/8", False),
    ("fd00::10", 443, "fd00::/8", True),
    ("[fd00::10]", 443, "fd00::/8", True),
    ("2001:db8::52:0:2", 80, "2001:db8::52:0:1", False),
    ("2001:db8::52:0:1", 80, "2001:db8::52:0:1", True),
    ("2001:db8::52:0:3", 80, "[2001:db8::52:0:3]:80", True),
    ("2001:db8::52:0:3", 8080, "[2001:db8::52:0:3]:80", False),
    ("2001:db8::52:0:3", 8080, "[2001:db8::52:0:3]", True),
    ("::ffff:10.0.0.1", 80, "10.0.0.0/8", True),
    ("bar.com", 80, "barbaz.net,bar.com", True),
    ("www.bar.com", 80, "bar.com", True),
    ("foobar.com", 80, "bar.com", False),
    ("bar.com", 80, ".bar.com", False),
    ("www.bar.com", 80, ".bar.com", True),
    ("www.bar.com", 80, "*.bar.com", True),
    ("bar.com", 80, "*.bar.com", False),
    ("bar.com", 80, "*bar.com", False),
    ("BAR.com", 80, "bar.COM", True),
    ("bar.com", 8080, "bar.com:8080", True),
    ("bar.com", 80, "bar.com:8080", False),
    ("a.bar.com", 8080, ".bar.com:8080", True),
    ("anything.example", 80, "*", True),
    ("1.2.3.4", 80, "a.example,*", True),
    ("bar.com", 80, " , bar.com ,", True),
    ("svc.cluster.local", 80, ".svc,.cluster.local", True),
    ("bar.com", 80, "bar.org/8", False),
    ("bar.com", 80, ":80", False),
    ("bar.com", 80, ".", False),
    ("10.0.0.1", 80, "0.0.1", False),
]


@pytest.mark.parametrize(("host", "port", "no_proxy", "direct"), CASES)
def test_as_go_reads_it(host, port, no_proxy, direct):
    assert bypasses_proxy(host, port, no_proxy) is direct


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://a.example/", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://a.example/", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "https://a.example/", "http://p:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "https://a.example/", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://a.example/", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://a.example/", "http://p:3128"),
        ({"ALL_PROXY": "http://p:3128"}, "https://a.example/", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3/", None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3/", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "a.example:443"}, "https://a.example/", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://localhost:8443/", None),
    ],
)
def test_the_environment(monkeypatch, variables, url, proxy):
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy
