"""What a report is made from, and how its numbers are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from markupsafe import Markup, escape

from schemas import Round
from sssl.arrays import Floats
from sssl.plots.colors import color_of
from sssl.plots.timeline import clock
from sssl.report.cards import as_cards
from sssl.songs.classifier import SongModel
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.rounds import InUse, in_use, last_split, read_rounds, verdict_of
from sssl.store.sql import connect

Context = dict[str, Any]
_A_MINUTE_S = 60


@dataclass(frozen=True)
class Source:
    """The published tables of an output folder, by SQL and by manifest."""

    store: Store
    snapshot: Snapshot
    connection: duckdb.DuckDBPyConnection
    classes: tuple[str, ...]
    rounds: list[Round]
    used: InUse

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot) -> Source:
        """Read what is published.

        Raises:
            StoreError: there are no songs, as between two stages that run by themselves.
        """
        snapshot.get("songs")
        classes = snapshot.catalog.classes
        rounds = read_rounds(store, snapshot)
        used = in_use(store, snapshot)
        return cls(store, snapshot, connect(store, snapshot), classes, rounds, used)

    @property
    def split(self) -> Manifest:
        """The labels of the last split made, whatever became of the model that was trained after
        it."""
        return last_split(self.snapshot)

    @property
    def song_model(self) -> SongModel:
        """The classifier that made the songs, with its threshold and reliability."""
        return self.snapshot.about("songs", SongModel)

    @property
    def colors(self) -> list[str]:
        return [color_of(c) for c in range(len(self.classes))]

    def rows(self, sql: str, *values: Any) -> list[Context]:
        """Run a query and return its rows by column name."""
        result = self.connection.execute(sql, list(values))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def histogram(self, column: str, table: str, high: float, bins: int) -> tuple[Floats, Floats]:
        """Count a column between 0 and a value; what lies beyond goes to the last bin."""
        counts = np.zeros(bins)
        sql = (
            f"select least(floor({column} * ?), ?)::int as bin, count(*) as n from {table} group"
            " by bin"
        )
        for row in self.rows(sql, bins / high, bins - 1):
            counts[row["bin"]] = row["n"]
        return np.linspace(0.0, high, bins + 1), counts


def stopped(row: Round) -> bool:
    """Say whether a round had nothing to split, so that nothing was trained."""
    return row.round > 0 and not row.noisy


def _said(pattern: str) -> Callable[[float | None], str]:
    return lambda value: "—" if value is None or np.isnan(value) else pattern.format(value)


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60} min"
    return f"{minutes} min"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    return clock(seconds)


def _seconds(seconds: float | None) -> str:
    if seconds is not None and seconds < _A_MINUTE_S:
        return f"{seconds:.1f} s"
    return _clock(seconds)


def _code(text: str) -> Markup:
    """Set what stands between backticks as code."""
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped


_NUMBERS = {"count": _said("{:,.0f}"), "percent": _said("{:.1%}"), "real": _said("{:.3f}")}
_TIMES = {"hours": _hours, "clock": _clock, "seconds": _seconds}
FILTERS: dict[str, Callable[..., Any]] = {
    "cards": as_cards,
    **_NUMBERS,
    **_TIMES,
    "code": _code,
    "verdict": verdict_of,
}
