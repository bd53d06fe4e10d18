"""Ports for what a test starts and cannot hand a listening socket."""

import contextlib
import socket


def free_ports(count: int) -> list[int]:
    """Return different loopback ports that were free a moment ago."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    return free_ports(1)[0]
