"""Benchmark of update_index of 100,000 stored files: all new, none changed, one in a hundred changed."""

import os
import resource
import subprocess
import time
from pathlib import Path

from bench import data
from bench.report import Row, Target, Unit
from bench.settings import Settings
from support.distributions import wheels
from support.server.serving import PYWHARF, clean_environment

PROJECTS = 20_000
FILES_EACH = 5
CHANGED = 1_000
SETTLED_S = 2.5
"""Seconds after which a file that was written counts as settled."""


def measure(settings: Settings) -> list[Row]:
    """Measure the runs of update_index. Processor time says more than seconds where the machine is busy."""
    folder = data.fresh(settings.folder / "scanning")
    storage = folder / "root" / "cache" / "scanned" / "storage"
    for number in range(PROJECTS):
        own = storage / f"project-{number:05d}"
        own.mkdir(parents=True)
        for version in range(FILES_EACH):
            wheels.wheel(own, own.name, f"1.{version}")
    time.sleep(SETTLED_S)
    rows = [_row("first scan of 100,000 new files", folder, Target("", most=60.0))]
    rows.append(_row("update_index, nothing changed", folder, Target("", most=3.0)))
    rows[-1].notes.append(_alone(storage))
    for number in range(0, PROJECTS, PROJECTS // CHANGED):
        own = storage / f"project-{number:05d}"
        record = next(own.glob("*.meta"))
        record.write_text(record.read_text() + 'yanked = "true"\n')
    rows.append(_row("update_index, 1 % of the files changed", folder, Target("", most=5.0)))
    data.fresh(folder)
    return rows


def _row(name: str, folder: Path, target: Target) -> Row:
    unit: Unit = "s"
    command = [PYWHARF, "update_index", "file_system", "scanned", f"--root={folder / 'root'}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--index_filename=index.json"], env=clean_environment(), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"update_index ended with {process.returncode}"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    notes = [f"{cpu:.1f} s of processor time, {usage.ru_maxrss / 1e3:.0f} MB at most in its first process"]
    return Row(name, unit, {"pywharf": took}, target, notes)


def _alone(storage: Path) -> str:
    """Return what listing the same files with their status takes without anything else."""
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    for project in os.scandir(storage):
        if project.is_dir():
            for entry in os.scandir(project):
                if not entry.name.endswith(".metadata"):
                    count += entry.stat().st_size > 0
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return f"the status of these {count} files and records alone takes {took:.1f} s, {cpu:.1f} s of processor time"
