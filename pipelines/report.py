"""Write the HTML report of the published tables.

sssl report --output OUTPUT [--truth sections.csv]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.command import stage
from pipelines.flags import parse
from pipelines.progress import console
from sssl.report import write_report
from sssl.store import Snapshot, Store


@dataclass(frozen=True)
class Config:
    """Write the HTML report."""

    output: str
    """Output folder of the songs stage."""
    truth: str | None = None
    """CSV with `track_id`, `start_s`, `end_s`, `true_label` of sections, to measure against."""


def run(store: Store, snapshot: Snapshot, config: Config) -> None:
    """Write the report and say where."""
    console.print(f"report: {write_report(store, snapshot, config.truth)}", soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    def report(store: Store, snapshot: Snapshot, config: Config, _beam_args: Sequence[str]) -> None:
        run(store, snapshot, config)

    return stage(parse(Config, argv, "report"), report, ())
