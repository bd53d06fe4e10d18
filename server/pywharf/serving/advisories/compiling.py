"""Compile a feed in a process of its own, so that no request waits for it and its memory ends with it."""

import asyncio
import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pywharf.core.advisories.feed import BadFeedError, compile_feed
from pywharf.core.advisories.store_format import StoreMeta
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.os_errors import reason_of

_LONGEST_S: Final = 3600.0
_CPU_S: Final = 1200
_WORK_S: Final = 0.005
"""Seconds of processor time between two pauses."""
_MEMORY_BYTES: Final = 768 * 1024 * 1024
"""Addresses of the process, of which 200,000 entries take about 350 MB. The operator gives a pod 1 GiB of memory."""
_NICENESS: Final = 10
"""Requests come first where processors are scarce."""
_MAX_ANSWER: Final = 64 * 1024


@warmed_up
class _Order(msgspec.Struct, frozen=True):
    feed: str
    store: str
    source: str
    etag: str
    last_modified: str
    is_paced: bool


class Pace:
    """Let a process sleep as long as it works, a few milliseconds at a time.

    A process that works on would use up what a container with a limit of processor time may use, and requests would
    wait for the rest of each period. So would those of a server that has one processor.
    """

    def __init__(
        self, clock: Callable[[], float] = time.process_time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._began = clock()

    def __call__(self) -> None:
        """Sleep if it is time to."""
        worked_s = self._clock() - self._began
        if worked_s >= _WORK_S:
            self._sleep(worked_s)
            self._began = self._clock()


@warmed_up
class _Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    meta: StoreMeta | None = None
    fault: str = ""
    """What is wrong with the feed."""
    problem: str = ""
    """Why it could not be read; another attempt may succeed."""


class CompilingFailedError(Exception):
    """The error for a feed that could not be read, whatever it holds. The text continues a sentence."""


async def compiled(  # noqa: PLR0913 - what is read, what is known of it, and how fast
    feed: Path, store: Path, *, source: str, etag: str = "", last_modified: str = "", is_paced: bool = True
) -> StoreMeta:
    """Compile a feed into the file `store`; see `pywharf.core.advisories.feed`.

    `is_paced`: leave processor time to others; see `Pace`. Raises BadFeedError, CompilingFailedError.
    """
    order = _Order(str(feed), str(store), source, etag, last_modified, is_paced)
    # -P: the current folder is nobody's to import from.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MAX_ANSWER,
        start_new_session=True,  # a terminal's Ctrl-C ends the server, and the server ends this
    )
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        async with asyncio.timeout(_LONGEST_S):
            with contextlib.suppress(ConnectionError):  # it has ended early, which its status says
                process.stdin.write(msgspec.json.encode(order) + b"\n")
                await process.stdin.drain()
            answer = await process.stdout.readline()
            status = await process.wait()
    except (TimeoutError, ValueError) as error:
        raise CompilingFailedError("reading it takes too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process.stdin.close()
    if status or not answer:
        raise CompilingFailedError(f"the process that read it failed (status {status})")
    outcome = msgspec.json.decode(answer, type=_Outcome)
    if outcome.fault:
        raise BadFeedError(outcome.fault)
    if outcome.meta is None:
        raise CompilingFailedError(outcome.problem)
    return outcome.meta


def main() -> None:
    """Read an order from stdin, and write what became of it to stdout."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # some sandboxes refuse it
        # A process that sleeps often would otherwise come before others when it wakes.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    for kind, limit in ((resource.RLIMIT_AS, _MEMORY_BYTES), (resource.RLIMIT_CPU, _CPU_S)):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Order)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.buffer.write(msgspec.json.encode(_outcome(order)) + b"\n")
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread still reads stdin


def _outcome(order: _Order) -> _Outcome:
    try:
        with Path(order.feed).open("rb") as feed, Path(order.store).open("wb") as store:
            meta = compile_feed(
                feed,
                store,
                source=order.source,
                validators=(order.etag, order.last_modified),
                now=time.time(),
                pause=Pace() if order.is_paced else lambda: None,
            )
    except BadFeedError as error:
        return _Outcome(fault=str(error))
    except MemoryError:
        return _Outcome(problem=f"reading it takes more than {_MEMORY_BYTES} bytes of memory")
    except OSError as error:
        return _Outcome(problem=f"it cannot be read or its tables cannot be written ({reason_of(error)})")
    return _Outcome(meta)


def _end_with_parent() -> None:
    """End when the server does, for any reason: then the pipe closes."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
