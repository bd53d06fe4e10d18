"""Benchmark of the operator with 1,000 PackageRepos, on a real control plane that shares two cores with it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from bench.report import Row, Target
from bench.settings import Settings
from support.cluster.cluster import cluster_of, new_namespace, prepare, programs_or_why
from support.cluster.control_plane import ControlPlane
from support.operator import scale

REPOS = 1000
_CORES = 2


def measure(settings: Settings) -> list[Row]:
    """Measure the operator. The rows have limits and no peers, since no other program does the same."""
    programs = programs_or_why()
    if isinstance(programs, str):
        return [Row("1,000 PackageRepos", "s", {}, None, [f"left out: no control plane: {programs}"])]
    folder = settings.folder / "operator"
    folder.mkdir()
    with _two_cores(), ControlPlane(folder / "control-plane", programs, prepare) as plane:
        cluster = cluster_of(plane, folder)
        kube = cluster.client()
        try:
            found = scale.measure(cluster, kube, new_namespace(kube), folder, REPOS)
        finally:
            kube.close()
    name, cores = f"{REPOS:,} PackageRepos", f"operator, API server and etcd on {_CORES} cores"
    latency = median(found.latencies_s)
    worst = f"worst of {len(found.latencies_s)}: {max(found.latencies_s):.2f} s"
    applying = f"{found.applying_s:.1f} s of it to apply them; {cores}"
    return [
        Row(f"{name}: all reconciled", "s", {"pywharf": found.reconciled_s}, Target("", most=60), [applying]),
        Row(f"{name}: API writes a repo", "", {"pywharf": found.writes_per_repo}, Target("", most=3.0001)),
        Row(f"{name}: memory", "MB", {"pywharf": found.memory / 1024**2}, Target("", most=300)),
        Row(f"{name}: one more to its ConfigMap", "s", {"pywharf": latency}, Target("", most=1), [worst]),
        Row(f"{name}: idle resync", "s", {"pywharf": found.idle_s}, None, ["with the start of the process"]),
        Row(f"{name}: its writes", "", {"pywharf": found.idle_writes}, Target("", most=0.5)),
    ]


@contextmanager
def _two_cores() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:_CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
