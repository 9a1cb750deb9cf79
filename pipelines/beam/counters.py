"""What an engine shows of a job while it runs, as Beam's counters: tracks by status and reason,
segments, bytes."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics import Metrics

from sssl.store.manifest import Receipt


def count_part(receipt: Receipt) -> Receipt:
    """Count what a part came to; a part that is tried again counts again, unlike in the tables."""
    counts: dict[str, Any] = receipt.counts
    by_name = {**counts.get("statuses", {}), **counts.get("reasons", {})}
    for name, tracks in by_name.items():
        _add(f"tracks-{name}", tracks)
    _add("segments", counts.get("segments", 0))
    _add("write-bytes", sum(file.bytes for file in receipt.files.values()))
    _add("cpu-msec", round(1000 * counts.get("cpu_s", 0.0)))
    return receipt


def _add(name: str, count: int) -> None:
    Metrics.counter("sssl", name).inc(count)
