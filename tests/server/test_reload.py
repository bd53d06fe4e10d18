"""Configuration and secrets that change while the server runs."""

import gzip
import os
import threading
import time
from pathlib import Path

import pytest

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import config_digest
from pywharf.core.errors import IncompleteConfigError
from pywharf.core.names import RepoName
from pywharf.serving import config_source
from pywharf.serving.config_files import read_text
from pywharf.serving.config_source import ConfigGiven, ConfigSource
from support.distributions.wheels import wheel
from support.operator.mounted_volume import ProjectedVolume
from support.server.calling import basic, call, connect, dial, form, read_to_end, request_head, statuses
from support.server.metrics import metric
from support.server.serving import CONFIG, Server, running
from support.waiting import wait_for

NOTICED_S = 2.0
"""Seconds within which a change must be served."""
SLOW_MACHINE_S = 8.0
"""Seconds added if the machine may be busy with other tests."""
THIRD = """
[third]
type = "file_system"
read_secret = "third-read"
write_secret = "third-write"
"""
REFUSED = "The new configuration is refused, the last good one stays"


def serves(server: Server, repo: str, secret: str | None = None) -> bool:
    return call(server.repo(repo), auth=f"{repo}:{secret or f'{repo}-read'}").status == 200


def publish(server: Server, file: Path, repo="demo") -> None:
    body, content_type = form(("content", file.name, file.read_bytes()))
    headers = {"Content-Type": content_type}
    reply = call(server.repo(repo), "POST", auth=f"{repo}:{repo}-write", headers=headers, body=body)
    assert reply.status == 200, reply


