"""Write the HTML report of the published tables.

sssl report --output OUTPUT [--truth sections.csv]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.stages.command import stage
from pipelines.terminal.console import console
from pipelines.terminal.flags import complain, parse
from sssl.errors import CatalogError
from sssl.report.page import write_report
from sssl.store.folder import Snapshot, Store
from sssl.tracking.tracker import without_secrets

_MADE_WITH = "report.json"


@dataclass(frozen=True)
class Config:
    """Write the HTML report."""

    output: str
    """Output folder of the songs stage."""
    truth: str | None = None
    """CSV with `track_id`, `start_s`, `end_s`, `true_label` of sections, to measure against; default: that of the last
    report."""


def run(store: Store, snapshot: Snapshot, config: Config) -> None:
    """Write the report and say where; what it was measured against is remembered, but for a URL with a secret."""
    truth = config.truth
    if truth and "://" not in truth:
        truth = os.path.abspath(truth)
    known = truth if truth and without_secrets(truth) == truth else None
    store.write_json(_MADE_WITH, {"truth": known})
    console.print(f"report: {write_report(store, snapshot, config.truth)}", soft_wrap=True)


def again(store: Store, snapshot: Snapshot) -> None:
    """Write the report as it was written last, without true sections if those are gone."""
    truth = (store.read_json_if_any(_MADE_WITH) or {}).get("truth")
    try:
        run(store, snapshot, Config(store.root, truth))
    except CatalogError as error:
        complain(error)
        run(store, snapshot, Config(store.root))


def main(argv: Sequence[str]) -> int:
    def report(store: Store, snapshot: Snapshot, config: Config, _beam_args: Sequence[str]) -> None:
        if config.truth:
            run(store, snapshot, config)
        else:
            again(store, snapshot)

    return stage(parse(Config, argv, "report"), report, ())
