"""Show on a terminal what a command is doing. Elsewhere nothing is shown: logs need no moving line."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_EVERY_S = 0.2
_CLEAR = "\r\033[K"
_SHOWN = 60


class ScanLine:
    """A line that shows a scan. Use it as a context; it is cleared at the end."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._shown_at = 0.0
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_terminal:
            self.clear()

    def show(self, scanned: int, what: str) -> None:
        """Show the number of files and what is being read; at most five times a second."""
        if self._on_terminal and time.monotonic() - self._shown_at >= _EVERY_S:
            self._shown_at = time.monotonic()
            sys.stderr.write(f"{_CLEAR}{scanned} files scanned, now {what[:_SHOWN]}")
            sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()


class CopyProgress(ScanLine):
    """A line while source and target are read, then a bar (see `pywharf.index.copying.copier.Shown`)."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: ProgressBar[None] | None = None

    def scanning(self, files: int, what: str) -> None:
        self.show(files, what)

    def begin(self, files: int) -> None:
        if self._on_terminal and files:
            self.clear()
            self._bar = click.progressbar(length=files, label="Copying", show_pos=True, file=sys.stderr)
            self._bar.__enter__()

    def copied(self) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        super().__exit__(kind, error, trace)

    def end(self) -> None:
        """End the bar; what is shown afterwards begins on a line of its own."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
