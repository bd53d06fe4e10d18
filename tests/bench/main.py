"""`make bench`: pywharf beside nginx, which serves the same pages as files, and pypiserver, all on one core.

It measures and does not judge: nothing fails because a machine is slow. What is compared runs in turns, so that a
machine whose speed drifts changes the numbers more than their ratios. A value is the median of the runs.
"""

import argparse
import functools
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import (
    advisories,
    bucket,
    control_plane,
    data,
    github_calls,
    identities,
    large_index,
    mixed,
    pages,
    policies,
    publishing,
    pull_through,
    scanning,
    servers,
)
from bench.data import Data
from bench.report import Row, table
from bench.settings import Settings

CHANGES = {"json": 5, "toml": 2}


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def measurements(made: Data, settings: Settings) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the name and the function of each measurement, in the order of the table."""
    for reading in pages.readings(made):
        yield reading.name, lambda reading=reading: [pages.measure(reading, made, settings)]  # type: ignore[misc]
    for name, repo, project in policies.PAGES:
        yield f"{name} with policies", functools.partial(policies.measure_warm, made, settings, name, repo, project)
    yield "small page with identities", functools.partial(identities.measure, made, settings)
    yield "1,000-file page made anew", functools.partial(policies.measure_made, made)
    yield "operator", functools.partial(control_plane.measure, settings)
    yield "github", functools.partial(github_calls.measure, settings)
    for workers in (1, 2):
        yield f"mixed load, {workers} workers", functools.partial(mixed.measure, settings, workers)
    yield "uploads", functools.partial(publishing.measure, settings)
    yield "pull-through", functools.partial(pull_through.measure, made, settings)
    yield "bucket", functools.partial(bucket.measure, settings)
    yield "scan of a bucket", functools.partial(bucket.measure_scan, settings)
    yield "advisories", functools.partial(advisories.measure, settings)
    yield "scans of 100,000 files", functools.partial(scanning.measure, settings)
    for extension, changes in CHANGES.items():
        yield f"start with index.{extension}", functools.partial(large_index.measure_start, settings, extension)
        yield (
            f"changes of index.{extension}",
            functools.partial(large_index.measure_changes, settings, extension, changes),
        )


def machine() -> dict[str, object]:
    """Return what the numbers depend on."""
    return {
        "cores": len(servers.CORES),
        "server_core": servers.SERVER_CORE,
        "load_cores": sorted(servers.LOAD_CORES),
        "load_average": _load_average(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": servers.versions(),
    }


def _load_average() -> float:
    return round(os.getloadavg()[0], 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--only", default="", help="measure only what this regular expression is found in the name of")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median counts (default: 3)")
    parser.add_argument("--seconds", type=int, default=2, help="whole seconds of one run (default: 2)")
    given = parser.parse_args()
    try:
        servers.check_parts()
    except servers.MissingError as error:
        say(f"make bench: {error}")
        return 2
    os.sched_setaffinity(0, servers.LOAD_CORES)
    about = machine()
    say(f"{about}\n")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pywharf-bench-") as folder:
        settings = Settings(given.runs, given.seconds, Path(folder))
        made = data.make(settings.folder)
        for name, measure in measurements(made, settings):
            if re.search(given.only, name):
                say(f"… {name}")
                rows += measure()
    about["load_average_at_the_end"] = _load_average()
    say(
        f"\n{table(rows)}\n\nload average at the end: {about['load_average_at_the_end']}, the bench's own load included"
    )
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"machine": about, "rows": [row.as_json() for row in rows]}, indent=2) + "\n")
        say(f"written: {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
