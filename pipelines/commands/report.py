"""Write the HTML report of the published tables.

sssl report --output OUTPUT [--truth sections.csv]
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import tell
from pipelines.terminal.flags import warn
from sssl.errors import CatalogError
from sssl.evaluate.sections import why_none_fits
from sssl.report.page import write_report
from sssl.urls import without_secrets

_MADE_WITH = "report.json"


@dataclass(frozen=True)
class MadeWith:
    """What the last report was made with."""

    truth: str | None = None


@dataclass(frozen=True)
class Config:
    """Write the HTML report."""

    output: str
    """Output folder of the songs stage."""
    truth: str | None = None
    """CSV with `track_id`, `start_s`, `end_s`, `true_label` of sections, to measure against;
    default: that of the last report."""


def run(context: Context, truth: str | None) -> None:
    """Write the report and say where; what it was measured against is remembered, but for a URL
    with a secret."""
    place = truth if truth is None or "://" in truth else os.path.abspath(truth)
    known = place if place and without_secrets(place) == place else None
    context.store.write_record(_MADE_WITH, MadeWith(known))
    if truth is not None:
        why = why_none_fits(context.store, context.snapshot, truth)
        if why is not None:
            warn(why)
    tell(f"report: {write_report(context.store, context.snapshot, truth)}")


def again(context: Context, truth: str | None = None) -> None:
    """Write the report measured against `truth`, or else as it was written last, without true
    sections if those are gone."""
    if truth:
        run(context, truth)
        return
    made_with = context.store.read_record_if_whole(_MADE_WITH, MadeWith) or MadeWith()
    try:
        run(context, made_with.truth)
    except CatalogError as error:
        warn(f"{error}; the report is written without true sections")
        run(context, None)


main = StageCommand(
    "report", Config, lambda context, config: again(context, config.truth), takes_beam_args=False
).main
