"""`pywharf prefetch` against a real server: what it pins installs on a new computer while the other index is away."""

import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.clients.computer import Computer, Index
from support.clients.locking import LOCKS, PYLOCK, UV_LOCK
from support.distributions.wheels import sdist, wheel
from support.ports import free_port
from support.server.calling import call
from support.server.pull_through import CachePlace, cache_place, mirror
from support.server.serving import PYWHARF, Server, running
from support.server.terminal import on_terminal
from support.server.updating import finished, start
from support.server.upstream import Answer, Upstream, upstream
from support.waiting import wait_for

REPO = "mirror"


@dataclass
class Mirror:
    """A server that keeps another index, and what stops and starts either."""

    index: Upstream
    stop_index: contextlib.ExitStack
    servers: contextlib.ExitStack
    folder: Path
    place: CachePlace
    port: int
    server: Server

    @property
    def url(self) -> str:
        return self.server.repo(REPO)

    @property
    def client(self) -> Index:
        return Index(self.url, REPO, f"{REPO}-read")

    def restart(self) -> None:
        """Start the server anew, with nothing but its cache."""
        self.servers.close()
        self.server = self.servers.enter_context(
            running(
                self.folder / "server",
                [*self.place.flags, f"--port={self.port}"],
                config=mirror(REPO, self.index.url),
                root=self.folder / "root",
            )
        )

    def prefetch(self, *arguments: str | Path, status: int = 0, **env: str) -> str:
        given = {"WRITE": f"{REPO}-write", **env}
        return finished(start("prefetch", self.url, *map(str, arguments), "--secret_env=WRITE", env=given), status)

    def report(self, *arguments: str | Path, status: int = 0) -> dict[str, object]:
        lines = self.prefetch(*arguments, status=status).splitlines()
        found: dict[str, object] = json.loads(next(line for line in lines if line.startswith('{"repo"')))
        return found

    def pins(self, prefix: str = "") -> dict[str, str]:
        """Return the digests of pinned files by name, of the projects that begin so."""
        reply = call(f"{self.server.url}/repo/{REPO}/-/pins/", auth=f"{REPO}:{REPO}-read")
        assert reply.status == 200, reply
        return {pin["filename"]: pin["sha256"] for pin in reply.json()["pins"] if pin["project"].startswith(prefix)}

    def fetched(self) -> list[str]:
        return [name for name in self.index.fetched() if not name.endswith(".metadata")]


@contextlib.contextmanager
def mirroring(folder: Path) -> Iterator[Mirror]:
    with contextlib.ExitStack() as servers, contextlib.ExitStack() as of_index:
        index = of_index.enter_context(upstream())
        place = cache_place(folder / "cache")
        made = Mirror(index, of_index, servers, folder, place, free_port(), None)  # type: ignore[arg-type]
        made.restart()
        yield made


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """Return a mirror that tests share; each uses projects of its own, and stops nothing."""
    with mirroring(tmp_path_factory.mktemp("mirror")) as made:
        yield made


def offer_wanted(mirrored: Mirror, prefix: str) -> tuple[str, str]:
    """Offer two projects that require a third one, in four files that the newest releases have. Returns their names."""
    folder = mirrored.folder / f"files-{prefix}"
    folder.mkdir()
    base, web, data = (f"{prefix}-{name}" for name in ("base", "web", "data"))
    requires = f"Requires-Dist: {base}>=1.0\n"
    mirrored.index.offer(base, wheel(folder, base, "1.0"), wheel(folder, base, "2.0"), core_metadata=True)
    mirrored.index.offer(web, wheel(folder, web, extra_metadata=requires), core_metadata=True)
    mirrored.index.offer(data, wheel(folder, data, extra_metadata=requires), sdist(folder, data), core_metadata=True)
    return web, data


def test_prefetched_locks_install_while_the_index_is_away(tmp_path: Path) -> None:
    with mirroring(tmp_path) as mirrored:
        paths = []
        for number, lock in enumerate(LOCKS):
            wanted = offer_wanted(mirrored, f"set{number}")
            paths.append(lock.write(Computer(tmp_path / f"author-{number}"), mirrored.client, wanted))
            report = mirrored.report(f"--lock={paths[-1]}")
            assert (report["wanted"], report["pinned"], report["problems"], report["notes"]) == (4, 4, [], [])
        assert sorted(mirrored.fetched()) == sorted(mirrored.pins()), "each file is fetched once, and all are pinned"

        mirrored.stop_index.close()
        mirrored.restart()
        for number, lock in enumerate(LOCKS):
            python = lock.install(Computer(tmp_path / f"reader-{number}"), mirrored.client, paths[number])
            installed = python.installed()
            installed.pop("consumer", None)
            names = {"base": "2.0", "data": "1.0", "web": "1.0"}
            assert installed == {f"set{number}-{name}": version for name, version in names.items()}
        flags = [f"--lock={path}" for path in paths]
        assert mirrored.report(*flags, "--again")["present"] == 12
        assert mirrored.report(*flags, "--unpin")["unpinned"] == 12
        assert mirrored.pins() == {}


