"""Benchmark of a repo in a bucket of versitygw: beside the same repo in a folder, and beside obstore by itself."""

import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import psutil
from obstore.store import S3Store

from bench import data, load, servers
from bench.report import Row, Target
from bench.servers import Server
from bench.settings import Settings
from pywharf.backends.object_store.stores import cloud_variables
from pywharf.core.model import File
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps
from pywharf.index.sidecars import meta_of
from support.distributions.wheels import wheel
from support.object_stores.fault_proxy import fault_proxy
from support.object_stores.store import ObjectStore
from support.object_stores.versitygw import BUCKET, running_s3
from support.server.serving import PYWHARF, clean_environment
from support.storage.uploads import publish

REPO = "bucket"
CONNECTIONS = 8
WHEELS = 2_000
IDLE_S = 10.0
SCANNED = 200_000
"""Files that update_index scans."""


def measure(settings: Settings) -> list[Row]:
    """Measure downloads, uploads, polls and the start."""
    folder = data.fresh(settings.folder / "bucket")
    with running_s3(folder / "s3") as store:
        return [
            *_downloads(settings, store, folder),
            _uploads(settings, store, folder),
            _idle(store, folder),
            _start(settings, store, folder),
        ]


def measure_scan(settings: Settings) -> list[Row]:
    """Measure update_index of many files: the first one, and one that finds nothing new."""
    folder = data.fresh(settings.folder / "scan")
    with running_s3(folder / "s3") as store:
        table = store.table()
        _store_many(store.folder / str(table["prefix"]), SCANNED)
        flags = _write_config(folder, store, table)
        rows = []
        for name in ("first", "again"):
            seconds, memory, said = _update_index(flags)
            rows += [
                Row(f"update_index of {SCANNED:,} files in a bucket, {name}", "s", {"pywharf": seconds}, None, [said]),
                Row(f"update_index in a bucket, {name}: memory", "MB", {"pywharf": memory}, Target("", most=500.0)),
            ]
        return rows


def _downloads(settings: Settings, store: ObjectStore, folder: Path) -> Iterator[Row]:
    table = store.table()
    streamed = table | {"download": "stream"}
    tiny, big = wheel(folder, "tiny"), wheel(folder, "big", payload=b"#" + os.urandom(data.BIG_BYTES))

    async def fill() -> None:
        backend = store.open(table, folder / "fill")
        for path in (tiny, big):
            await publish(backend, path)

    asyncio.run(fill())
    index = f"/repo/{REPO}/simple/"
    redirects: list[float] = []
    pages: list[float] = []
    with _serving(folder / "redirect", store, table) as server:
        server.until_200(f"{index}tiny/")
        for _ in range(settings.runs):
            for found, path in ((redirects, f"{index}tiny/{tiny.name}"), (pages, f"{index}tiny/")):
                run = load.read(server, path, load.PIP, folder, seconds=settings.seconds, connections=32)
                found.append(run.per_second)
    values = {"pywharf": statistics.median(redirects), "small page": statistics.median(pages)}
    yield Row("bucket: 302 to a signed URL", "/s", values, Target("small page", least=0.5))
    ours: list[float] = []
    raw: list[float] = []
    costs: dict[str, list[float]] = {"pywharf": [], "obstore": []}
    with _serving(folder / "stream", store, streamed) as server:
        path = f"{index}big/{big.name}"
        server.until_200(path)
        key = f"{table['prefix']}storage/big/{big.name}"
        for _ in range(settings.runs):
            cpu = server.cpu_seconds()
            run = load.read(server, path, load.PIP, folder, seconds=settings.seconds, connections=CONNECTIONS)
            costs["pywharf"].append((server.cpu_seconds() - cpu) / run.bytes_per_second / settings.seconds)
            ours.append(run.bytes_per_second / 1e6)
            rate, cpu = _by_itself(_read_raw, store, key, settings.seconds)
            costs["obstore"].append(cpu / rate / 1e6 / settings.seconds)
            raw.append(rate)
    values = {"pywharf": statistics.median(ours), "obstore": statistics.median(raw)}
    notes = ["the client and the store share the other cores; obstore by itself needs no client"]
    yield Row("bucket: 20 MB passed on", "MB/s", values, Target("obstore", least=0.6), notes)
    values = {name: 1e-6 / statistics.median(seconds) for name, seconds in costs.items()}
    yield Row("bucket: 20 MB passed on, of processor time", "MB/s", values, Target("obstore", least=0.6))


