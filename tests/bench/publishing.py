"""Benchmark of uploads of tiny wheels, one after the other on each of a few connections."""

import asyncio
import contextlib
import os
import statistics
import tempfile
from pathlib import Path

from bench import data, load, servers
from bench.report import Row
from bench.settings import Settings

CONNECTIONS = 8
WHEELS = 3_000
MEMORY = Path("/dev/shm")


def measure(settings: Settings) -> list[Row]:
    """Measure on the temporary folder's disk and, if available, in memory, where fsync costs nothing."""
    bodies = [load.upload_body(*wheel) for wheel in data.uploads(settings.folder / "wheels", WHEELS)]
    rows = [_measure("uploads of a tiny wheel", settings, settings.folder, bodies)]
    rows[0].notes.append("pywharf checks each and makes it durable (fsync), pypiserver does neither")
    if os.access(MEMORY, os.W_OK):
        with tempfile.TemporaryDirectory(dir=MEMORY, prefix="pywharf-bench-") as folder:
            rows.append(_measure("uploads, stored in memory", settings, Path(folder), bodies))
    return rows


def _measure(name: str, settings: Settings, folder: Path, bodies: list[tuple[str, bytes]]) -> Row:
    rates: dict[str, list[float]] = {name: [] for name in ("pywharf", *servers.PYPISERVER)}
    notes: list[str] = []
    for server_name in [*rates] * settings.runs:
        place = data.fresh(folder / "uploads")
        with contextlib.ExitStack() as stack:
            if server_name == "pywharf":
                config = data.config(repos=["uploads"])
                server = stack.enter_context(servers.pywharf(place, place / "root", config, "uploads"))
                path = "/repo/uploads/simple/"
                server.until_200(path)
            else:
                (place / "packages").mkdir()
                server = stack.enter_context(servers.pypiserver(place, place / "packages", server_name))
                path = "/"
                server.until_200("/simple/")
            publishing = load.publish(server, path, iter(bodies), seconds=settings.seconds, connections=CONNECTIONS)
            rate, statuses = asyncio.run(publishing)
        rates[server_name].append(rate)
        if set(statuses) != {200}:
            notes.append(f"{server_name} answered {dict(statuses)}")
    data.fresh(folder / "uploads")
    return Row(name, "/s", {key: statistics.median(values) for key, values in rates.items()}, None, notes)
