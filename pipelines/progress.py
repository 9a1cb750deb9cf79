"""Progress of long work on the terminal. A pipeline's progress is read from its receipts, so it shows on any runner."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.io import Job

console = Console(stderr=True, highlight=False)


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a bar; the yielded function sets how much is done and a remark behind it."""
    with Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
        console=console,
    ) as progress:
        task = progress.add_task(title, total=total, remark="")

        def update(done: int, remark: str) -> None:
            progress.update(task, completed=done, remark=remark)

        yield update
        progress.refresh()
    if not sys.stderr.isatty():
        console.print(f"{title}: done")


@contextmanager
def watch(job: Job, interval_s: float = 0.5) -> Iterator[None]:
    """Show the progress of a job by its receipts until the block ends."""
    title = job.stage if job.round is None else f"{job.stage} {job.round}"
    stop = threading.Event()
    with bar(title, job.parts) as update:
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
