"""Say what changed between two output folders, between two publications of one, or between two
rounds.

sssl diff BEFORE AFTER
sssl diff OUTPUT@before OUTPUT
sssl diff OUTPUT --rounds 0 1
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import duckdb
import tyro
from rich.table import Table

from pipelines.terminal.console import Terminal, printed
from pipelines.terminal.flags import complain, parse
from sssl.config import require
from sssl.errors import ConfigError, StoreError
from sssl.report.diff import Rows, between_rounds, between_runs
from sssl.store.publications import open_published

_FILE_WIDTH = 200


@dataclass(frozen=True)
class Config:
    """Say what changed between two output folders, or between two rounds of one: songs, labels,
    quality, settings."""

    outputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Two output folders, or one with `--rounds`; `OUTPUT@before` is what the folder published
    before."""
    rounds: tuple[int, int] | None = None
    """Compare these two rounds of one output folder."""
    limit: int = 20
    """How many of the changed, the new and the gone songs, and of the changed segments, to list."""
    format: Literal["table", "json"] = "table"
    """How to print the result."""

    def __post_init__(self) -> None:
        require(self.limit >= 0, "limit", self.limit, "0 or more")
        expected = "two output folders, or one with --rounds"
        if self.rounds:
            expected = "one output folder, as in `sssl diff OUTPUT --rounds 0 1`"
        if len(self.outputs) != (1 if self.rounds else 2):
            raise ConfigError(f"expected {expected}, not {' '.join(self.outputs) or 'none'}")


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "diff")
    try:
        if config.rounds:
            published = open_published(config.outputs[0])
            found = between_rounds(published, *config.rounds, config.limit)
        else:
            before, after = map(open_published, config.outputs)
            found = between_runs(before, after, config.limit)
    except (StoreError, duckdb.Error) as error:
        complain(error)
        return 1
    if config.format == "json":
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        _print(found)
    return 0


def _print(found: dict[str, Rows]) -> None:
    screen = printed if printed.is_terminal else Terminal(width=_FILE_WIDTH)
    for title, changes in found.items():
        if not changes:
            screen.print(f"{title}: none", style="bold")
            continue
        table = Table(*changes[0], title=title, title_justify="left", title_style="bold", box=None)
        for row in changes:
            table.add_row(*map(_cell, row.values()))
        screen.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)