def replace(path: Path, text: str | bytes) -> None:
    """Put another file in its place, as an editor or `kubectl` does."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(text if isinstance(text, bytes) else text.encode())
    temporary.replace(path)


@pytest.mark.parametrize("way", ["written", "replaced", "link"])
def test_a_new_configuration_is_served(tmp_path, way):
    config = tmp_path / "config.toml"
    if way == "link":  # how Kubernetes changes a ConfigMap's files
        for name, text in (("v1", CONFIG), ("v2", CONFIG + THIRD)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.toml").write_text(text)
        (tmp_path / "..data").symlink_to("v1")
        config.symlink_to("..data/config.toml")
    with running(tmp_path) as server:
        assert not serves(server, "third")
        changed = time.monotonic()
        match way:
            case "written":
                config.write_text(CONFIG + THIRD)
            case "replaced":
                replace(config, CONFIG + THIRD)
            case "link":
                (tmp_path / "..tmp").symlink_to("v2")
                (tmp_path / "..tmp").replace(tmp_path / "..data")
        wait_for(lambda: serves(server, "third"), "the new repo", longest_s=NOTICED_S + SLOW_MACHINE_S)
        took = time.monotonic() - changed
        assert took < NOTICED_S or os.getloadavg()[0] > 2, f"it took {took:.1f} s"
        assert serves(server, "demo")
        wait_for(lambda: "A new configuration is served: 3 repos." in server.text(), "the log to say so")
        assert metric(server, "pywharf_config_reloads_total", "applied") == 1
        assert metric(server, "pywharf_config_valid") == 1
        replace(config, CONFIG)
        wait_for(lambda: not serves(server, "third"), "the repo to go")
        assert REFUSED not in server.text()


# The fault, config.toml, what the log says about it
BAD: list[tuple[str, str | bytes, str]] = [
    ("no TOML", "[demo\n", "not valid TOML"),
    ("TOML cut off", CONFIG[: len(CONFIG) // 2] + '\nread_secret = "cut-secret', "not valid TOML"),
    ("not UTF-8", b"[demo]\nx = \xff\xfe", "not UTF-8"),
    ("NUL bytes", b"[demo]\0\0\0", "not valid TOML"),
    ("no table", "demo = 1\n", "'demo' is not a table"),
    ("no type", "[demo]\n", "type is missing"),
    ("an unknown type", '[demo]\ntype = "tape"\n', "'tape'"),
    ("an unknown field", CONFIG + 'colour = "red"\n', "colour"),
    ("a number for a secret", '[demo]\ntype = "file_system"\nread_secret = 12345678\n', "read_secret"),
    ("an empty secret", '[demo]\ntype = "file_system"\nread_secret = ""\n', "read_secret"),
    (
        "a secret's file that is not there",
        '[demo]\ntype = "file_system"\nread_secret = {file = "/nowhere"}\n',
        "/nowhere",
    ),
    (
        "a variable that is not set",
        '[demo]\ntype = "file_system"\nread_secret = {env = "NOT_SET_HERE"}\n',
        "NOT_SET_HERE",
    ),
    ("file and variable", '[demo]\ntype = "file_system"\nread_secret = {env = "A", file = "/b"}\n', "exactly one"),
    ("an impossible name", '["../demo"]\ntype = "file_system"\n', "'../demo'"),
    ("a name twice", '[demo]\ntype = "file_system"\n[DEMO]\ntype = "file_system"\n', "twice"),
    ("a number out of range", '[demo]\ntype = "file_system"\nmax_file_bytes = 0\n', "max_file_bytes is 0"),
    ("a path for an index", '[demo]\ntype = "file_system"\nindex_filename = "../x.toml"\n', "index_filename"),
    (
        "user info in a URL",
        '[demo]\ntype = "file_system"\nupstream = {url = "http://user:hidden-pass@x/"}\n',
        "user info",
    ),
]


def test_bad_configurations_are_refused_and_the_last_good_one_stays(tmp_path):
    config = tmp_path / "config.toml"
    with running(tmp_path) as server:
        server.secrets |= {"cut-secret", "12345678", "hidden-pass"}
        for refused, (what, text, says) in enumerate(BAD, 1):
            replace(config, text)
            wait_for(lambda: server.text().count(REFUSED) == refused, f"a refusal of {what}")  # noqa: B023
            line = next(line for line in reversed(server.text().splitlines()) if REFUSED in line)
            assert says in line, f"{what}: {line}"
            assert metric(server, "pywharf_config_reloads_total", "refused") == refused
            assert metric(server, "pywharf_config_valid") == 0
            assert serves(server, "demo"), what
            assert serves(server, "other"), what
        # A missing file is refused as well, and is logged only once.
        refused = len(BAD) + 1
        config.unlink()
        wait_for(lambda: server.text().count(REFUSED) == refused, "a refusal of the missing file")
        time.sleep(1.2)  # at least two more polls
        assert server.text().count(REFUSED) == refused
        assert serves(server, "demo")
        replace(config, CONFIG + THIRD)
        wait_for(lambda: serves(server, "third"), "the good one after all")
        wait_for(lambda: metric(server, "pywharf_config_valid") == 1, "the metric")


def test_bad_admin_secrets_are_refused(tmp_path):
    admin = tmp_path / "admin_secret.toml"
    good = '[demo]\ntype = "file_system"\nraw = "demo-admin"\n'
    admin.write_text(good)
    bad = [
        ("no TOML", "[demo", "not valid TOML"),
        ("another type", good.replace("file_system", "memory"), "'file_system'"),
        ("two places", good + 'env = "HOME"\n', "exactly one"),
        ("no place", '[demo]\ntype = "file_system"\n', "exactly one"),
        ("a file that is not there", '[demo]\ntype = "file_system"\nfile = "/nowhere"\n', "/nowhere"),
        ("an unknown field", good + "x = 1\n", "x"),
    ]
    with running(tmp_path, [f"--admin_secret={admin}"]) as server:
        server.secrets.add("demo-admin")
        for refused, (what, text, says) in enumerate(bad, 1):
            replace(admin, text)
            wait_for(lambda: server.text().count(REFUSED) == refused, f"a refusal of {what}")  # noqa: B023
            line = next(line for line in reversed(server.text().splitlines()) if REFUSED in line)
            assert says in line, f"{what}: {line}"
            assert "admin" in line, f"{what}: {line}"
            assert serves(server, "demo"), what
        replace(admin, good + '[nobody]\ntype = "memory"\nraw = "nobodys-admin"\n')
        server.secrets.add("nobodys-admin")
        wait_for(lambda: "A new configuration is served" in server.text(), "the good one")
        assert "admin secret of nobody is not used" in server.text()


def test_a_secret_in_a_file_is_rotated_without_anybody_noticing(tmp_path):
    """The new secret replaces the old one within seconds. The index is not read again, and no upload is lost."""
    read, write = tmp_path / "read", tmp_path / "write"
    read.write_text("first-read-secret\n")
    write.write_text("first-write-secret\r\n")
    config = f'[demo]\ntype = "file_system"\nread_secret = {{file = "{read}"}}\nwrite_secret = {{file = "{write}"}}\n'
    with running(tmp_path, config=config) as server:
        server.secrets |= {"first-read-secret", "second-read-secret", "first-write-secret"}
        file = wheel(tmp_path, "pkg")
        body, content_type = form(("content", file.name, file.read_bytes()))
        head = [
            "Host: x",
            f"Authorization: {basic('demo:first-write-secret')}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        with dial(server.url) as upload:
            upload.sendall(request_head("POST", "/simple/", head) + body[:100])
            parses = metric(server, "pywharf_index_parses_total", "demo")
            assert serves(server, "demo", "first-read-secret")
            changed = time.monotonic()
            replace(read, "second-read-secret\n")
            wait_for(lambda: serves(server, "demo", "second-read-secret"), "the new secret")
            took = time.monotonic() - changed
            assert took < NOTICED_S or os.getloadavg()[0] > 2, f"it took {took:.1f} s"
            assert not serves(server, "demo", "first-read-secret")
            assert serves(server, "demo", "first-write-secret")
            upload.sendall(body[100:])
            assert statuses(read_to_end(upload)) == [200]
        assert metric(server, "pywharf_index_parses_total", "demo") == parses
        # An empty or missing secret file is refused, so a partial delivery locks nobody out.
        replace(read, "")
        wait_for(lambda: REFUSED in server.text(), "the refusal")
        assert "read_secret" in server.text()
        assert serves(server, "demo", "second-read-secret")


def test_changing_one_repo_disturbs_no_other_and_not_itself(tmp_path):
    """No request fails while the configuration changes again and again."""
    config = tmp_path / "config.toml"
    with running(tmp_path) as server:
        publish(server, wheel(tmp_path, "pkg", payload=os.urandom(3_000_000)))
        publish(server, wheel(tmp_path, "own"), "other")
        page = call(f"{server.repo()}pkg/", auth="demo:demo-read")
        parses = metric(server, "pywharf_index_parses_total", "demo")
        wrong: list[str] = []
        asked = [0]
        done = threading.Event()

        def ask_on(repo: str, project: str) -> None:
            while not done.is_set():
                reply = call(f"{server.repo(repo)}{project}/", auth=f"{repo}:{repo}-read")
                asked[0] += 1
                if reply.status != 200 or project.encode() not in reply.body:
                    wrong.append(f"{repo}: {reply}")

        threads = [threading.Thread(target=ask_on, args=args) for args in (("demo", "pkg"), ("other", "own"))]
        slow = connect(server.url)
        slow.request(
            "GET", "/repo/demo/simple/pkg/pkg-1.0-py3-none-any.whl", headers={"Authorization": basic("demo:demo-read")}
        )
        response = slow.getresponse()
        beginning = response.read(1000)
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 5):
                changed = CONFIG.replace('"index.json"', f'"index.json"\nmax_file_bytes = {10**9 + number}')
                replace(config, changed)
                said = f'applied"}} {float(number)}'
                wait_for(lambda: said in call(f"{server.url}/metrics").body.decode(), f"reload {number}")  # noqa: B023
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not wrong, f"{len(wrong)} of {asked[0]} requests failed, first {wrong[0]}"
        assert asked[0] > 20
        assert len(beginning + response.read()) > 3_000_000
        slow.close()
        again = call(f"{server.repo()}pkg/", auth="demo:demo-read")
        assert again.header("ETag") == page.header("ETag")
        assert metric(server, "pywharf_index_parses_total", "demo") == parses


def test_a_removed_repo_comes_back_with_its_packages(tmp_path):
    config = tmp_path / "config.toml"
    with running(tmp_path) as server:
        file = wheel(tmp_path, "pkg")
        publish(server, file)
        replace(config, THIRD)
        wait_for(lambda: serves(server, "third"), "the other configuration")
        assert not serves(server, "demo")
        replace(config, CONFIG)
        wait_for(lambda: serves(server, "demo"), "the first one")
        reply = call(f"{server.repo()}pkg/{file.name}", auth="demo:demo-read")
        assert reply.body == file.read_bytes()


def test_a_configuration_waits_for_its_secrets(tmp_path):
    """Secrets are delivered separately: a configuration is not applied until the revision it names is mounted."""
    revision = tmp_path / "revision"
    secret = tmp_path / "read"
    revision.write_text("revision-one\n")
    secret.write_text("one-secret\n")
    config = tmp_path / "config.toml"

    def text(wanted: str) -> str:
        return (
            f'credentials_revision = "{wanted}"\ncredentials_revision_file = "{revision}"\n'
            f'[demo]\ntype = "file_system"\nread_secret = {{file = "{secret}"}}\n'
        )

    with running(tmp_path, config=text("revision-two")) as server:
        server.secrets |= {"one-secret", "two-secret", "three-secret"}
        reply = call(f"{server.url}/readyz")
        assert (reply.status, reply.json()["ready"]) == (503, False), reply
        assert call(f"{server.url}/healthz").status == 200
        assert not serves(server, "demo", "one-secret")
        assert "'revision-one'" in server.text()
        replace(secret, "two-secret\n")
        replace(revision, "revision-two\n")
        wait_for(lambda: serves(server, "demo", "two-secret"), "the first matching set")
        assert call(f"{server.url}/readyz").status == 200
        # The configuration arrives first ...
        replace(config, text("revision-three"))
        wait_for(lambda: REFUSED in server.text(), "the refusal")
        assert serves(server, "demo", "two-secret")
        # ... then a secret that belongs to another set than the configuration that is served
        replace(secret, "three-secret\n")
        replace(revision, "revision-three\n")
        wait_for(lambda: serves(server, "demo", "three-secret"), "the second matching set")
        assert not serves(server, "demo", "two-secret")


def test_a_change_while_it_is_being_read_is_not_missed(tmp_path, monkeypatch):
    """This holds at any moment: after reading, the files are compared with their state before."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    source = ConfigSource(ConfigGiven(config=str(config)), spec_types())
    read = read_text
    changes = [CONFIG + THIRD]

    def change_after_reading(*args):
        text = read(*args)
        if changes:
            replace(config, changes.pop())
        return text

    monkeypatch.setattr(config_source, "read_text", change_after_reading)
    assert sorted(source.load().repos) == ["demo", "other", "third"]
    assert not source.changed()
    # While the files keep changing, nothing of them is applied.
    changes += [CONFIG, THIRD] * 10
    with pytest.raises(IncompleteConfigError, match="change while"):
        source.load()
    assert source.changed()


