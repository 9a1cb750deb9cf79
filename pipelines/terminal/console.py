"""What is said on the terminal: messages for people, answers, and the progress of long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.style import Style

from pipelines.terminal.storage import leave_output

_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}, "?")


_SEVERITIES = {"red": "ERROR", "yellow": "WARNING"}


class Terminal(Console):
    """A console on which names and messages of others cannot move the cursor or change colours, and
    are printed as they are: a folder may be called `[live]`, or `:cd:`."""

    as_line: Callable[[str, str], str] | None = None
    """Where machines read: what makes a line of a severity and a text."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, style: str | Style | None = None, **options: Any) -> None:
        if self.as_line is None:
            super().print(*objects, style=style, **options)
            return
        with self.capture() as said:
            super().print(*objects, **(options | {"soft_wrap": True}))
        if text := said.get().strip():
            severity = _SEVERITIES.get(str(style), "INFO")
            self.file.write(self.as_line(severity, text) + "\n")
            self.file.flush()

    def on_broken_pipe(self) -> None:
        """End the program as one that SIGPIPE ends."""
        raise SystemExit(leave_output(self.file))

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.is_control
                else Segment(segment.text.translate(_CONTROLS), segment.style)
            )


console = Terminal(stderr=True)
"""What happens, for people; `--quiet` silences it."""

alerts = Terminal(stderr=True)
"""Warnings and errors, which nothing silences but `silenced`."""

printed = Terminal()
"""What was asked for."""

_LINE_EVERY_S = 15.0
_COLUMNS = (
    TextColumn("{task.description:<12}"),
    BarColumn(24),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("eta"),
    TimeRemainingColumn(),
    TextColumn("{task.fields[remark]}"),
)


def tell(sentence: str) -> None:
    """Say what happens, in a line that is not broken."""
    console.print(sentence, soft_wrap=True)


@contextmanager
def silenced() -> Iterator[None]:
    """Say nothing, not even warnings, until the block ends."""
    before = console.quiet
    console.quiet = alerts.quiet = True
    try:
        yield
    finally:
        console.quiet, alerts.quiet = before, False


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show progress; the yielded function sets how much is done and a remark behind it.

    On a terminal this is a bar with elapsed time and ETA, in a log file an occasional line.
    """
    if console.is_terminal and not console.quiet:
        with Progress(*_COLUMNS, console=console) as progress:
            task = progress.add_task(name, total=total, remark="")
            yield lambda done, remark: progress.update(task, completed=done, remark=remark)
    else:
        lines = _Lines(name, total)
        yield lines.update
        lines.finish()


class _Lines:
    """Progress as lines of a log."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._started = time.monotonic()
        self._due = self._started + _LINE_EVERY_S
        self._state = (0, "")
        self._shown: tuple[int, str] | None = None

    def update(self, done: int, remark: str) -> None:
        self._state = done, remark
        if time.monotonic() >= self._due:
            self._due += _LINE_EVERY_S
            self._print()

    def finish(self) -> None:
        if self._shown != self._state:
            self._print()

    def _print(self) -> None:
        self._shown = self._state
        (done, remark) = self._state
        elapsed_s = time.monotonic() - self._started
        if 0 < done < self._total:
            eta = f", eta {elapsed_s * (self._total - done) / done:.0f} s"
        else:
            eta = ""
        console.print(
            f"{self._name}: {done}/{self._total} in {elapsed_s:.0f}"
            f" s{eta}{f' · {remark}' if remark else ''}",
            soft_wrap=True,
        )