def test_locks_that_name_another_index(mirrored: Mirror, tmp_path: Path) -> None:
    elsewhere = Index(mirrored.index.url, "somebody", "x")
    wanted = offer_wanted(mirrored, "elsewhere")
    paths = [lock.write(Computer(tmp_path / lock.name), elsewhere, wanted) for lock in (UV_LOCK, PYLOCK)]
    assert not any(mirrored.url in path.read_text() for path in paths)
    report = mirrored.report(*(f"--lock={path}" for path in paths))
    assert (report["wanted"], report["problems"]) == (4, [])
    assert len(mirrored.pins("elsewhere")) == 4


def requirements(folder: Path, *pins: str, name: str = "requirements.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(pins) + "\n")
    return path


def hashed(mirrored: Mirror, *names: str) -> str:
    """Return the options of a requirement for these files of the index."""
    digests = (hashlib.sha256(mirrored.index.files[name].read_bytes()).hexdigest() for name in names)
    return " ".join(f"--hash=sha256:{digest}" for digest in digests)


def test_what_was_killed_goes_on_where_it_was(mirrored: Mirror, tmp_path: Path) -> None:
    files = tmp_path / "many"
    files.mkdir()
    many = [wheel(files, f"many-{number}") for number in range(24)]
    for file in many:
        mirrored.index.offer(file.name.partition("-1.0")[0].replace("_", "-"), file)
    held = many[20].name
    content = many[20].read_bytes()
    mirrored.index.file_answers[held] = Answer(content, "application/octet-stream", how="held")
    mirrored.index.go_on.clear()
    lock = requirements(tmp_path, *(f"many-{number}==1.0" for number in range(24)))
    running_command = start(
        "prefetch", mirrored.url, f"--lock={lock}", "--secret_env=WRITE", env={"WRITE": f"{REPO}-write"}
    )
    wait_for(lambda: len(mirrored.pins("many-")) == 23, "all files but the held one to be pinned")
    running_command.send_signal(signal.SIGKILL)
    running_command.communicate(timeout=30)
    mirrored.index.go_on.set()
    report = mirrored.report(f"--lock={lock}")
    assert (report["wanted"], report["problems"]) == (24, [])
    assert len(mirrored.pins("many-")) == 24
    fetched = sorted(name for name in mirrored.fetched() if name.startswith("many_"))
    assert fetched == sorted(file.name for file in many), "a file was fetched twice"


def test_platforms_are_chosen(mirrored: Mirror, tmp_path: Path) -> None:
    plain = wheel(tmp_path, "odd")
    wheels = []
    for tag in ("cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-win_amd64", "cp311-cp311-manylinux_2_17_x86_64"):
        wheels.append(plain.with_name(f"odd-1.0-{tag}.whl"))
        wheels[-1].write_bytes(plain.read_bytes() + tag.encode())
    mirrored.index.offer("odd", *wheels, sdist(tmp_path, "odd"))
    names = [file.name for file in wheels]
    lock = requirements(tmp_path, f"odd==1.0 {hashed(mirrored, *names)}")
    mirrored.report(f"--lock={lock}", "--platform=linux_x86_64", "--python=3.12")
    assert set(mirrored.pins("odd")) == {names[0]}
    mirrored.report(f"--lock={lock}", "--platform=linux", "--platform=windows", "--python=3.12")
    assert set(mirrored.pins("odd")) == set(names[:2])
    report = mirrored.report(f"--lock={lock}", "--platform=macos")
    assert report["notes"] == ["no file of odd 1.0 is for the chosen platforms"]
    everything = requirements(tmp_path, "odd==1.0", name="unhashed.txt")
    mirrored.report(f"--lock={everything}")
    assert set(mirrored.pins("odd")) == {*names, "odd-1.0.tar.gz"}


def test_what_cannot_be_pinned_is_named(mirrored: Mirror, tmp_path: Path) -> None:
    offer_wanted(mirrored, "wrong")
    file = "wrong_base-2.0-py3-none-any.whl"
    wrong = tmp_path / "uv.lock"
    wrong.write_text(
        "version = 1\n"
        + "".join(
            f'[[package]]\nname = "{name}"\nversion = "2.0"\n'
            'source = { registry = "https://elsewhere.example/simple" }\n'
            f'wheels = [{{ url = "https://elsewhere.example/{filename}", hash = "sha256:{"0" * 64}" }}]\n'
            for name, filename in (("wrong-base", file), ("missing", "missing-2.0-py3-none-any.whl"))
        )
    )
    lock = requirements(tmp_path, f"wrong-web==1.0 --hash=sha256:{'0' * 64}", "gone==1.0", "-e .", "numpy>=2")
    report = mirrored.report(f"--lock={wrong}", f"--lock={lock}", status=1)
    problems = "\n".join(map(str, report["problems"]))  # type: ignore[call-overload]
    assert f"wrong-base/{file}: {file} has the SHA-256" in problems
    assert "missing/missing-2.0-py3-none-any.whl: This repo has no file" in problems
    assert "the repo shows no file of wrong-web 1.0 that the lock means" in problems
    assert "the repo shows no file of gone 1.0 that the lock means" in problems
    assert report["notes"] == [
        "'-e .' does not come from an index, so it is not prefetched",
        "'numpy>=2' is not pinned to one version, so it is not prefetched",
    ]
    assert mirrored.pins("wrong") == {}
    assert not any(name.startswith("wrong") for name in mirrored.fetched())


def test_an_index_that_fails_is_said_and_tried_again_later(mirrored: Mirror, tmp_path: Path) -> None:
    offer_wanted(mirrored, "broken")
    name = "broken_base-2.0-py3-none-any.whl"
    lock = requirements(tmp_path, f"broken-base==2.0 {hashed(mirrored, name)}", "broken-web==1.0")
    content = mirrored.index.files[name].read_bytes()
    mirrored.index.file_answers[name] = Answer(content[:-1] + b"x", "application/octet-stream")
    report = mirrored.report(f"--lock={lock}", status=1)
    assert len(report["problems"]) == 1  # type: ignore[arg-type]
    assert set(mirrored.pins("broken")) == {"broken_web-1.0-py3-none-any.whl"}
    del mirrored.index.file_answers[name]
    assert mirrored.report(f"--lock={lock}")["present"] == 1
    assert name in mirrored.pins("broken")


def test_a_huge_lock_costs_little(tmp_path: Path) -> None:
    path = tmp_path / "uv.lock"
    with path.open("wb") as file:
        file.truncate(2 * 1024**3)
    most = 400 * 1024**2
    limits = f"resource.setrlimit(resource.RLIMIT_DATA, ({most}, {most}))"
    script = f"import resource, os, sys; {limits}; os.execv(sys.argv[1], sys.argv[1:])"
    program = (sys.executable, "-c", script, PYWHARF)
    process = start("prefetch", "http://127.0.0.1:9/repo/mirror/simple/", f"--lock={path}", program=program)
    assert "is larger than" in finished(process, 2)


def test_credentials(mirrored: Mirror, tmp_path: Path) -> None:
    offer_wanted(mirrored, "secret")
    lock = requirements(tmp_path, "secret-web==1.0")
    netrc = tmp_path / "netrc"
    command = ("prefetch", mirrored.url, f"--lock={lock}")
    assert "give the repo's write secret or a token" in finished(start(*command, env={"HOME": str(tmp_path)}), 2)
    netrc.write_text(f"machine 127.0.0.1 login {REPO} password wrong-word\n")
    text = finished(start(*command, env={"NETRC": str(netrc)}), 2)
    assert "refuses these" in text
    assert "wrong-word" not in text
    (tmp_path / "secret").write_text(f"{REPO}-read\n")
    text = finished(start(*command, f"--secret_file={tmp_path / 'secret'}"), 1)
    assert "This secret allows reading only" in text
    netrc.write_text(f"machine 127.0.0.1 login {REPO} password {REPO}-write\n")
    assert json.loads(finished(start(*command, env={"NETRC": str(netrc)})))["pinned"] == 1


def test_a_person_sees_a_bar(mirrored: Mirror, tmp_path: Path) -> None:
    offer_wanted(mirrored, "bar")
    lock = requirements(tmp_path, "bar-web==1.0", "bar-data==1.0")
    command = [PYWHARF, "prefetch", mirrored.url, f"--lock={lock}", "--secret_env=WRITE"]
    status, shown = on_terminal(command, {"WRITE": f"{REPO}-write"})
    assert status == 0, shown
    assert "Prefetching" in shown
    assert "3/3" in shown
    assert "3 files wanted: 3 pinned now, 0 were there, 0 problems." in shown
