"""Benchmark of a good client beside hostile clients, tenants and storages, compared with the same client alone."""

from bench.report import Row, Target
from bench.settings import Settings
from support.server.mixed_load import measure as measure_load

REST_S, LOAD_S = 20.0, 60.0
MOST_TIMES_REST = 5.0
MEMORY_MB = 1024.0
"""MiB; the memory limit that the operator gives a replica if the PackageServer sets none."""


def measure(settings: Settings, workers: int) -> list[Row]:
    """Measure once: the load itself lasts a minute, and each of its requests counts."""
    folder = settings.folder / f"mixed-{workers}"
    folder.mkdir()
    rest, load = measure_load(folder, REST_S, LOAD_S, (f"--workers={workers}",))
    shown = f"{len(load.seconds)} requests, {len(load.failures)} failed; hostile clients: {load.hostile}"
    under = f"beside hostile clients, {workers} workers"
    ratio = load.p99_s / rest.p99_s
    return [
        Row(
            f"p99, {under}", "ms", {"pywharf": load.p99_s * 1000}, None, [f"at rest {rest.p99_s * 1000:.0f} ms", shown]
        ),
        Row(f"p99 to p99 at rest, {under}", "", {"pywharf": ratio}, Target("", most=MOST_TIMES_REST)),
        Row(f"memory, {under}", "MB", {"pywharf": load.memory / 2**20}, Target("", most=MEMORY_MB)),
    ]
