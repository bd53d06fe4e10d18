"""Benchmark of the pull-through cache beside nginx, devpi's mirror and proxpi, which all keep one nginx's index.

That index runs on the cores of the load, the others on the servers' core.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bench import data, load, servers
from bench.data import Data
from bench.load import Load
from bench.report import Row, Target, Unit
from bench.servers import Server
from bench.settings import Settings
from support.clients.computer import Computer
from support.distributions.wheels import wheel
from support.server.downloading import Counted, download_at_once
from support.server.index_client import sha256

REPO, OWN = "mirror", "small"
LINE_BYTES_PER_S = 125_000_000
"""A line of 1 Gbit/s, over which the index's files go at `/line/`."""
COLD_FILES = 4
INSTALLED = 50
INSTALLED_BYTES = 200_000
CLIENTS = 200
SHARED_BYTES = 200_000_000
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class Peer:
    """A server that keeps the index. `simple` is its Simple index's path."""

    server: Server
    simple: str

    def links(self, project: str) -> dict[str, str]:
        """Return the paths of a project's files by name."""
        page = f"{self.simple}{project}/"
        status, body = self.server.get(page, {"Accept": load.PIP["Accept"]})
        assert status == http.HTTPStatus.OK, (self.server.name, page, status, body[:300])
        if body.lstrip().startswith(b"{"):
            hrefs = [file["url"] for file in json.loads(body)["files"]]
        else:
            hrefs = re.findall(r'href="([^"#]+)', body.decode())
        paths = [urlsplit(urljoin(f"http://x{page}", href)).path for href in hrefs]
        return {path.rpartition("/")[2]: path for path in paths}


def measure(made: Data, settings: Settings) -> list[Row]:
    """Measure warm pages and files, cold files, installations, and many clients of one new file."""
    folder = data.fresh(settings.folder / "pull-through")
    offered = _files(made, settings, folder)
    with _index(folder / "index", offered) as index:
        return [
            *_warm(made, settings, index, folder),
            _cold(settings, index, folder, "files", None),
            _cold(settings, index, folder, "line", Target("direct", most=1.15)),
            *_installs(settings, index, folder),
            *_at_once(index, folder),
        ]


def _files(made: Data, settings: Settings, folder: Path) -> dict[str, list[Path]]:
    """Return the files of the index by project."""
    own = folder / "made"
    own.mkdir(parents=True)
    offered = {
        "small1": sorted((made.plain / OWN).glob("small1-*")),
        "big": [made.plain / OWN / made.big],
        "shared": [wheel(own, "shared", payload=b"#" + os.urandom(SHARED_BYTES))],
    }
    big = os.urandom(data.BIG_BYTES)
    for way in ("files", "line"):
        versions = [f"1.{number}" for number in range(settings.runs * COLD_FILES)]
        offered[f"cold-{way}"] = [
            wheel(own, f"cold-{way}", version, payload=b"#" + version.encode() + big) for version in versions
        ]
    for number in range(INSTALLED):
        noise = os.urandom(INSTALLED_BYTES // 2).hex()
        offered[f"installed-{number}"] = [wheel(own, f"installed-{number}", payload=f"NOISE = '{noise}'\n".encode())]
    return offered


@contextlib.contextmanager
def _index(folder: Path, offered: Mapping[str, Sequence[Path]]) -> Iterator[Server]:
    """Run the index that the others keep: nginx with pages and files."""
    files, line = folder / "html" / "files", folder / "html" / "line"
    files.mkdir(parents=True)
    line.symlink_to(files)
    for project, paths in offered.items():
        way = "line" if project == "cold-line" else "files"
        for path in paths:
            (files / path.name).hardlink_to(path)
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": [_entry(path, way) for path in paths]}
        _write_page(folder / "html" / "simple" / project, page)
    projects = {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in offered]}
    _write_page(folder / "html" / "simple", projects)
    more = f"location /line/ {{ limit_rate {LINE_BYTES_PER_S}; }}"
    with servers.nginx(folder, more, servers.LOAD_CORES) as server:
        server.until_200("/simple/big/")
        yield server


def _write_page(folder: Path, page: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "page").write_text(json.dumps(page))


def _entry(path: Path, way: str) -> dict[str, object]:
    return {
        "filename": path.name,
        "url": f"../../{way}/{path.name}",
        "hashes": {"sha256": sha256(path.read_bytes())},
        "size": path.stat().st_size,
        "requires-python": ">=3.8",
        "upload-time": data.UPLOAD_TIME,
        "yanked": False,
    }