def _raw(store: ObjectStore) -> S3Store:
    cloud_variables()
    access, key = re.findall(r'"(.*)"', store.secret)
    return S3Store(
        BUCKET,
        config={"endpoint": store.endpoint, "access_key_id": access, "secret_access_key": key, "region": "us-east-1"},
        client_options={"allow_http": True},
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
    )


async def _for(seconds: float, once: Callable[[int], Awaitable[int]]) -> float:
    """Call `once` again and again on some tasks; returns the sum of its results per second."""
    began, total, number = time.perf_counter(), 0, 0

    async def work() -> None:
        nonlocal total, number
        while time.perf_counter() - began < seconds:
            number += 1
            found = await once(number)
            total += found  # after the wait, during which others have added theirs

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return total / (time.perf_counter() - began)


def _by_itself(measured: Callable[..., Coroutine[Any, Any, float]], *arguments: object) -> tuple[float, float]:
    """Measure obstore in a process of its own on the core on which servers run, its threads included.

    Returns the result, and the seconds of processor time.
    """
    pin = (os.sched_setaffinity, (0, {servers.SERVER_CORE}))
    with multiprocessing.get_context("spawn").Pool(1, *pin) as one:
        return one.apply(_measured, (measured, *arguments))


def _measured(measured: Callable[..., Coroutine[Any, Any, float]], *arguments: object) -> tuple[float, float]:
    cpu = time.process_time()
    return asyncio.run(measured(*arguments)), time.process_time() - cpu


async def _read_raw(store: ObjectStore, key: str, seconds: float) -> float:
    """Return the 10⁶ bytes a second that obstore itself reads."""
    raw = _raw(store)

    async def once(_: int) -> int:
        result = await obstore.get_async(raw, key)
        return sum([len(chunk) async for chunk in result.stream(min_chunk_size=256 * 1024)])

    return await _for(seconds, once) / 1e6


def _uploads(settings: Settings, store: ObjectStore, folder: Path) -> Row:
    bodies = [load.upload_body(*made) for made in data.uploads(folder / "wheels", WHEELS)]
    rates: dict[str, list[float]] = {"pywharf": [], "file_system": [], "obstore": []}
    notes = ["an upload is a GET and four or five PUTs", "obstore: one PUT of the same size"]
    for _ in range(settings.runs):
        for name in ("pywharf", "file_system"):
            place = data.fresh(folder / "uploads")
            with contextlib.ExitStack() as stack:
                if name == "pywharf":
                    server = stack.enter_context(_serving(place, store, store.table()))
                else:
                    config = data.config(repos=[REPO])
                    server = stack.enter_context(servers.pywharf(place, place / "root", config, REPO))
                path = f"/repo/{REPO}/simple/"
                server.until_200(path)
                publishing = load.publish(server, path, iter(bodies), seconds=settings.seconds, connections=CONNECTIONS)
                rate, statuses = asyncio.run(publishing)
            rates[name].append(rate)
            if set(statuses) != {200}:
                notes.append(f"{name} answered {dict(statuses)}")
        rates["obstore"].append(_by_itself(_put_raw, store, settings.seconds)[0])
    return Row(
        "bucket: uploads of a tiny wheel", "/s", {k: statistics.median(v) for k, v in rates.items()}, None, notes
    )


async def _put_raw(store: ObjectStore, seconds: float) -> float:
    raw = _raw(store)
    prefix = f"raw-{os.urandom(4).hex()}"

    async def once(number: int) -> int:
        await obstore.put_async(raw, f"{prefix}/{number}", b"x" * 700, mode="create")
        return 1

    return await _for(seconds, once)


