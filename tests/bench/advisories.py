"""Benchmark of a feed of 200,000 advisories: memory of the server, and what other requests notice of the reading."""

import json
import os
import time
import zipfile
from pathlib import Path

import psutil

from bench import data
from bench.report import Row, Target
from bench.settings import Settings
from support.server.calling import ask, call, connect
from support.server.serving import Server, running
from support.waiting import wait_for

ENTRIES = 200_000
PROJECTS = 9_000
"""Projects with several entries each; a malware report has a project of its own."""
LAST = "GHSA-last-last-last"
_BATCH = 1_000
_LONGEST_S = 600.0
_AT_REST = 5_000


def measure(settings: Settings) -> list[Row]:
    """Measure a server that reads the feed while a client keeps asking for something small."""
    folder = data.fresh(settings.folder / "advisories")
    feed = folder / "feed.zip"
    with running(folder / "server", [f"--advisories={feed}", "--access_log=off"]) as server:
        process = psutil.Process(server.process.pid)
        for _ in range(3):
            call(f"{server.url}/healthz")
        before = _own_mb(process)
        at_rest = _at_rest(server)
        _write(folder / "feed.new")
        (folder / "feed.new").rename(feed)
        waits, own, processor_s, peak_mb = _while_reading(server, process)
        read = _own_mb(process)
        _ask_about_all(server)
        asked = _own_mb(process)
    data.fresh(folder)
    waits.sort()
    median_ms = waits[len(waits) // 2] * 1e3
    compiling = f"the process that reads it takes {processor_s:.0f} s of processor time and {peak_mb:.0f} MB at most"
    return [
        Row(
            f"memory for {ENTRIES:,} advisories",
            "MB",
            {"pywharf": asked - before},
            Target("", most=50.0),
            [f"{read - before:.0f} MB once they are read, the rest after a question about each", compiling],
        ),
        Row(
            "longest request while they are read",
            "ms",
            {"pywharf": waits[-1] * 1e3},
            Target("", most=20.0),
            [
                f"of {len(waits):,}; the median is {median_ms:.1f} ms",
                f"{max(own) * 1e3:.1f} ms without what client and server wait for a processor",
                f"{at_rest * 1e3:.1f} ms before, when nothing is read",
            ],
        ),
    ]


def _at_rest(server: Server) -> float:
    """Return the seconds of the longest of some requests: what the machine itself makes them wait."""
    connection = connect(server.url)
    longest = 0.0
    for _ in range(_AT_REST):
        began = time.perf_counter()
        assert ask(connection, "/healthz").status == 200
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.005)
    connection.close()
    return longest


def _while_reading(server: Server, process: psutil.Process) -> tuple[list[float], list[float], float, float]:
    """Return the seconds of each request until the feed is in use, and what the process takes that reads it.

    The second list is of the same requests, without the time that client and server waited for a processor.
    """
    waits: list[float] = []
    own: list[float] = []
    delays = [_Delay(server.process.pid), _Delay(os.getpid())]
    processor_s = peak_mb = 0.0
    connection = connect(server.url)
    ends = time.monotonic() + _LONGEST_S
    for number in range(10**9):
        before = sum(delay.seconds() for delay in delays)
        began = time.perf_counter()
        assert ask(connection, "/healthz").status == 200
        waits.append(time.perf_counter() - began)
        own.append(waits[-1] - (sum(delay.seconds() for delay in delays) - before))
        time.sleep(0.005)
        if number % 20:
            continue
        for child in process.children():
            try:
                processor_s = max(processor_s, sum(child.cpu_times()[:2]))
                peak_mb = max(peak_mb, child.memory_info().rss / 1e6)
            except psutil.Error:  # it has just ended
                continue
        if ask(connection, f"/v1/vulns/{LAST}").status == 200:
            break
        assert time.monotonic() < ends, f"the feed is not read after {_LONGEST_S} s"
    connection.close()
    return waits, own, processor_s, peak_mb


class _Delay:
    """How long the first thread of a process has waited for a processor."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/schedstat")

    def seconds(self) -> float:
        return int(self._file.read_bytes().split()[1]) / 1e9


def _own_mb(process: psutil.Process) -> float:
    """Return the memory of a process, mapped files included, as far as it has touched them."""
    return float(process.memory_info().rss) / 1e6


def _ask_about_all(server: Server) -> None:
    names = [*(f"project-{number}" for number in range(PROJECTS)), *(f"evil-{number}" for number in range(ENTRIES))]
    for begin in range(0, len(names), _BATCH):
        packages = [{"name": name, "ecosystem": "PyPI"} for name in names[begin : begin + _BATCH]]
        queries = [{"package": package, "version": "1.0.1"} for package in packages]
        body = json.dumps({"queries": queries}).encode()
        wait_for(lambda body=body: call(f"{server.url}/v1/querybatch", "POST", body=body).status == 200, "an answer")  # type: ignore[misc]


def _write(path: Path) -> None:
    """Write a feed: of three entries two are malware reports, as in OSV's."""
    versions = [f"{major}.{minor}.{micro}" for major in range(3) for minor in range(5) for micro in range(4)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(ENTRIES):
            is_malware = number % 3 != 0
            name = f"evil-{number}" if is_malware else f"project-{number % PROJECTS}"
            identifier = f"MAL-2026-{number}" if is_malware else f"GHSA-{number:x}"
            identifier = LAST if number == ENTRIES - ENTRIES % 3 - 3 else identifier
            listed = ["1.0.0", "1.0.1"] if is_malware else versions[: number % 61 or 1]
            entry = {
                "schema_version": "1.7.0",
                "id": identifier,
                "modified": f"2026-0{1 + number % 9}-11T12:00:{number % 60:02}Z",
                "aliases": [f"CVE-2026-{number}"],
                "summary": f"Something about {name}",
                "details": f"What it does, and what to do about it, number {number}. " * 12,
                "affected": [
                    {
                        "package": {"ecosystem": "PyPI", "name": name, "purl": f"pkg:pypi/{name}"},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.4.1"}]}],
                        "versions": listed,
                    }
                ],
                "references": [{"type": "WEB", "url": f"https://example.com/{number}/{one}"} for one in range(4)],
            }
            archive.writestr(f"{identifier}.json", json.dumps(entry))
    os.utime(path, (0, 0))  # nobody is copying it
