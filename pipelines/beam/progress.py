"""A pipeline's progress, read from its receipts, so that it shows on any runner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pipelines.beam.job import Job
from pipelines.terminal.console import bar
from schemas.records import load
from schemas.summaries import ByName, Summary, of_today
from sssl.store.layout import receipts_folder
from sssl.store.manifest import Receipt
from sssl.words import counted

_MOST_READ = 10_000
"""Parts up to which receipts are read for what they count; of more only the names are listed."""


@dataclass(frozen=True)
class PartsDone(Summary):
    """What receipts of any stage say of its progress."""

    tracks: int = 0
    segments: int = 0
    reasons: ByName = field(default_factory=dict)


def title(job: Job) -> str:
    """Name a job for people."""
    return job.stage if job.round is None else f"{job.stage} {job.round}"


@contextmanager
def watch(job: Job) -> Iterator[None]:
    """Show the progress of a job by its receipts until the block ends; parts that it takes over
    have none."""
    stop = threading.Event()
    parts = job.own_parts()
    with bar(title(job), parts) as update:
        watcher = threading.Thread(
            target=_follow, args=(job, update, stop, parts <= _MOST_READ), daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _follow(
    job: Job, update: Callable[[int, str], None], stop: threading.Event, is_read: bool
) -> None:
    folder = receipts_folder(job.receipts)
    seen: set[str] = set()
    done = PartsDone()
    started = time.monotonic()
    before: float | None = None
    while True:
        last_look = stop.wait(job.store.medium.poll_s)
        with suppress(OSError):  # who works there meets it, too, and says so
            for name in set(job.store.names(folder)) - seen:
                if name.endswith(".json"):
                    seen.add(name)
                    receipt = (
                        job.store.read_record_if_whole(f"{folder}/{name}", Receipt)
                        if is_read
                        else None
                    )
                    if receipt is not None:
                        done += load(PartsDone, of_today(receipt.counts, job.classes))
        before = done.segments if before is None else before
        update(len(seen), _remark(done, (done.segments - before) / (time.monotonic() - started)))
        if last_look:
            return


def _remark(done: PartsDone, segments_per_s: float) -> str:
    """Say tracks, segments, their rate and errors by reason."""
    words = [counted(done.tracks, "track")] if done.tracks else []
    words += [counted(done.segments, "segment")] if done.segments else []
    words += [f"{segments_per_s:.0f}/s"] if segments_per_s >= 1 else []
    words += [f"{reason} {count}" for reason, count in sorted(done.reasons.items())]
    return " · ".join(words)
