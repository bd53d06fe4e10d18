"""The results: a table for people, a JSON file for programs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

DEFAULT, CACHED, GUNICORN = "pypiserver", "pypiserver cached", "pypiserver cached gunicorn"
"""pypiserver as `pip install pypiserver` gives it, with its extra `cache`, and as its container image runs it."""
BETTER = "pypiserver"
"""In a target: the faster of pypiserver's two backends, under its own HTTP server."""
Unit = Literal["/s", "MB/s", "s", "ms", "MB", ""]


@dataclass(frozen=True)
class Target:
    """What pywharf must reach: a ratio to a peer, or a value of its own."""

    peer: str
    """Name of the peer; if empty, the row's own value counts."""
    least: float | None = None
    most: float | None = None

    def text(self) -> str:
        bound = f">= {self.least:g}" if self.least is not None else f"< {self.most:g}"
        return f"{bound}x {self.peer}" if self.peer else bound


@dataclass
class Row:
    """One measurement. `values` has one entry per server."""

    name: str
    unit: Unit
    values: dict[str, float]
    target: Target | None = None
    notes: list[str] = field(default_factory=list)

    def ratio(self, *peers: str) -> float | None:
        """Return the ratio to the fastest of the peers, or None if a value is missing."""
        own = self.values.get("pywharf")
        other = max((self.values[peer] for peer in peers if peer in self.values), default=None)
        return own / other if own is not None and other else None

    def reached(self) -> bool | None:
        """Return whether the target is reached, or None if there is no target."""
        if self.target is None:
            return None
        peers = (DEFAULT, CACHED) if self.target.peer == BETTER else (self.target.peer,)
        value = self.ratio(*peers) if self.target.peer else self.values.get("pywharf")
        if value is None:
            return False
        low, high = self.target.least, self.target.most
        return (low is None or value >= low) and (high is None or value < high)

    def as_json(self) -> dict[str, object]:
        entry: dict[str, object] = {"name": self.name, "unit": self.unit, "values": self.values, "notes": self.notes}
        entry["ratios"] = {peer: self.ratio(peer) for peer in self.values if peer != "pywharf"}
        if self.target is not None:
            entry |= {"target": self.target.text(), "reached": self.reached()}
        return entry


HEADINGS = ("", "pywharf", "nginx", "of it", DEFAULT, "times", "cached", "times", "gunicorn", "times", "target", "")
LEFT = (0, 10, 11)
COLUMNS = ("nginx", DEFAULT, CACHED, GUNICORN)


def table(rows: Sequence[Row]) -> str:
    """Format all rows, and below them their notes."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column in LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    notes = [f"  {row.name}: {note}" for row in rows for note in [*_others(row), *row.notes]]
    return "\n".join([*text, *(["", *notes] if notes else [])])


def _others(row: Row) -> list[str]:
    """Return notes on the servers that have no column."""
    others = [name for name in row.values if name not in {"pywharf", *COLUMNS}]
    return [f"{name} {_number(row.values[name])} {row.unit}, ratio {_ratio(row.ratio(name))}" for name in others]


def _cells(row: Row) -> tuple[str, ...]:
    def value(server: str) -> str:
        return f"{_number(row.values[server])} {row.unit}".rstrip() if server in row.values else ""

    peers = [cell for peer in COLUMNS for cell in (value(peer), _ratio(row.ratio(peer)))]
    target = row.target.text() if row.target else ""
    reached = {None: "", True: "reached", False: "NOT REACHED"}[row.reached()]
    return (row.name, value("pywharf"), *peers, target, reached)


def _ratio(ratio: float | None) -> str:
    return (
        "" if ratio is None else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"
