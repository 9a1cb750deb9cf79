"""Query the published tables with DuckDB.

sssl sql --output OUTPUT "select ..." [--format table|csv|json]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import duckdb
import tyro

from pipelines.terminal.flags import complain, parse
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.sql import connect


@dataclass(frozen=True)
class Config:
    """Query the published tables: catalog, ledger, segments, scores, labels, rounds, songs, manifests; suspects, the
    segments that look wrong; and accepted_labels and accepted_scores, which hold the rounds in use."""

    query: Annotated[str, tyro.conf.Positional]
    """SQL in DuckDB's dialect."""
    output: str
    """Output folder."""
    format: Literal["table", "csv", "json"] = "table"
    """How to print the result."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "sql")
    try:
        store = Store.open(config.output)
        published = store.latest()
        try:
            _answer(store, published, config)
        except (StoreError, duckdb.Error):
            if (now := store.latest()) == published:
                raise
            _answer(store, now, config)  # a takedown deleted files that were being read
    except (StoreError, duckdb.Error) as error:
        complain(error)
        return 1
    return 0


def _answer(store: Store, snapshot: Snapshot, config: Config) -> None:
    _print(connect(store, snapshot).sql(config.query), config.format)


def _print(result: duckdb.DuckDBPyRelation | None, format: str) -> None:
    if result is None:
        return
    if format == "table":
        result.show(max_rows=1000, max_width=200)
    elif format == "csv":
        result.df().to_csv(sys.stdout, index=False)
    else:
        sys.stdout.write(result.df().to_json(orient="records") + "\n")
