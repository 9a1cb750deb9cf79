"""Progress of long work on the terminal. A pipeline's progress is read from its receipts, so it shows on any runner."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.io import Job

console = Console(stderr=True, highlight=False)
"""What happens, for people."""

printed = Console(highlight=False)
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


@contextmanager
def silenced() -> Iterator[None]:
    """Say nothing of what happens until the block ends."""
    console.quiet = True
    try:
        yield
    finally:
        console.quiet = False


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show progress; the yielded function sets how much is done and a remark behind it.

    A terminal gets a bar with elapsed time and ETA, a log file a line now and then.
    """
    if console.is_terminal:
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
        self._name, self._total, self._started = name, total, time.monotonic()
        self._due, self._state = self._started + _LINE_EVERY_S, (0, "")
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
        (done, remark), elapsed_s = self._state, time.monotonic() - self._started
        eta = f", eta {elapsed_s * (self._total - done) / done:.0f} s" if 0 < done < self._total else ""
        console.print(
            f"{self._name}: {done}/{self._total} in {elapsed_s:.0f} s{eta}{remark and f' · {remark}'}", soft_wrap=True
        )


def title(job: Job) -> str:
    """Name a job for people."""
    return job.stage if job.round is None else f"{job.stage} {job.round}"


@contextmanager
def watch(job: Job) -> Iterator[None]:
    """Show the progress of a job by its receipts until the block ends."""
    stop = threading.Event()
    interval_s = 0.5 if job.store.local_path else 5.0  # a listing of a bucket costs money
    with bar(title(job), job.parts) as update:
        watcher = threading.Thread(target=_follow, args=(job, update, stop, interval_s), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _follow(job: Job, update: Callable[[int, str], None], stop: threading.Event, interval_s: float) -> None:
    folder = f"{job.tables[-1]}/{job.generation}/receipts"
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    started = time.monotonic()
    before: float | None = None
    while True:
        last_look = stop.wait(interval_s)
        for name in set(job.store.names(folder)) - seen:
            if name.endswith(".json"):
                seen.add(name)
                counts.update(job.store.read_json(f"{folder}/{name}")["counts"])
        before = counts["segments"] if before is None else before
        update(len(seen), _remark(counts, (counts["segments"] - before) / (time.monotonic() - started)))
        if last_look:
            return


def _remark(counts: Counter[str], segments_per_s: float) -> str:
    """Say tracks, segments, their rate and errors by reason."""
    words = [f"{int(counts['tracks'])} tracks"] if counts["tracks"] else []
    words += [f"{int(counts['segments'])} segments"] if counts["segments"] else []
    words += [f"{segments_per_s:.0f}/s"] if segments_per_s >= 1 else []
    words += [
        f"{name.removeprefix('reason/')} {int(n)}" for name, n in sorted(counts.items()) if name.startswith("reason/")
    ]
    return " · ".join(words)
