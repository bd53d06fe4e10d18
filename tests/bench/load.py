"""Load: wrk for reads, our own raw connections for uploads (wrk cannot send a new body with every request)."""

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.servers import LOAD_CORES, Server

PIP = {
    "Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": 'pip/26.3 {"ci":null,"cpu":"x86_64","implementation":{"name":"CPython","version":"3.11.7"}}',
    "Cache-Control": "max-age=0",
}
"""Headers that pip sends."""
PLAIN = PIP | {"Accept-Encoding": "identity"}

# wrk's own output is rounded; this script prints everything as one line of JSON.
REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  local found = {
    requests = summary.requests, micros = summary.duration, bytes = summary.bytes, p50 = latency:percentile(50),
    p99 = latency:percentile(99), max = latency.max, failed = e.connect + e.read + e.write + e.timeout,
    status = e.status,
  }
  local parts = {}
  for key, value in pairs(found) do
    table.insert(parts, string.format('"%s": %.0f', key, value))
  end
  io.write('\\nJSON {' .. table.concat(parts, ', ') .. '}\\n')
end
"""


@dataclass(frozen=True)
class Load:
    """The results of one run."""

    per_second: float
    bytes_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    """Broken connections and timeouts."""
    wrong: int
    """Responses with a status of 400 or above."""


def read(
    server: Server, path: str, headers: Mapping[str, str], folder: Path, *, seconds: int, connections: int
) -> Load:
    """Request `path` repeatedly. Returns the results."""
    with reading(server, path, headers, folder, seconds=seconds, connections=connections) as process:
        output, _ = process.communicate()
    return result(output)


def reading(
    server: Server, path: str, headers: Mapping[str, str], folder: Path, *, seconds: int, connections: int
) -> "subprocess.Popen[str]":
    """Start the load of `read` and return its process. Pass what it prints to `result`."""
    script = folder / "report.lua"
    script.write_text(REPORT)
    command = ["wrk", f"-t{min(len(LOAD_CORES), connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout=30s"]
    for key, value in {**server.headers, **headers}.items():
        command += ["-H", f"{key}: {value}"]
    command += ["-s", str(script), f"http://127.0.0.1:{server.port}{path}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(output: str) -> Load:
    """Parse the output of wrk."""
    line = next((line for line in output.splitlines() if line.startswith("JSON ")), None)
    if line is None:
        msg = f"wrk did not run:\n{output}"
        raise AssertionError(msg)
    found = json.loads(line.removeprefix("JSON "))
    seconds = found["micros"] / 1e6
    return Load(
        found["requests"] / seconds,
        found["bytes"] / seconds,
        found["p50"] / 1e3,
        found["p99"] / 1e3,
        found["max"] / 1e3,
        found["failed"],
        found["status"],
    )


def upload_body(name: str, version: str, filename: str, content: bytes) -> tuple[str, bytes]:
    """Return an upload's content type and body, as twine sends them."""
    boundary = "bench-boundary-4a1f"
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": name,
        "version": version,
    }
    fields["filetype"], fields["pyversion"] = "bdist_wheel", "py3"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


async def publish(
    server: Server, path: str, bodies: Iterator[tuple[str, bytes]], *, seconds: float, connections: int
) -> tuple[float, Counter[int]]:
    """Upload until the time or the bodies run out. Returns uploads per second and the number of each status."""
    statuses: Counter[int] = Counter()
    started = time.perf_counter()

    async def client() -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for kind, body in bodies:
            if time.perf_counter() - started > seconds:
                break
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", server.port)
            reader, writer = streams
            head = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
            head += [f"{key}: {value}" for key, value in server.headers.items()]
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            status, open_still = await _answer(reader)
            statuses[status] += 1
            if not open_still:
                writer.close()
                streams = None
        if streams is not None:
            streams[1].close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return sum(statuses.values()) / (time.perf_counter() - started), statuses


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
        is_open = lines[0].startswith("http/1.1") and headers.get("connection") != "close"
    else:
        await reader.read()
        is_open = False
    return int(lines[0].split()[1]), is_open


def median(loads: Sequence[Load]) -> Load:
    """Return the run with the median of requests per second."""
    return sorted(loads, key=lambda load: load.per_second)[len(loads) // 2]
