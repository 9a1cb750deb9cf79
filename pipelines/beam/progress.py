"""A pipeline's progress, read from its receipts, so that it shows on any runner."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.beam.job import Job
from pipelines.terminal.console import bar


def title(job: Job) -> str:
    """Name a job for people."""
    return job.stage if job.round is None else f"{job.stage} {job.round}"


@contextmanager
def watch(job: Job) -> Iterator[None]:
    """Show the progress of a job by its receipts until the block ends."""
    stop = threading.Event()
    with bar(title(job), job.parts) as update:
        watcher = threading.Thread(target=_follow, args=(job, update, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _follow(job: Job, update: Callable[[int, str], None], stop: threading.Event) -> None:
    folder = f"{job.receipts}/receipts"
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    started = time.monotonic()
    before: float | None = None
    while True:
        last_look = stop.wait(job.store.medium.poll_s)
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
