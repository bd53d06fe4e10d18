"""The audit log of a server under test."""

import json
from typing import Any

from support.server.serving import Server


def audit_lines(server: Server) -> list[dict[str, Any]]:
    """Return the lines about all requests that have been answered, in their order."""
    lines = [line for line in server.text().splitlines() if line.startswith('{"schema"')]
    return [json.loads(line) for line in lines]
