"""Benchmark of an index of 100,000 files: starting with it, and changing it under load."""

import math
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench import data, load, servers
from bench.load import Load
from bench.report import Row, Target
from bench.servers import Running, Server
from bench.settings import Settings

REPO = "root"
MARGIN_S = 0.5
LONGEST_S = 60.0
START_TARGET = {"json": Target("", most=2.0)}


def measure_start(settings: Settings, extension: str) -> list[Row]:
    """Measure the time from the start to a page's first 200, and the memory used then."""
    index = _index_path(settings.folder / "start", extension)
    index.write_bytes(data.large_index(extension))
    times, memories = [], []
    for _ in range(settings.runs):
        started = time.perf_counter()
        with _serving(settings.folder / "start", extension) as server:
            server.until_200(_page())
            times.append(time.perf_counter() - started)
            memories.append(server.memory_mb())
    size = f"the file has {index.stat().st_size / 1e6:.0f} MB"
    name = f"100,000 files in index.{extension}"
    return [
        Row(f"{name}: start", "s", {"pywharf": statistics.median(times)}, START_TARGET.get(extension), [size]),
        Row(f"{name}: memory then", "MB", {"pywharf": statistics.median(memories)}),
    ]


def measure_changes(settings: Settings, extension: str, changes: int) -> list[Row]:
    """Measure the cost of replacing the index, idle and under load. Each change waits until the last one is served."""
    folder = settings.folder / "changes"
    index = _index_path(folder, extension)
    index.write_bytes(data.large_index(extension))
    written = []
    for number in range(2, 2 * changes + 2):  # beforehand, so that a change is only a rename
        path = index.with_name(f"{number}.tmp")
        path.write_bytes(data.changed_index(extension, number))
        written.append((number, path))
    with _serving(folder, extension) as server:
        server.until_200(_page())
        server.until_200("/index_mtime/")

        parses, cpu, started = _parses(server), server.cpu_seconds(), time.perf_counter()
        _change(written[:changes], index, server)
        cpu, took = server.cpu_seconds() - cpu, time.perf_counter() - started
        parses_alone = _parses(server) - parses
        idle = server.cpu_seconds()
        time.sleep(took)
        idle = server.cpu_seconds() - idle

        quiet = load.read(server, _page(), load.PIP, folder, seconds=settings.seconds, connections=32)
        parses = _parses(server)
        # Under load a parse takes up to twice as long; the load must outlast the changes.
        seconds = math.ceil(2 * took + MARGIN_S)
        with load.reading(server, _page(), load.PIP, folder, seconds=seconds, connections=32) as process:
            time.sleep(MARGIN_S)
            loaded = time.perf_counter()
            _change(written[changes:], index, server)
            loaded = time.perf_counter() - loaded
            busy = load.result(process.communicate()[0])
        parses_busy = _parses(server) - parses
        root = load.read(server, f"/repo/{REPO}/simple/", load.PIP, folder, seconds=settings.seconds, connections=32)
    exactly = "exactly one a change" if parses_alone == parses_busy == changes else "NOT ONE A CHANGE"
    counted = f"{changes} changes: {parses_alone:.0f} parses; {changes} under load: {parses_busy:.0f}; {exactly}"
    name = f"a change of index.{extension}"
    share = f"{changes} changes, each served after {loaded / changes:.1f} s, in {seconds} s of load"
    return [
        Row(f"{name}: CPU", "ms", {"pywharf": 1e3 * (cpu - idle) / changes}, None, [counted]),
        Row(f"{name}: small page before", "/s", {"pywharf": quiet.per_second}, None, [_latency(quiet)]),
        Row(f"{name}: small page during", "/s", {"pywharf": busy.per_second}, None, [_latency(busy), share]),
        Row(f"{name}: root page after it", "/s", {"pywharf": root.per_second}, None, [_latency(root)]),
    ]


def _index_path(folder: Path, extension: str) -> Path:
    storage = data.fresh(folder) / "root" / "cache" / REPO / "storage"
    storage.mkdir(parents=True)
    return storage / f"index.{extension}"


def _serving(folder: Path, extension: str) -> Running:
    return servers.pywharf(folder, folder / "root", data.config(extension, [REPO]), REPO)


def _page() -> str:
    return f"/repo/{REPO}/simple/{data.large_name(7)}/"


def _latency(run: Load) -> str:
    return f"p50 {run.p50_ms:.1f} ms, p99 {run.p99_ms:.1f} ms, longest {run.max_ms:.0f} ms"


def _change(written: Sequence[tuple[int, Path]], index: Path, server: Server) -> None:
    for number, path in written:
        path.replace(index)
        end = time.monotonic() + LONGEST_S
        while server.get("/index_mtime/")[1] != str(number).encode():
            assert time.monotonic() < end, f"the change {number} is not served after {LONGEST_S} s"
            time.sleep(0.05)


def _parses(server: Server) -> float:
    _, body = server.get("/metrics")
    found = re.search(rb'^pywharf_index_parses_total\{repo="root"\} (\S+)$', body, re.MULTILINE)
    return float(found[1]) if found else 0.0
