"""Benchmark of uploads of tiny wheels, one after the other on each of a few connections."""

import asyncio
import contextlib
import os
import statistics
import tempfile
from pathlib import Path

from bench import data, load, servers
from bench.report import Row, Target
from bench.settings import Settings

CONNECTIONS = (1, 8)
WHEELS = 3_000
MEMORY = Path("/dev/shm")


def measure(settings: Settings) -> list[Row]:
    """Measure on the temporary folder's disk and, if available, in memory, where fsync costs nothing."""
    bodies = [load.upload_body(*wheel) for wheel in data.uploads(settings.folder / "wheels", WHEELS)]
    rows = [_measure("uploads of a tiny wheel", settings, settings.folder, bodies, most) for most in CONNECTIONS]
    one, many = (row.values["pywharf"] for row in rows)
    rows[-1].notes.append("pywharf checks each and makes it durable (fsync), devpi commits it, pypiserver does neither")
    rows[-1].notes.append(f"{CONNECTIONS[-1]} connections have {many / one:.1f} times the rate of one")
    if os.access(MEMORY, os.W_OK):
        with tempfile.TemporaryDirectory(dir=MEMORY, prefix="pywharf-bench-") as folder:
            rows.append(_measure("uploads, stored in memory", settings, Path(folder), bodies, CONNECTIONS[-1]))
    return rows


def _measure(name: str, settings: Settings, folder: Path, bodies: list[tuple[str, bytes]], connections: int) -> Row:
    rates: dict[str, list[float]] = {name: [] for name in ("pywharf", "devpi", *servers.PYPISERVER)}
    notes: list[str] = []
    for server_name in [*rates] * settings.runs:
        place = data.fresh(folder / "uploads")
        with contextlib.ExitStack() as stack:
            if server_name == "pywharf":
                config = data.config(repos=["uploads"])
                server = stack.enter_context(servers.pywharf(place, place / "root", config, "uploads"))
                path = "/repo/uploads/simple/"
                server.until_200(path)
            elif server_name == "devpi":
                server, path = stack.enter_context(servers.devpi(place)), "/bench/uploads/"
            else:
                (place / "packages").mkdir()
                server = stack.enter_context(servers.pypiserver(place, place / "packages", server_name))
                path = "/"
                server.until_200("/simple/")
            publishing = load.publish(server, path, iter(bodies), seconds=settings.seconds, connections=connections)
            rate, statuses = asyncio.run(publishing)
        rates[server_name].append(rate)
        if set(statuses) != {200}:
            notes.append(f"{server_name} answered {dict(statuses)}")
    data.fresh(folder / "uploads")
    name = f"{name}, {connections} connection{'s' if connections > 1 else ''}"
    target = Target("devpi", least=2)
    return Row(name, "/s", {key: statistics.median(values) for key, values in rates.items()}, target, notes)