def _url(index: Server) -> str:
    return f"http://127.0.0.1:{index.port}/simple/"


@contextlib.contextmanager
def _pywharf(index: Server, folder: Path, root: Path | None = None) -> Iterator[Peer]:
    """Run pywharf with an empty cache; the repo `small` of `root` is its own."""
    data.fresh(folder)
    own = {"read_secret": f"r-{data.SECRET}", "write_secret": data.SECRET, "type": "file_system"}
    lines = "\n".join(f'{key} = "{value}"' for key, value in own.items())
    table = f'[{REPO}]\n{lines}\nupstream = {{ mode = "Cached", url = "{_url(index)}" }}\n'
    cache = folder / "cache.toml"
    cache.write_text(f'type = "file_system"\nfolder = "{folder / "kept"}"\n')
    flags = ["--access_log=off", f"--cache_config={cache}"]
    config = table + (data.config(repos=[OWN]) if root is not None else "")
    with servers.pywharf(folder, root or folder / "root", config, REPO, flags) as server:
        server.until_200(f"/repo/{REPO}/simple/big/")
        yield Peer(server, f"/repo/{REPO}/simple/")


@contextlib.contextmanager
def _devpi(index: Server, folder: Path) -> Iterator[Peer]:
    with servers.devpi(data.fresh(folder), _url(index)) as server:
        server.until_200("/bench/mirror/+simple/big/")
        yield Peer(server, "/bench/mirror/+simple/")


@contextlib.contextmanager
def _proxpi(index: Server, folder: Path) -> Iterator[Peer]:
    with servers.proxpi(data.fresh(folder), _url(index)) as server:
        server.until_200("/index/big/")
        yield Peer(server, "/index/")


PEERS: dict[str, Callable[[Server, Path], contextlib.AbstractContextManager[Peer]]] = {
    "pywharf": _pywharf,
    "devpi": _devpi,
    "proxpi": _proxpi,
}


def _warm(made: Data, settings: Settings, index: Server, folder: Path) -> Iterator[Row]:
    """Compare kept pages and files with the server's own ones, and with those of the peers."""
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(_pywharf(index, folder / "pywharf", made.root))
        own = dataclasses.replace(kept.server, headers=servers.authorization(OWN))
        peers = {"pywharf": kept, "own": Peer(own, f"/repo/{OWN}/simple/")}
        peers["nginx"] = Peer(stack.enter_context(_static(index, folder / "nginx")), "/simple/")
        for name in ("devpi", "proxpi"):
            peers[name] = stack.enter_context(PEERS[name](index, folder / name))
        pages = {name: f"{peer.simple}small1/" for name, peer in peers.items()}
        files = {name: peer.links("big")[made.big] for name, peer in peers.items()}
        for paths in (pages, files):
            for name, peer in peers.items():
                peer.server.until_200(paths[name])
        target = Target("own", least=1.0)
        yield _rates("pull-through: kept page", "/s", peers, pages, settings, folder, target)
        target = Target("nginx", least=0.8)
        yield _rates("pull-through: kept 20 MB wheel", "MB/s", peers, files, settings, folder, target)


@contextlib.contextmanager
def _static(index: Server, folder: Path) -> Iterator[Server]:
    """Run nginx with the index's pages and files on the servers' core."""
    data.fresh(folder)
    (folder / "html").symlink_to(index.folder / "html")
    with servers.nginx(folder) as server:
        yield server


def _rates(
    name: str,
    unit: Unit,
    peers: Mapping[str, Peer],
    paths: Mapping[str, str],
    settings: Settings,
    folder: Path,
    target: Target,
) -> Row:
    connections = 32 if unit == "/s" else 8
    runs: dict[str, list[Load]] = {peer: [] for peer in peers}
    micros: dict[str, list[float]] = {peer: [] for peer in peers}
    for peer in [*peers] * settings.runs:
        server = peers[peer].server
        cpu = server.cpu_seconds()
        run = load.read(server, paths[peer], load.PIP, folder, seconds=settings.seconds, connections=connections)
        runs[peer].append(run)
        micros[peer].append(1e6 * (server.cpu_seconds() - cpu) / max(1.0, run.per_second * settings.seconds))
    middles = {peer: load.median(loads) for peer, loads in runs.items()}
    values = {p: m.bytes_per_second / 1e6 if unit == "MB/s" else m.per_second for p, m in middles.items()}
    costs = {peer: statistics.median(found) for peer, found in micros.items()}
    notes = ["processor time of a response: " + ", ".join(f"{peer} {cost:.0f} µs" for peer, cost in costs.items())]
    notes += [
        f"{p}: {sum(r.failed + r.wrong for r in found)} failed"
        for p, found in runs.items()
        if any(r.failed or r.wrong for r in found)
    ]
    return Row(name, unit, values, target, notes)


