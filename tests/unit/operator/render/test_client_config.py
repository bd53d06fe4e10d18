"""The ConfigMap for clients: what of a TLS Secret is published, and what the files say."""

import configparser
import json
import tomllib

import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.render.objects.client_config import keyring
from pywharf_operator.render.resolve.authority import authority_of
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.client_config import ClientConfig
from support.operator.manifest_text import parsed_each

SERVER = ObjectKey("packages", "pywharf")
ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec})
ONE = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB==\n-----END CERTIFICATE-----\n"
TWO = ONE.replace("AAAA", "CCCC")
KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
AUTHORITIES = {
    "one": (ONE, ONE),
    "two": (ONE + TWO, ONE + TWO),
    "without the last line end": (ONE.rstrip(), ONE),
    "lines of another system": (ONE.replace("\n", "\r\n"), ONE),
    "text around it": (f"# the company's own\n{ONE}# end", ONE),
    "a key beside it": (KEY + ONE + KEY, ONE),
    "a key alone": (KEY, None),
    "a key in it": (f"-----BEGIN CERTIFICATE-----\n{KEY}-----END CERTIFICATE-----\n", None),
    "no certificate": ("hello", None),
    "nothing": ("", None),
    "no text": ("\x00\xff", None),
    "an unfinished one": (ONE[:-10], None),
    "too many": (ONE * 300, None),
}


@pytest.mark.parametrize("what", AUTHORITIES)
def test_only_certificates_are_published(what):
    given, expected = AUTHORITIES[what]
    found = authority_of(SERVER, given.encode())
    assert found.text == (expected or "")
    assert (found.fault is not None) == (expected is None)
    if found.fault is not None:
        assert found.fault.reason == "AuthorityInvalid"
        assert "c2VjcmV0" not in found.fault.message


def test_a_secret_without_the_key_is_no_fault():
    found = authority_of(SERVER, None)
    assert (found.text, found.fault) == ("", None)


def rendered(*, tls: bool, name: str = "clients", secret: bool = True):
    """Return the ConfigMap of a repo; with `tls` the server speaks TLS."""
    v1, own = {"apiVersion": "v1"}, {"apiVersion": "pywharf.dev/v1alpha1"}
    metadata = {"namespace": "ml", "name": "team-a", "uid": "u"}
    of_server = {"storage": {"size": "1Gi"}, **({"tls": {"secretRef": {"name": "tls"}}} if tls else {})}
    of_repo = {
        "backend": {"fileSystem": {}},
        "credentials": {"anonymousRead": True, "readOnly": True},
        "clientConfig": {"configMap": name},
    }
    manifests = [
        own | {"kind": "PackageServer", "metadata": {"namespace": "ml", "name": "pywharf"}, "spec": of_server},
        own | {"kind": "PackageRepo", "metadata": metadata, "spec": of_repo},
    ]
    if secret:
        named = {"namespace": "ml", "name": "tls"}
        manifests.append(v1 | {"kind": "Secret", "metadata": named, "stringData": {"ca.crt": ONE, "tls.key": KEY}})
    (verdict,) = resolve(snapshot_of(parsed_each(*map(json.dumps, manifests))), ENVIRONMENT).servers
    found = render_server(verdict, ENVIRONMENT)
    (made,) = found.client_configs.values()
    assert found.objects[-1] is made
    return made


@pytest.mark.parametrize("tls", [True, False])
def test_the_files_say_where_and_how(tls):
    made = rendered(tls=tls)
    url = f"{'https' if tls else 'http'}://pywharf.ml.svc/repo/team-a/simple/"
    pip = configparser.ConfigParser()
    pip.read_string(made["data"]["pip.conf"])
    expected = {"index-url": url, "keyring-provider": "subprocess"}
    expected |= {"cert": "/etc/pywharf-client/ca.crt"} if tls else {"trusted-host": "pywharf.ml.svc"}
    assert dict(pip["global"]) == expected
    assert tomllib.loads(made["data"]["uv.toml"]) == {
        "keyring-provider": "subprocess",
        "publish-url": url,
        "index": [{"url": url, "default": True, "authenticate": "always"}],
    }
    assert made["data"]["keyring"] == keyring(url.removesuffix("/repo/team-a/simple/"))
    assert made["data"].get("ca.crt") == (ONE if tls else None)
    assert "pywharf.dev/server" not in made["metadata"]["labels"]
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("PackageRepo", "u", True)


def test_without_an_authority_nothing_names_its_file():
    made = rendered(tls=True, secret=False)
    assert set(made["data"]) == {"pip.conf", "uv.toml", "keyring"}
    assert "ca.crt" not in json.dumps(made)


@pytest.mark.parametrize("name", ["clients", "config", "policies", "pywharf-config.own", "pip-configs"])
def test_other_names_are_taken(name):
    assert ClientConfig(config_map=name).config_map == name


@pytest.mark.parametrize("name", ["pywharf-config", "pywharf-policies", "pkg-config", "-config"])
def test_names_of_any_server_s_own_are_refused(name):
    with pytest.raises(ValueError, match="-config"):
        ClientConfig(config_map=name)
