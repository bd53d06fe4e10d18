"""The results: a table for people, a JSON file for programs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

BEST = "pypiserver's best"
"""The fastest of its configurations."""
Unit = Literal["/s", "MB/s", "s", "ms", "MB", ""]


@dataclass(frozen=True)
class Target:
    """What the product must reach: a ratio to a peer, or a value of its own."""

    peer: str
    """Empty: the row's own value counts."""
    least: float | None = None
    most: float | None = None

    def text(self) -> str:
        bound = f">= {self.least:g}" if self.least is not None else f"< {self.most:g}"
        return f"{bound}x {self.peer}" if self.peer else bound


@dataclass
class Row:
    """One measurement. `values` has an entry a server."""

    name: str
    unit: Unit
    values: dict[str, float]
    target: Target | None = None
    notes: list[str] = field(default_factory=list)

    def value(self, server: str) -> float | None:
        if server != BEST:
            return self.values.get(server)
        return max((value for name, value in self.values.items() if name.startswith("pypiserver")), default=None)

    def ratio(self, peer: str) -> float | None:
        own, other = self.value("pywharf"), self.value(peer)
        return own / other if own is not None and other else None

    def reached(self) -> bool | None:
        """None where there is no target."""
        if self.target is None:
            return None
        value = self.ratio(self.target.peer) if self.target.peer else self.value("pywharf")
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


HEADINGS = ("", "pywharf", "nginx", "of it", "pypiserver", "times", "its best", "times", "target", "")
LEFT = (0, 8, 9)


def table(rows: Sequence[Row]) -> str:
    """All rows, and below them their notes."""
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
    """Servers that have no column."""
    told = []
    for name in row.values:
        ratio = row.ratio(name)
        times = "" if ratio is None else f", pywharf {ratio:.1f} times that"
        if name not in HEADINGS:
            told.append(f"{name} {_number(row.values[name])} {row.unit}{times}")
    return told


def _cells(row: Row) -> tuple[str, ...]:
    def value(server: str) -> str:
        found = row.value(server)
        return "" if found is None else f"{_number(found)} {row.unit}".rstrip()

    def ratio(peer: str) -> str:
        found = row.ratio(peer)
        return "" if found is None else f"{found:.2f}" if peer == "nginx" else f"{found:.1f}"

    peers = [cell for peer in ("nginx", "pypiserver", BEST) for cell in (value(peer), ratio(peer))]
    target = row.target.text() if row.target else ""
    reached = {None: "", True: "reached", False: "NOT REACHED"}[row.reached()]
    return (row.name, value("pywharf"), *peers, target, reached)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"
