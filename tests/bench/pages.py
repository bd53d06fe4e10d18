"""Benchmark of pages and files: pywharf with basic authentication and its peers without, alternately."""

import contextlib
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench import data, load, servers
from bench.data import Data
from bench.load import Load
from bench.report import BETTER, Row, Target, Unit
from bench.servers import Server
from bench.settings import Settings

CONNECTIONS = 32
PYPISERVER_CONNECTIONS = 4
"""pypiserver answers one request at a time and queues five; more connections would only measure timeouts."""


@dataclass(frozen=True)
class Reading:
    """A page or a file, with its path on each server."""

    name: str
    repo: str
    path: str
    """Path below pywharf's …/simple/."""
    pypiserver_path: str
    """Path on pypiserver; if empty, there are no peers."""
    unit: Unit = "/s"
    headers: Mapping[str, str] | None = None
    """Request headers; None for pip's."""
    connections: int = CONNECTIONS
    target: Target | None = None
    notes: tuple[str, ...] = ()
    access_log: str = "off"


def readings(made: Data) -> list[Reading]:
    """Return all readings, in the order of the table."""
    # The targets were set on a machine where a plain pypiserver answered 340/s in a repo of 100 files.
    small, large, big = Target(BETTER, least=25), Target(BETTER, least=50), Target("nginx", least=0.6)
    as_pip = "as pip asks: JSON, gzip; pypiserver has HTML alone and does not compress"
    plain = "not compressed"
    folders = "pypiserver has one empty file a project, pywharf an index of 100,000 files"
    page, thousand = "/simple/small1/", "/simple/thousand/"
    nth = "thousand-1.500-py3-none-any.whl"
    tiny, huge = f"/packages/{made.tiny}", f"/packages/{made.big}"
    return [
        Reading("small page", "small", "small1/", page, target=small, notes=(as_pip, "in a repo of 100 files")),
        Reading("small page, access log", "small", "small1/", "", notes=("--access_log=text",), access_log="text"),
        Reading("1,000-file page", "thousand", "thousand/", thousand, target=large),
        Reading(
            "1,000-file page, plain",
            "thousand",
            "thousand/",
            thousand,
            headers=load.PLAIN,
            target=large,
            notes=(plain,),
        ),
        Reading("root of 20,000", "root", "", "/simple/", target=large, notes=(folders,)),
        Reading("root of 20,000, plain", "root", "", "/simple/", headers=load.PLAIN, target=large, notes=(plain,)),
        Reading("tiny wheel", "small", f"tiny/{made.tiny}", tiny),
        Reading("tiny wheel, one of 1,000", "thousand", f"thousand/{nth}", f"/packages/{nth}"),
        Reading("20 MB wheel", "small", f"big/{made.big}", huge, unit="MB/s", connections=8, target=big),
    ]


def measure(reading: Reading, made: Data, settings: Settings) -> Row:
    """Measure one row: in each round, each server once."""
    folder = data.fresh(settings.folder / "reading")
    headers = reading.headers or load.PIP
    path = f"/repo/{reading.repo}/simple/{reading.path}"
    flags = [f"--access_log={reading.access_log}"]
    notes = [*reading.notes]
    with contextlib.ExitStack() as stack:
        pywharf = stack.enter_context(servers.pywharf(folder, made.root, data.config(), reading.repo, flags))
        pywharf.until_200(path)
        asked: dict[str, tuple[Server, str, int]] = {"pywharf": (pywharf, path, reading.connections)}
        if reading.pypiserver_path:
            nginx = stack.enter_context(servers.nginx(folder / "nginx"))
            at = _as_static_file(pywharf, path, headers, nginx, reading.repo)
            asked["nginx"] = nginx, at, reading.connections
            for name, server in _pypiservers(reading, made, settings, stack):
                asked[name] = server, reading.pypiserver_path, PYPISERVER_CONNECTIONS
        if reading.name == "small page":
            projects = data.projects_apart(made, reading.repo, folder / "projects")
            simpleindex = stack.enter_context(servers.simpleindex(folder, projects))
            simpleindex.until_200(f"/{reading.path}")
            asked["simpleindex"] = simpleindex, f"/{reading.path}", reading.connections
        runs: dict[str, list[Load]] = {name: [] for name in asked}
        micros: dict[str, list[float]] = {name: [] for name in asked}
        for name in [*asked] * settings.runs:
            server, at, connections = asked[name]
            cpu = server.cpu_seconds()
            run = load.read(server, at, headers, folder, seconds=settings.seconds, connections=connections)
            runs[name].append(run)
            micros[name].append(1e6 * (server.cpu_seconds() - cpu) / max(1.0, run.per_second * settings.seconds))
    notes.append(processor_time({name: statistics.median(values) for name, values in micros.items()}))
    return _row(reading, runs, notes)


def processor_time(micros: Mapping[str, float]) -> str:
    """Return what a response costs each server. On a busy machine it says more than responses per second."""
    own = micros["pywharf"]
    shown = [
        f"{name} {value:.0f} µs ({own / value:.1f}x)" for name, value in micros.items() if name != "pywharf" and value
    ]
    return f"processor time of a response: {', '.join([f'pywharf {own:.0f} µs', *shown])}"


def _row(reading: Reading, runs: Mapping[str, list[Load]], notes: list[str]) -> Row:
    values: dict[str, float] = {}
    for name, loads in runs.items():
        middle = load.median(loads)
        values[name] = middle.bytes_per_second / 1e6 if reading.unit == "MB/s" else middle.per_second
        broken, wrong = sum(run.failed for run in loads), sum(run.wrong for run in loads)
        if broken or wrong:
            notes.append(f"{name}: {broken} broken connections, {wrong} answers of 400 and above")
        if name == "pywharf":
            notes.append(f"p99 {middle.p99_ms:.1f} ms at {reading.connections} connections")
    return Row(reading.name, reading.unit, values, reading.target, notes)


def _as_static_file(pywharf: Server, path: str, headers: Mapping[str, str], nginx: Server, name: str) -> str:
    """Save pywharf's response and its gzip form as files of nginx. Returns the path there."""
    for suffix, encoding in (("", "identity"), (".gz", headers["Accept-Encoding"])):
        status, body = pywharf.get(path, {**headers, "Accept-Encoding": encoding})
        assert status == 200, f"{path}: {status}"
        if not suffix or body.startswith(b"\x1f\x8b"):
            (nginx.folder / "html" / f"{name}{suffix}").write_bytes(body)
    nginx.until_200(f"/{name}")
    return f"/{name}"


def _pypiservers(
    reading: Reading, made: Data, settings: Settings, stack: contextlib.ExitStack
) -> Iterator[tuple[str, Server]]:
    for name in servers.PYPISERVER:
        folder = settings.folder / name.replace(" ", "-")
        server = stack.enter_context(servers.pypiserver(folder, made.plain / reading.repo, name))
        server.until_200(reading.pypiserver_path)
        yield name, server
