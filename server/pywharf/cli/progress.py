"""Show on a terminal what a command is doing. Elsewhere nothing is shown: logs need no moving line."""

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import click

_EVERY_S = 0.2
_CLEAR = "\r\033[K"
_SHOWN = 60


class ScanLine:
    """A line that shows a scan. Use it as a context; it is cleared at the end."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, scanned: int, what: str) -> None:
        """Show the number of files and what is being read; at most five times a second."""
        if self._on_terminal and time.monotonic() - self._shown_at >= _EVERY_S:
            self._shown_at = time.monotonic()
            sys.stderr.write(f"{_CLEAR}{scanned} files scanned, now {what[:_SHOWN]}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Clear the line."""
        if self._on_terminal:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


class CopyProgress:
    """A line while source and target are read, then a bar (see `pywharf.index.copying.copier.Shown`)."""

    def __init__(self, label: str = "Copying") -> None:
        self._label = label
        self._line = ScanLine()
        self._bar = contextlib.ExitStack()
        self._advance: Callable[[int], None] = lambda _files: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._line.clear()

    def scanning(self, files: int, what: str) -> None:
        """Show the scan of source or target, and later that of the index."""
        self._line.show(files, what)

    def begin(self, files: int) -> None:
        """Show a bar for so many files, if there are any."""
        self._line.clear()
        if files and sys.stderr.isatty():
            bar = click.progressbar(length=files, label=self._label, show_pos=True, file=sys.stderr)
            self._advance = self._bar.enter_context(bar).update

    def copied(self) -> None:
        """Advance the bar by one file."""
        self._advance(1)

    def end(self) -> None:
        """End the bar; what is shown afterwards begins on a line of its own."""
        self._advance = lambda _files: None
        self._bar.close()
