"""What an engine shows of a job while it runs: Beam's counters, and a line of its log for each part
and each track that failed."""

from __future__ import annotations

import logging
from typing import Any

from apache_beam.metrics import Metrics

from sssl.store.manifest import Receipt
from sssl.words import printable

LOGGER = logging.getLogger(__name__)
_COUNTS = {
    "tracks": "tracks",
    "abstained": "tracks-abstained",
    "segments": "segments",
    "missing": "segments-missing",
    "non_finite": "segments-non-finite",
    "read_bytes": "read-bytes",
}
"""Counters by the name of what a receipt counts; which of them there are depends on the stage."""
_SECONDS = {"read_s": "read-msec", "cpu_s": "cpu-msec"}


def count_part(receipt: Receipt, stage: str) -> Receipt:
    """Count what a part came to; a part that is tried again counts again, unlike in the tables."""
    counts: dict[str, Any] = receipt.counts
    for name, tracks in {**counts.get("statuses", {}), **counts.get("reasons", {})}.items():
        _add(f"tracks-{name}", tracks)
    for name, counter in _COUNTS.items():
        _add(counter, counts.get(name))
    for name, counter in _SECONDS.items():
        _add(counter, None if counts.get(name) is None else round(1000 * counts[name]))
    _add("write-bytes", sum(file.bytes for file in receipt.files.values()))
    _add("parts", 1)
    rows = max((file.rows for file in receipt.files.values()), default=0)
    labels = {"stage": stage, "part": str(receipt.part)}
    LOGGER.info("%s: part %d done, %d rows", stage, receipt.part, rows, extra={"labels": labels})
    return receipt


def count_kept(receipt: Receipt) -> Receipt:
    """Count a part that an earlier try of the job finished."""
    _add("parts-done-before", 1)
    return receipt


def tell_failed(stage: str, part: int, track_id: str, reason: str, detail: str | None) -> None:
    """Write down that a track failed; the text has all that the labels have, as Dataflow's workers
    send the text alone."""
    shown = printable(track_id)
    labels = {"stage": stage, "part": str(part), "track_id": shown, "reason": reason}
    said = f"{stage}: part {part}, track {shown}: {reason}{f' ({detail})' if detail else ''}"
    LOGGER.info("%s", said, extra={"labels": labels})


def _add(name: str, count: int | None) -> None:
    if count is not None:
        Metrics.counter("sssl", name).inc(count)