def _idle(store: ObjectStore, folder: Path) -> Row:
    """Count the requests of a replica that nobody asks for anything."""
    with fault_proxy(store.endpoint) as proxy:
        table = store.table(endpoint=proxy.url)
        with _serving(folder / "idle", store, table) as server:
            server.until_200(f"/repo/{REPO}/simple/")
            proxy.seen.clear()
            time.sleep(IDLE_S)
            seen = list(proxy.seen)
    lists = sum("list-type" in path for _, path in seen) * 60 / IDLE_S
    others = len(seen) * 60 / IDLE_S - lists
    notes = [f"and {others:.0f} other requests a minute", "of one worker, at poll_interval = 1"]
    return Row("bucket: LISTs of an idle minute", "", {"pywharf": lists}, None, notes)


def _start(settings: Settings, store: ObjectStore, folder: Path) -> Row:
    table = store.table()
    (store.folder / str(table["prefix"])).mkdir(parents=True)
    asyncio.run(_put_index(store, table, data.large_index("json")))
    times = []
    for number in range(settings.runs):
        flags_of = folder / f"start-{number}"
        started = time.perf_counter()
        with _serving(flags_of, store, table) as server:
            server.until_200(f"/repo/{REPO}/simple/{data.large_name(1)}/")
            times.append(time.perf_counter() - started)
    return Row("bucket: first page after the start, 100,000 files", "s", {"pywharf": statistics.median(times)})


async def _put_index(store: ObjectStore, table: dict[str, Any], content: bytes) -> None:
    await obstore.put_async(_raw(store), f"{table['prefix']}index.json", content, use_multipart=False)


@contextlib.contextmanager
def _serving(folder: Path, store: ObjectStore, table: dict[str, Any]) -> Iterator[Server]:
    data.fresh(folder)
    secret = folder / "secret"
    secret.write_text(store.secret)
    (folder / "admin.toml").write_text(f'[{REPO}]\ntype = "s3"\nfile = "{secret}"\n')
    flags = ["--access_log=off", f"--admin_secret={folder / 'admin.toml'}"]
    with servers.pywharf(folder, folder / "root", _config(table), REPO, flags) as server:
        yield server


def _config(table: dict[str, Any]) -> str:
    own = {"read_secret": f"r-{data.SECRET}", "write_secret": data.SECRET}
    return f"[{REPO}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in (table | own).items()) + "\n"


def _write_config(folder: Path, store: ObjectStore, table: dict[str, Any]) -> list[str]:
    (folder / "config.toml").write_text(_config(table))
    (folder / "secret").write_text(store.secret)
    (folder / "admin.toml").write_text(f'[{REPO}]\ntype = "s3"\nfile = "{folder / "secret"}"\n')
    return [f"--config={folder / 'config.toml'}", f"--admin_secret={folder / 'admin.toml'}"]


def _store_many(folder: Path, count: int) -> None:
    """Write the objects of many recorded files as the store's own files, five to a project, without core metadata."""
    digest = hashlib.sha256(b"").hexdigest()
    for number in range(count // 5):
        name: ProjectName = normalize(f"project-{number:06d}")
        own = folder / "storage" / name
        own.mkdir(parents=True)
        for version in range(5):
            filename = f"project_{number:06d}-1.{version}.tar.gz"
            (own / filename).touch()
            file = File(filename=filename, sha256=digest, size=0, upload_time=data.UPLOAD_TIME)
            (own / f"{filename}.meta").write_text(dumps(meta_of(name, file)))


def _update_index(flags: list[str]) -> tuple[float, float, str]:
    """Run update_index. Returns its seconds, its memory in 10⁶ bytes at most, and what it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [PYWHARF, "update_index", "s3", REPO, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean_environment(),
    )
    memory = 0.0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            memory = max(memory, float(psutil.Process(process.pid).memory_info().rss) / 1e6)
        time.sleep(0.05)
    out, _ = process.communicate()
    return time.perf_counter() - began, memory, out.strip().splitlines()[-1][:200] if out.strip() else "no output"