def _cold(settings: Settings, index: Server, folder: Path, way: str, target: Target | None) -> Row:
    """Compare the first download of a 20 MB wheel with one from the index itself, in turns."""
    project = f"cold-{way}"
    taken: dict[str, list[float]] = {"pywharf": [], "direct": [], "devpi": [], "proxpi": []}
    with contextlib.ExitStack() as stack:
        peers = {n: stack.enter_context(start(index, folder / f"{project}-{n}")) for n, start in PEERS.items()}
        peers["direct"] = Peer(index, "/simple/")
        links = {name: peer.links(project) for name, peer in peers.items()}
        for filename in links["direct"]:
            for name, found in taken.items():
                found.append(_download(peers[name].server, links[name][filename]))
    over = "over a line of 1 Gbit/s" if way == "line" else "without a limit, over loopback"
    values = {name: 1e3 * statistics.median(found) for name, found in taken.items()}
    return Row(f"pull-through: new 20 MB wheel, {way}", "ms", values, target, [f"the index sends {over}"])


def _download(server: Server, path: str) -> float:
    """Download a file, with redirects within this machine. Returns the seconds."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=servers.START_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=dict(server.headers))
        response = connection.getresponse()
        if response.status in {301, 302}:  # proxpi sends clients to the index if it is too slow itself
            where = urlsplit(response.headers["Location"])
            return _download(dataclasses.replace(server, port=where.port or 80), where.path) + (
                time.perf_counter() - began
            )
        assert response.status == http.HTTPStatus.OK, (server.name, path, response.status)
        count = 0
        while piece := response.read(_PIECE):
            count += len(piece)
    assert count >= data.BIG_BYTES, (server.name, path, count)
    return time.perf_counter() - began


def _installs(settings: Settings, index: Server, folder: Path) -> Iterator[Row]:
    """Install 50 packages on new computers by uv: first what is not kept, then what is."""
    taken: dict[str, dict[str, list[float]]] = {"new": {}, "kept": {}}
    for run in range(settings.runs):
        for name, start in PEERS.items():
            with start(index, folder / f"install-{name}-{run}") as peer:
                for times in taken.values():
                    times.setdefault(name, []).append(_install(peer, folder / "computer"))
        taken["new"].setdefault("direct", []).append(_install(Peer(index, "/simple/"), folder / "computer"))
    for what, times in taken.items():
        values = {name: statistics.median(found) for name, found in times.items()}
        yield Row(f"pull-through: uv installs {INSTALLED} {what} packages", "s", values)


def _install(peer: Peer, folder: Path) -> float:
    computer = Computer(data.fresh(folder))
    user = f"{REPO}:{data.SECRET}@" if peer.server.name == "pywharf" else ""
    url = f"http://{user}127.0.0.1:{peer.server.port}{peer.simple}"
    command = computer.python().uv_install(url)
    began = time.perf_counter()
    command.run(computer, *(f"installed-{number}" for number in range(INSTALLED)))
    return time.perf_counter() - began


def _at_once(index: Server, folder: Path) -> Iterator[Row]:
    """Let 200 clients ask for one new wheel of 200 MB."""
    with _pywharf(index, folder / "at-once") as peer:
        [(filename, path)] = peer.links("shared").items()
        size = (index.folder / "html" / "files" / filename).stat().st_size
        before = highest = peer.server.memory_mb()
        url = f"http://127.0.0.1:{peer.server.port}"
        clients = [Counted(url, path, f"{REPO}:{data.SECRET}", size, checked=False) for _ in range(CLIENTS)]
        began = time.perf_counter()
        for _ in download_at_once(clients):
            highest = max(highest, peer.server.memory_mb())
        seconds = time.perf_counter() - began
        wrong = [client.outcome for client in clients if client.outcome != str(size)]
        notes = [f"{CLIENTS} clients, {len(wrong)} failed {wrong[:1]}"]
        yield Row("pull-through: all clients have a new 200 MB wheel", "s", {"pywharf": seconds}, None, notes)
        yield Row("pull-through: memory that it took", "MB", {"pywharf": highest - before}, Target("", most=60.0))
