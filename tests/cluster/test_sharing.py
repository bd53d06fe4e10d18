"""The processes of a test run share one control plane. Nothing of it is left, however they end."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from support.cluster.cluster import programs
from support.parts import CHECKOUT
from support.waiting import wait_for

USER = """
import sys
from pathlib import Path
from support.cluster.shared_control_plane import shared_cluster

shared, own, programs = map(Path, sys.argv[1:])
own.mkdir()
with shared_cluster(shared, own, programs) as cluster:
    print(cluster.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def user(shared: Path, number: int) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that uses the shared control plane until its standard input ends."""
    command = [sys.executable, "-c", USER, str(shared), str(shared.parent / f"own-{number}"), str(programs())]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=CHECKOUT / "tests", stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def holder_of(shared: Path) -> psutil.Process:
    return psutil.Process(json.loads((shared / "cluster.json").read_text())["holder"])


def parts_of(holder: psutil.Process) -> list[psutil.Process]:
    wait_for(lambda: len(holder.children()) == len(("etcd", "apiserver", "controllers")), "all parts")
    return holder.children()


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_it_lives_as_long_as_its_last_user(tmp_path):
    shared = tmp_path / "shared"
    with user(shared, 1) as first, user(shared, 2) as second:
        assert url_of(first) == url_of(second)
        holder = holder_of(shared)
        processes = [holder, *parts_of(holder)]
        first.kill()
        first.wait()
        with user(shared, 3) as third:
            url_of(third)
            second.communicate()  # ends normally
            assert not any(map(all_gone, ([process] for process in processes)))
            third.kill()
            third.wait()
        wait_for(lambda: all_gone(processes), "the end of all")
    assert not (shared / "cluster.json").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_its_holder_is_killed(tmp_path, number):
    shared = tmp_path / "shared"
    with ExitStack() as stack:
        url_of(stack.enter_context(user(shared, 1)))
        holder = holder_of(shared)
        parts = parts_of(holder)
        holder.send_signal(number)
        wait_for(lambda: all_gone([holder, *parts]), "the end of all")
        url_of(stack.enter_context(user(shared, 2)))  # a new one is started
        assert holder_of(shared) != holder