@pytest.mark.parametrize("how", ["written again in the same moment", "with the time that it had"])
def test_a_change_that_the_times_do_not_show_is_not_missed(tmp_path, how):
    """Both texts have the same length, so only their content differs."""
    secret = tmp_path / "read"
    config = tmp_path / "config.toml"
    config.write_text(f'[demo]\ntype = "file_system"\nread_secret = {{file = "{secret}"}}\n')
    source = ConfigSource(ConfigGiven(config=str(config)), spec_types())
    for _ in range(3):
        secret.write_text("first-secret")
        before = secret.stat()
        assert source.load().repos[RepoName("demo")].credentials.read == "first-secret"
        secret.write_text("other-secret")
        if how == "with the time that it had":
            os.utime(secret, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert source.changed()
        assert source.load().repos[RepoName("demo")].credentials.read == "other-secret"
        assert not source.changed()


def test_all_workers_take_a_new_configuration(tmp_path):
    config = tmp_path / "config.toml"
    with running(tmp_path, ["--workers=3"]) as server:
        wait_for(lambda: server.text().count("Serving on") == 3, "each worker to serve the first one")
        replace(config, CONFIG + THIRD)
        wait_for(lambda: server.text().count("A new configuration is served") == 3, "each worker to take it")
        for _ in range(20):
            assert serves(server, "third")
        replace(config, "[demo")
        wait_for(lambda: server.text().count(REFUSED) == 3, "each worker to refuse it")
        for _ in range(10):
            assert serves(server, "third")
            assert metric(server, "pywharf_config_valid") == 0


def test_a_repo_is_added_to_many(tmp_path):
    """The operator delivers the change, compressed from then on. The other repos' indexes are not read again."""
    count = 200
    volume = ProjectedVolume(tmp_path / "volume")

    def deliver(repos: int, *, compressed: bool) -> str:
        folder = f"{volume.folder}/credentials"
        files: dict[str, str | bytes] = {"admin_secret.toml": "", "credentials/revision-0": f"{repos}"}
        text = f'credentials_revision = "{repos}"\ncredentials_revision_file = ["{folder}/revision-0"]\n'
        for number in range(repos):
            files[f"credentials/team-{number}.read"] = f"secret-{number}"
            text += f'[team-{number}]\ntype = "file_system"\nread_secret = {{file = "{folder}/team-{number}.read"}}\n'
        packed = gzip.compress(text.encode())
        volume.deliver(files | ({"config.toml.gz": packed} if compressed else {"config.toml": text}))
        return config_digest(text, "")

    first = deliver(count, compressed=False)
    flags = [f"--config={volume.folder}/config.toml", f"--admin_secret={volume.folder}/admin_secret.toml"]
    with running(tmp_path, [*flags, "--internal_port=0"], config=None) as server:
        server.secrets |= {f"secret-{number}" for number in range(100, count + 1)}
        assert call(f"{server.internal_url}/config").json() == {
            "digest": first,
            "broken": {},
            "policies": {},
            "access": True,
            "upstreams": [],
            "sources": True,
            "refused": "",
            "reviews_forbidden": False,
        }
        before = call(server.repo("team-0"), auth="team-0:secret-0")
        digest = deliver(count + 1, compressed=True)
        delivered = time.monotonic()
        auth = f"team-{count}:secret-{count}"
        wait_for(lambda: call(server.repo(f"team-{count}"), auth=auth).status == 200, "the new repo")
        took = time.monotonic() - delivered
        assert took < NOTICED_S or os.getloadavg()[0] > 2, f"it took {took:.1f} s"
        wait_for(lambda: call(f"{server.internal_url}/config").json()["digest"] == digest, "the report to say so")
        assert call(server.repo("team-0"), auth="team-0:secret-0").header("ETag") == before.header("ETag")
        assert "Traceback" not in server.text()
